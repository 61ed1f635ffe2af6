//! A definition: what tells one from another, and a version's copy of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use process_operator_crds::Reason;
use process_operator_crds::names::{self, annotation, label, volume};
use process_operator_crds::status::MAX_DEFINITION_VERSION;
use process_operator_workflows::contract::{DefinitionFailure, DefinitionView, ProcessKey};
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

/// What a version is, in the words of every message about one that is none.
pub const A_VERSION: &str = "a whole number from 0 to 9007199254740991";

/// What a Process that names this ConfigMap is to be told of it.
pub fn view(name: &str, found: Option<&ConfigMap>) -> DefinitionView {
    let missing = DefinitionView {
        config_map: name.to_owned(),
        ..DefinitionView::default()
    };
    let Some(found) = found else {
        return missing;
    };
    if is_empty(found) {
        return DefinitionView {
            failure: Some(DefinitionFailure {
                reason: Reason::DefinitionUnusable,
                message: format!(
                    "ConfigMap {name} is empty; put the definition into its data, or correct \
                     spec.definitionRef.configMapRef.name"
                ),
            }),
            ..missing
        };
    }
    let labels = found.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(label::DEFINITION_VERSION));
    let version = label.and_then(|text| number(text));
    let unversioned = label.filter(|_| version.is_none());
    DefinitionView {
        checksum: checksum(found),
        version,
        unversioned: unversioned
            .map(|text| {
                format!(
                    "its label {} is {text:?}, which is no version; set {A_VERSION}",
                    label::DEFINITION_VERSION
                )
            })
            .unwrap_or_default(),
        ..missing
    }
}

/// Without a single byte in it.
fn is_empty(found: &ConfigMap) -> bool {
    let text = found.data.iter().flatten().all(|(_, it)| it.is_empty());
    let mut binary = found.binary_data.iter().flatten();
    text && binary.all(|(_, it)| it.0.is_empty())
}

/// The version that a text says, if status can hold it.
pub fn number(text: &str) -> Option<i64> {
    let number = text.parse().ok();
    number.filter(|number| (0..=MAX_DEFINITION_VERSION).contains(number))
}

/// The version that a definition says it is.
pub fn version(found: &ConfigMap) -> Option<i64> {
    let labels = found.metadata.labels.as_ref()?;
    number(labels.get(label::DEFINITION_VERSION)?)
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
    fn only_a_whole_number_that_status_can_hold_is_a_version_and_what_else_is_said() {
        let highest = MAX_DEFINITION_VERSION;
        assert!(A_VERSION.ends_with(&highest.to_string()));
        for (text, wanted) in [
            ("3", Some(3)),
            ("0", Some(0)),
            ("9007199254740991", Some(highest)),
            ("9007199254740992", None),
            ("1764436501000000000", None),
            ("9223372036854775807", None),
            ("9223372036854775808", None),
            ("-1", None),
            ("v3", None),
            ("", None),
        ] {
            let mut found = map(&[("bpmn", "<a>")], &[]);
            let label = (label::DEFINITION_VERSION.to_owned(), text.to_owned());
            found.metadata.labels = Some(BTreeMap::from([label]));
            assert_eq!(version(&found), wanted, "{text}");
            let seen = view("l2o-v3", Some(&found));
            assert_eq!((seen.version, seen.found()), (wanted, true), "{text}");
            let said = &seen.unversioned;
            assert_eq!(said.is_empty(), wanted.is_some(), "{said}");
            for part in [label::DEFINITION_VERSION, text, "9007199254740991"] {
                assert!(wanted.is_some() || said.contains(part), "{said}");
            }
        }
        let plain = view("l2o-v3", Some(&map(&[("bpmn", "<a>")], &[])));
        assert_eq!((plain.version, plain.unversioned.as_str()), (None, ""));
    }

    #[test]
    fn one_without_a_byte_in_it_is_no_definition() {
        for empty in [map(&[], &[]), map(&[("a", "")], &[("b", b"")])] {
            let seen = view("l2o-v3", Some(&empty));
            assert!(!seen.found());
            let failure = seen.failure.expect("a failure");
            assert_eq!(failure.reason, Reason::DefinitionUnusable);
            for part in ["l2o-v3", "spec.definitionRef.configMapRef.name"] {
                assert!(failure.message.contains(part), "{}", failure.message);
            }
        }
        let missing = view("l2o-v3", None);
        assert!(!missing.found() && missing.failure.is_none());
        assert!(view("l2o-v3", Some(&map(&[], &[("b", b"0")]))).found());
    }
}
