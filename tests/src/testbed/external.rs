//! An existing cluster and Temporal server in place of the testbed's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::paths::{cache_dir, data_dir, find_program, state_file};
use super::process::run;
use super::refusal::refuse;
use super::state::State;
use super::write_private;

/// What to use instead.
#[derive(Debug, Clone)]
pub struct External {
    /// A context of the user's kubeconfig.
    pub context: String,
    /// Temporal as seen from here, `host:port`.
    pub temporal_address: String,
    /// Temporal as seen from pods; the same when not given.
    pub temporal_pod_address: Option<String>,
}

/// Records an existing cluster and server as the testbed.
pub fn use_existing(external: &External) -> Result<()> {
    if let Some(state) = State::read()?
        && !state.external
    {
        refuse!(
            "The testbed is up, and --context asks for another cluster: run `cargo xtask down` first."
        );
    }
    let Some(kubectl) = find_program("kubectl") else {
        refuse!("--context needs kubectl: install it and put it on the PATH.");
    };
    let minified = run(Command::new(&kubectl).args([
        "config",
        "view",
        "--minify",
        "--flatten",
        "--raw",
        "--output=json",
        "--context",
        &external.context,
    ]));
    let Ok(minified) = minified else {
        refuse!(
            "The kubeconfig has no context {}: `kubectl config get-contexts` lists them.",
            external.context
        );
    };
    let config: Value = serde_json::from_str(&minified)?;
    let cluster = config
        .pointer("/clusters/0/cluster")
        .context("The context names no cluster.")?;
    let text = |field: &str| {
        cluster
            .get(field)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };

    let dir = dir()?;
    fs::create_dir_all(&dir)?;
    let kubeconfig = dir.join("admin.yaml");
    // JSON is YAML.
    write_private(&kubeconfig, &minified)?;
    let check = run(Command::new(&kubectl)
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .args(["get", "--raw", "/readyz", "--request-timeout=10s"]));
    if let Err(error) = check {
        refuse!(
            "The cluster of context {} does not answer: {error}",
            external.context
        );
    }
    let ca_file = match text("certificate-authority-data") {
        Some(data) => {
            let path = dir.join("ca.crt");
            fs::write(&path, decode_base64(&data)?)?;
            Some(path)
        }
        None => None,
    };
    let pod_address = external.temporal_pod_address.clone();
    State {
        external: true,
        context: Some(external.context.clone()),
        ready: true,
        kubeconfig,
        kubectl,
        apiserver_url: text("server").unwrap_or_default(),
        ca_file,
        temporal_address: external.temporal_address.clone(),
        temporal_pod_address: pod_address.unwrap_or_else(|| external.temporal_address.clone()),
        ..State::default()
    }
    .write()
}

/// Where its kubeconfig and the certificate of its authority are kept.
fn dir() -> Result<PathBuf> {
    Ok(cache_dir()?.join("existing"))
}

/// Removes what was noted of it, with the ways in. The cluster itself is somebody else's.
pub(super) fn forget() -> Result<()> {
    for dir in [dir()?, data_dir()?] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
    }
    Ok(fs::remove_file(state_file()?)?)
}

/// The way into a `kind` cluster is known; for others a person must find it.
pub(super) fn image_import(context: &str, archive: &Path) -> Result<bool> {
    let kind = find_program("kind");
    let Some(mut load) = kind.and_then(|kind| kind_load(&kind, context, archive)) else {
        eprintln!(
            "The image archive {} must be loaded into the cluster by its own means \
             (for kind: `kind load image-archive`).",
            archive.display()
        );
        return Ok(false);
    };
    run(&mut load)?;
    Ok(true)
}

/// The command that loads an archive into the cluster that `kind` has named a context after.
fn kind_load(kind: &Path, context: &str, archive: &Path) -> Option<Command> {
    let cluster = context.strip_prefix("kind-")?;
    let mut load = Command::new(kind);
    load.args(["load", "image-archive", "--name", cluster])
        .arg(archive);
    Some(load)
}

/// By the system's tool: nothing else here needs the encoding.
fn decode_base64(data: &str) -> Result<Vec<u8>> {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("base64 cannot be run.")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(data.as_bytes())?;
    }
    Ok(child.wait_with_output()?.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_goes_into_the_kind_cluster_of_the_context() {
        let load = |context| {
            let load = kind_load(Path::new("kind"), context, Path::new("worker.tar"))?;
            let words = load
                .get_args()
                .map(|word| word.to_str().unwrap().to_owned());
            Some(words.collect::<Vec<_>>().join(" "))
        };
        let expected = "load image-archive --name my-own worker.tar";
        assert_eq!(load("kind-my-own").as_deref(), Some(expected));
        assert_eq!(load("staging"), None);
    }
}
