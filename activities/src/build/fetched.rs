//! The ConfigMap that keeps what was fetched from a registry, until it is a version's own copy.
//!
//! It says of itself where its content comes from, so that after a change of the spec nothing is made of
//! what an earlier registry said, and what its content was, so that an edit by hand is no definition.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use process_operator_crds::Reason;
use process_operator_crds::names::{self, annotation, label};
use process_operator_workflows::contract::{DefinitionFailure, DefinitionView, ProcessKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{belongs, definition, owner};
use crate::registry::{Definition, Failure};

/// Component of such a ConfigMap, as a label.
pub const COMPONENT: &str = "fetched-definition";

/// What went wrong last, with the source that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    source: String,
    reason: Reason,
    message: String,
}

/// What such a ConfigMap says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Checksum of its content, when that was fetched from the source and is as it was fetched.
    pub checksum: Option<String>,
    /// Its version, if it says a number.
    pub version: Option<i64>,
    /// What the registry says instead.
    pub unversioned: Option<String>,
    /// What to ask with for another content than this.
    pub etag: Option<String>,
    /// What went wrong since.
    pub failure: Option<DefinitionFailure>,
}

impl Kept {
    /// What it says about the source with this mark.
    pub fn of(found: &ConfigMap, mark: &str) -> Self {
        let annotations = found.metadata.annotations.clone().unwrap_or_default();
        let said = |key: &str| annotations.get(key).cloned();
        let told: Option<Told> =
            said(annotation::DEFINITION_FAILURE).and_then(|text| serde_json::from_str(&text).ok());
        let failure = told.filter(|told| told.source == mark);
        let mut kept = Self {
            failure: failure.map(|told| DefinitionFailure {
                reason: told.reason,
                message: told.message,
            }),
            ..Self::default()
        };
        let checksum = definition::checksum(found);
        let whole = said(annotation::DEFINITION_CHECKSUM).as_ref() == Some(&checksum);
        if whole
            && annotations
                .get(annotation::DEFINITION_SOURCE)
                .map(String::as_str)
                == Some(mark)
        {
            kept.checksum = Some(checksum);
            kept.version = definition::version(found);
            kept.unversioned = said(annotation::DEFINITION_UNVERSIONED);
            kept.etag = said(annotation::DEFINITION_ETAG);
        }
        kept
    }
}

/// What a Process whose registry has this mark is to be told. `forbidden`: why it may not be asked.
pub fn view(
    key: &ProcessKey,
    mark: &str,
    forbidden: Option<String>,
    found: Option<&ConfigMap>,
) -> DefinitionView {
    let name = names::fetched_name(&key.name);
    let lacking = |reason, message: String| DefinitionView {
        config_map: name.clone(),
        failure: Some(DefinitionFailure { reason, message }),
        ..DefinitionView::default()
    };
    if let Some(why) = forbidden {
        return lacking(Reason::RegistryNotAllowed, why);
    }
    if found.is_some_and(|found| !belongs(key, &found.metadata) && !left(found)) {
        return lacking(Reason::Conflict, not_ours(&name));
    }
    let kept = found.map(|found| Kept::of(found, mark)).unwrap_or_default();
    match (kept.checksum, kept.failure) {
        (None, None) => lacking(
            Reason::DefinitionPending,
            "the registry that spec.definitionRef.registry.url names is being asked".to_owned(),
        ),
        (checksum, failure) => DefinitionView {
            config_map: name,
            checksum: checksum.unwrap_or_default(),
            version: kept.version,
            unversioned: kept
                .unversioned
                .as_deref()
                .map(no_version)
                .unwrap_or_default(),
            failure,
            ..DefinitionView::default()
        },
    }
}

/// For people.
fn no_version(said: &str) -> String {
    let short: String = said.chars().take(64).collect();
    format!(
        "the registry says version {short:?}, which is none; have it say {}",
        definition::A_VERSION
    )
}

/// One of a predecessor of the same name, which Kubernetes has orphaned.
pub fn left(found: &ConfigMap) -> bool {
    let labels = found.metadata.labels.as_ref();
    let component = labels.and_then(|labels| labels.get(label::APP_COMPONENT));
    let owners = found.metadata.owner_references.as_deref();
    component.is_some_and(|component| component == COMPONENT)
        && !owners
            .unwrap_or_default()
            .iter()
            .any(|owner| owner.controller == Some(true))
}

/// For people.
pub fn not_ours(name: &str) -> String {
    format!("ConfigMap {name} exists and belongs to something else; delete or rename it")
}

/// What is to be kept of a fetch, beside what `found` keeps already.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The content.
    Fetched(&'a Definition),
    /// The content is as it was.
    Unchanged,
    /// It could not be fetched.
    Failed(&'a Failure),
}

/// The ConfigMap with an outcome of the source with this mark.
pub fn with(
    key: &ProcessKey,
    mark: &str,
    outcome: Outcome<'_>,
    found: Option<&ConfigMap>,
) -> ConfigMap {
    let mut wanted = ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::fetched_name(&key.name)),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels(key)),
            annotations: Some(BTreeMap::new()),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    if let Outcome::Fetched(definition) = outcome {
        let (file, content) = (definition.file.clone(), definition.content.clone());
        match String::from_utf8(content) {
            Ok(text) => wanted.data = Some(BTreeMap::from([(file, text)])),
            Err(binary) => {
                let bytes = ByteString(binary.into_bytes());
                wanted.binary_data = Some(BTreeMap::from([(file, bytes)]));
            }
        }
        let checksum = definition::checksum(&wanted);
        note(&mut wanted, annotation::DEFINITION_SOURCE, mark.to_owned());
        note(&mut wanted, annotation::DEFINITION_CHECKSUM, checksum);
        if let Some(etag) = &definition.etag {
            note(&mut wanted, annotation::DEFINITION_ETAG, etag.clone());
        }
        if let Some(said) = &definition.unversioned {
            note(
                &mut wanted,
                annotation::DEFINITION_UNVERSIONED,
                said.clone(),
            );
        }
        if let Some(version) = definition.version {
            let labels = wanted.metadata.labels.get_or_insert_default();
            labels.insert(label::DEFINITION_VERSION.to_owned(), version.to_string());
        }
        return wanted;
    }
    if let Some(found) = found {
        wanted.data.clone_from(&found.data);
        wanted.binary_data.clone_from(&found.binary_data);
        let annotations = found.metadata.annotations.iter().flatten();
        for (key, value) in annotations.filter(|(key, _)| OF_CONTENT.contains(&key.as_str())) {
            note(&mut wanted, key, value.clone());
        }
        let labels = found.metadata.labels.as_ref();
        if let Some(version) = labels.and_then(|labels| labels.get(label::DEFINITION_VERSION)) {
            let labels = wanted.metadata.labels.get_or_insert_default();
            labels.insert(label::DEFINITION_VERSION.to_owned(), version.clone());
        }
    }
    if let Outcome::Failed(failure) = outcome {
        let told = Told {
            source: mark.to_owned(),
            reason: failure.trouble.reason(),
            message: failure.message.clone(),
        };
        let told = serde_json::to_string(&told).unwrap_or_default();
        note(&mut wanted, annotation::DEFINITION_FAILURE, told);
    }
    wanted
}

/// Annotations that belong to the content.
const OF_CONTENT: [&str; 4] = [
    annotation::DEFINITION_SOURCE,
    annotation::DEFINITION_CHECKSUM,
    annotation::DEFINITION_ETAG,
    annotation::DEFINITION_UNVERSIONED,
];

fn note(map: &mut ConfigMap, key: &str, value: String) {
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value);
}

fn labels(key: &ProcessKey) -> BTreeMap<String, String> {
    [
        (label::APP_NAME, "process-definition"),
        (label::APP_INSTANCE, key.name.as_str()),
        (label::APP_COMPONENT, COMPONENT),
        (label::APP_PART_OF, key.name.as_str()),
        (label::APP_MANAGED_BY, names::manager::OPERATOR),
        (label::PROCESS, key.name.as_str()),
        (label::PROCESS_UID, key.uid.as_str()),
    ]
    .into_iter()
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .collect()
}

/// The merge patch that makes `found` what is wanted; `None` when it is. Entries that others have added are
/// taken off, and so is what an earlier outcome has left.
pub fn change(found: &ConfigMap, wanted: &ConfigMap) -> Option<Value> {
    let mut own = vec![label::DEFINITION_VERSION];
    own.extend(
        wanted
            .metadata
            .labels
            .iter()
            .flatten()
            .map(|(key, _)| key.as_str()),
    );
    let labels = differing(
        found.metadata.labels.as_ref(),
        wanted.metadata.labels.as_ref(),
        |key| own.contains(&key),
    );
    let annotations = differing(
        found.metadata.annotations.as_ref(),
        wanted.metadata.annotations.as_ref(),
        |key| OF_CONTENT.contains(&key) || key == annotation::DEFINITION_FAILURE,
    );
    let data = differing(found.data.as_ref(), wanted.data.as_ref(), |_| true);
    let binary = differing(
        found.binary_data.as_ref(),
        wanted.binary_data.as_ref(),
        |_| true,
    );
    let owners = found
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default();
    let ours = wanted
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default();
    let lacks_owner = ours.iter().any(|owner| !owners.contains(owner));
    if [&labels, &annotations, &data, &binary]
        .iter()
        .all(|it| it.is_empty())
        && !lacks_owner
    {
        return None;
    }
    let mut metadata = json!({
        "uid": found.metadata.uid,
        "resourceVersion": found.metadata.resource_version,
    });
    for (name, changes) in [("labels", labels), ("annotations", annotations)] {
        if !changes.is_empty() {
            metadata[name] = changes.into();
        }
    }
    if lacks_owner {
        metadata["ownerReferences"] = json!(ours);
    }
    let mut change = json!({ "metadata": metadata });
    for (name, changes) in [("data", data), ("binaryData", binary)] {
        if !changes.is_empty() {
            change[name] = changes.into();
        }
    }
    Some(change)
}

fn differing<T: Serialize + PartialEq>(
    found: Option<&BTreeMap<String, T>>,
    wanted: Option<&BTreeMap<String, T>>,
    own: impl Fn(&str) -> bool,
) -> Map<String, Value> {
    let empty = BTreeMap::new();
    let (found, wanted) = (found.unwrap_or(&empty), wanted.unwrap_or(&empty));
    let set = wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), json!(value)));
    let unset = found
        .keys()
        .filter(|key| own(key) && !wanted.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    set.chain(unset).collect()
}

#[cfg(test)]
mod tests;
