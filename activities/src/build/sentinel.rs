//! The object that tells an orphaning from a foreground deletion that nobody watched.
//!
//! Both leave what has a second owner without the reference to the Process. This one has no second
//! owner: orphaning leaves it without any, a foreground deletion takes it away.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use process_operator_crds::names;
use process_operator_workflows::contract::ProcessKey;

use super::owner;

/// Builds it. Without the label by which the versions of a Process are listed: it is none.
pub fn sentinel(key: &ProcessKey) -> ControllerRevision {
    let labels = [
        (names::label::APP_NAME, "process-sentinel"),
        (names::label::APP_INSTANCE, key.name.as_str()),
        (names::label::APP_COMPONENT, "sentinel"),
        (names::label::APP_PART_OF, key.name.as_str()),
        (names::label::APP_MANAGED_BY, names::manager::OPERATOR),
        (names::label::PROCESS_UID, key.uid.as_str()),
    ];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(names::sentinel_name(&key.name)),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels.into_iter().collect()),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        revision: 0,
        data: Some(RawExtension(serde_json::json!({}))),
    }
}

/// Whether an object is the sentinel of some Process.
pub fn is_one(metadata: &ObjectMeta) -> bool {
    let component = metadata.labels.as_ref();
    let component = component.and_then(|labels| labels.get(names::label::APP_COMPONENT));
    component.is_some_and(|component| component == "sentinel")
}

/// Whether the garbage collector has orphaned what this Process owned.
pub fn tells_orphaned(key: &ProcessKey, metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    let of = labels.and_then(|labels| labels.get(names::label::PROCESS_UID));
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    is_one(metadata)
        && of == Some(&key.uid)
        && owners.iter().all(|owner| owner.uid != key.uid)
        && metadata.deletion_timestamp.is_none()
}
