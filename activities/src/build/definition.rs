//! A definition: what tells one from another, and a version's copy of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use process_operator_crds::names::{self, annotation, label, volume};
use process_operator_workflows::contract::ProcessKey;
use sha2::{Digest as _, Sha256};

use super::revision::Kept;
use super::{owner, template};

/// Component of a version's copy, as a label.
pub const COMPONENT: &str = "definition";

/// `sha256:` and the checksum over the entries in the order of their keys: of each the key, a line feed,
/// the number of bytes, a line feed, and the bytes.
pub fn checksum(found: &ConfigMap) -> String {
    let text = found.data.iter().flatten();
    let text = text.map(|(key, value)| (key, value.as_bytes()));
    let binary = found.binary_data.iter().flatten();
    let binary = binary.map(|(key, value)| (key, value.0.as_slice()));
    let entries: BTreeMap<&String, &[u8]> = text.chain(binary).collect();
    let mut hash = Sha256::new();
    for (key, bytes) in entries {
        hash.update(format!("{key}\n{}\n", bytes.len()));
        hash.update(bytes);
    }
    let hex = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("sha256:{hex}")
}

/// The version that a definition says it is.
pub fn version(found: &ConfigMap) -> Option<i64> {
    let labels = found.metadata.labels.as_ref()?;
    let version: i64 = labels.get(label::DEFINITION_VERSION)?.parse().ok()?;
    (version >= 0).then_some(version)
}

/// A version's own copy. It is immutable, so that the kubelet watches nothing.
pub fn copy(key: &ProcessKey, build_id: &str, name: &str, source: &ConfigMap) -> ConfigMap {
    let mut labels = template::labels(key, build_id);
    let own = [
        (label::APP_NAME, "process-definition"),
        (label::APP_COMPONENT, COMPONENT),
        (label::PROCESS_UID, key.uid.as_str()),
    ];
    labels.extend(own.map(|(label, value)| (label.to_owned(), value.to_owned())));
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(
                annotation::DEFINITION_CHECKSUM.to_owned(),
                checksum(source),
            )])),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        data: source.data.clone(),
        binary_data: source.binary_data.clone(),
        immutable: Some(true),
    }
}

/// Where the copy appears in the pods of the version that `kept_as` keeps.
pub fn mounted(kept_as: &str) -> (Volume, VolumeMount) {
    let source = ConfigMapVolumeSource {
        name: names::definition_name(kept_as),
        ..ConfigMapVolumeSource::default()
    };
    (
        Volume {
            name: volume::DEFINITION.into(),
            config_map: Some(source),
            ..Volume::default()
        },
        VolumeMount {
            name: volume::DEFINITION.into(),
            mount_path: volume::DEFINITION_PATH.into(),
            read_only: Some(true),
            ..VolumeMount::default()
        },
    )
}

/// Name of a version's copy, if it has one.
pub fn copy_of(kept: &Kept) -> Option<&String> {
    let volumes = kept.template.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|it| it.name == volume::DEFINITION)?;
    Some(&volume.config_map.as_ref()?.name)
}

/// Checksum of what a version began with, if it has a copy.
pub fn checksum_of(kept: &Kept) -> Option<&String> {
    let annotations = kept.template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(annotation::DEFINITION_CHECKSUM)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn map(text: &[(&str, &str)], binary: &[(&str, &[u8])]) -> ConfigMap {
        let text = text.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let binary = binary
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.to_vec())));
        ConfigMap {
            data: Some(text.collect()),
            binary_data: Some(binary.collect()),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn the_checksum_can_be_taken_by_hand_and_tells_keys_and_contents_apart() {
        // printf 'bpmn\n3\n<a>' | sha256sum
        let plain = checksum(&map(&[("bpmn", "<a>")], &[]));
        assert_eq!(
            plain,
            "sha256:d544b5505dec93baa9d92a46c1cd4db7017584a6a154a84cb46a33c15be6aa26"
        );
        assert_eq!(plain, checksum(&map(&[], &[("bpmn", b"<a>")])));
        for other in [
            map(&[("bpmn2", "<a>")], &[]),
            map(&[("bpmn", "<b>")], &[]),
            map(&[("bpmn", "<a>"), ("x", "")], &[]),
            map(&[("bpmn", "<a"), (">", "")], &[]),
        ] {
            assert_ne!(plain, checksum(&other), "{other:?}");
        }
    }

    #[test]
    fn only_a_whole_number_is_a_version() {
        for (text, wanted) in [("3", Some(3)), ("0", Some(0)), ("-1", None), ("v3", None)] {
            let mut found = map(&[], &[]);
            let label = (label::DEFINITION_VERSION.to_owned(), text.to_owned());
            found.metadata.labels = Some(BTreeMap::from([label]));
            assert_eq!(version(&found), wanted, "{text}");
        }
    }
}
