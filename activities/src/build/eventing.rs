//! How worker pods learn about event buses: a file that the kubelet writes from an annotation of the
//! pod, so that it is part of the version and stays as it is, and Secrets that only the kubelet reads.

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, ObjectFieldSelector, SecretVolumeSource,
    Volume, VolumeMount,
};
use process_operator_crds::Process;
use process_operator_crds::names::{annotation, volume};
use process_operator_crds::spec::{Direction, Eventing, EventingCluster};
use serde_json::json;

/// What the Process says about eventing, if it says anything.
pub fn of(process: &Process) -> Option<&Eventing> {
    let dependencies = process.spec.dependencies.as_ref()?;
    let eventing = dependencies.eventing.as_ref()?;
    (*eventing != Eventing::default()).then_some(eventing)
}

/// Path of the file in the container.
pub fn path() -> String {
    format!("{}/{}", volume::EVENTING_PATH, volume::EVENTING_FILE)
}

/// The file: the spec as the workers need it, with a path in the place of a Secret's name.
pub fn file(eventing: &Eventing) -> String {
    let clusters = eventing.clusters.iter().map(|cluster| {
        let mut told = json!({
            "name": cluster.name,
            "bootstrapServers": cluster.bootstrap_servers,
        });
        if cluster.credentials_secret_ref.is_some() {
            told["credentialsPath"] = credentials(cluster).into();
        }
        told
    });
    let bindings = eventing.bindings.iter().map(|binding| {
        let direction = match binding.direction {
            Direction::Publish => "Publish",
            Direction::Subscribe => "Subscribe",
        };
        json!({
            "name": binding.name,
            "topic": binding.topic,
            "direction": direction,
            "cluster": binding.cluster,
        })
    });
    json!({
        "clusters": clusters.collect::<Vec<_>>(),
        "bindings": bindings.collect::<Vec<_>>(),
    })
    .to_string()
}

fn credentials(cluster: &EventingCluster) -> String {
    format!("{}/{}", volume::EVENTING_CREDENTIALS_PATH, cluster.name)
}

fn volume_name(cluster: &EventingCluster) -> String {
    format!("{}-{}", volume::EVENTING, cluster.name)
}

/// The field of the spec that a volume of a pod comes from, if it is one of these.
pub fn field_of(volume: &str) -> Option<String> {
    let cluster = volume.strip_prefix(volume::EVENTING)?.strip_prefix('-')?;
    Some(format!(
        "spec.dependencies.eventing.clusters[{cluster}].credentialsSecretRef"
    ))
}

/// The volumes behind [`mounts`].
pub fn volumes(eventing: &Eventing) -> Vec<Volume> {
    let file = DownwardAPIVolumeFile {
        path: volume::EVENTING_FILE.into(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{}']", annotation::EVENTING),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let mut volumes = vec![Volume {
        name: volume::EVENTING.into(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(vec![file]),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    }];
    volumes.extend(eventing.clusters.iter().filter_map(|cluster| {
        let secret = cluster.credentials_secret_ref.as_ref()?;
        Some(Volume {
            name: volume_name(cluster),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.name.clone()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        })
    }));
    volumes
}

/// Where the file and the credentials appear in the container.
pub fn mounts(eventing: &Eventing) -> Vec<VolumeMount> {
    let mount = |name: String, path: String| VolumeMount {
        name,
        mount_path: path,
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(volume::EVENTING.into(), volume::EVENTING_PATH.into())];
    mounts.extend(
        eventing
            .clusters
            .iter()
            .filter(|cluster| cluster.credentials_secret_ref.is_some())
            .map(|cluster| mount(volume_name(cluster), credentials(cluster))),
    );
    mounts
}

#[cfg(test)]
mod tests {
    use process_operator_crds::spec::{EventingBinding, ObjectName};

    use super::*;

    #[test]
    fn credentials_are_mounted_and_their_path_is_told_but_nothing_is_without_a_secret() {
        let cluster = |name: &str, secret: Option<&str>| EventingCluster {
            name: name.into(),
            bootstrap_servers: "bus:9092".into(),
            credentials_secret_ref: secret.map(|name| ObjectName { name: name.into() }),
        };
        let eventing = Eventing {
            clusters: vec![cluster("open", None), cluster("closed", Some("bus-login"))],
            bindings: vec![EventingBinding {
                name: "facts".into(),
                topic: "scrum.domain.facts.v1".into(),
                direction: Direction::Subscribe,
                cluster: "closed".into(),
            }],
        };
        let file: serde_json::Value = serde_json::from_str(&file(&eventing)).expect("JSON");
        let path = "/etc/process-eventing-credentials/closed";
        assert_eq!(
            file,
            json!({
                "clusters": [
                    { "name": "open", "bootstrapServers": "bus:9092" },
                    { "name": "closed", "bootstrapServers": "bus:9092", "credentialsPath": path },
                ],
                "bindings": [{
                    "name": "facts", "topic": "scrum.domain.facts.v1", "direction": "Subscribe",
                    "cluster": "closed",
                }],
            })
        );
        let names =
            |volumes: Vec<Volume>| volumes.into_iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!(
            names(volumes(&eventing)),
            ["process-eventing", "process-eventing-closed"]
        );
        assert_eq!(
            field_of("process-eventing-closed").as_deref(),
            Some("spec.dependencies.eventing.clusters[closed].credentialsSecretRef")
        );
        assert_eq!(field_of("process-eventing"), None);
        let mounts = mounts(&eventing);
        assert_eq!(mounts[1].mount_path, path);
        assert_eq!(mounts.len(), 2);
    }
}
