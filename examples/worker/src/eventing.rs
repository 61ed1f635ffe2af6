//! The event buses that the worker is bound to: the file that `PROCESS_EVENTING_FILE` names.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// One topic as this worker finds it; it connects to none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    /// The topic.
    pub topic: String,
    /// `Publish` or `Subscribe`.
    pub direction: String,
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Names of the files with credentials, never what is in them.
    pub credentials: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    clusters: Vec<Cluster>,
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    name: String,
    bootstrap_servers: String,
    credentials_path: Option<String>,
}

#[derive(Deserialize)]
struct Binding {
    name: String,
    topic: String,
    direction: String,
    cluster: String,
}

/// Reads the file at `path`; the topics by the names that the bindings give them.
pub fn read(path: &str) -> Result<BTreeMap<String, Bound>, ConfigError> {
    let invalid = |what| ConfigError::Invalid {
        name: "PROCESS_EVENTING_FILE",
        value: path.to_owned(),
        what,
    };
    let text = std::fs::read(path).map_err(|_| invalid("a file that can be read"))?;
    let file: File = serde_json::from_slice(&text)
        .map_err(|_| invalid("a JSON file with `clusters` and `bindings`"))?;
    file.bindings
        .into_iter()
        .map(|binding| {
            let cluster = file
                .clusters
                .iter()
                .find(|cluster| cluster.name == binding.cluster)
                .ok_or_else(|| invalid("a file whose bindings name one of its clusters"))?;
            let directory = cluster.credentials_path.as_deref();
            let credentials = directory.map_or_else(|| Some(Vec::new()), files);
            let credentials =
                credentials.ok_or_else(|| invalid("a file that names a path with credentials"))?;
            let bound = Bound {
                topic: binding.topic,
                direction: binding.direction,
                bootstrap_servers: cluster.bootstrap_servers.clone(),
                credentials,
            };
            Ok((binding.name, bound))
        })
        .collect()
}

/// Names of the files below a path, in order; Kubernetes keeps what begins with two dots to itself.
pub(crate) fn files(path: &str) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(Path::new(path)).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with(".."))
        .collect();
    names.sort();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, content: &str) -> String {
        let path = std::env::temp_dir().join(format!("eventing-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("a file");
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn topics_are_found_with_their_bus() {
        let path = written(
            "good",
            r#"{"clusters": [{"name": "main", "bootstrapServers": "bus:9092"}],
                "bindings": [{"name": "facts", "topic": "t.v1", "direction": "Subscribe", "cluster": "main"}]}"#,
        );
        let found = read(&path).expect("readable");
        let _ = std::fs::remove_file(&path);
        let bound = Bound {
            topic: "t.v1".into(),
            direction: "Subscribe".into(),
            bootstrap_servers: "bus:9092".into(),
            credentials: Vec::new(),
        };
        assert_eq!(found, BTreeMap::from([("facts".to_owned(), bound)]));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_the_name_of_the_variable() {
        let stray = r#"{"clusters": [], "bindings": [{"name": "facts", "topic": "t", "direction": "Publish", "cluster": "main"}]}"#;
        for (name, content) in [("bad", "{"), ("stray", stray)] {
            let path = written(name, content);
            let error = read(&path).expect_err("refused").to_string();
            let _ = std::fs::remove_file(&path);
            assert!(error.contains("PROCESS_EVENTING_FILE"), "{error}");
        }
        let error = read("/nowhere").expect_err("refused").to_string();
        assert!(error.contains("a file that can be read"), "{error}");
    }
}
