//! Pure builders of the owned objects, one file for each kind.

pub mod cron_job;
pub mod definition;
pub mod deployment;
pub mod eventing;
pub mod fetched;
pub mod hash;
pub mod revision;
pub mod sentinel;
pub mod template;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use process_operator_crds::names;
use process_operator_workflows::contract::ProcessKey;

/// The Process as controller. `blockOwnerDeletion` stays off: what a foreground deletion spares, it
/// spares for the other owner, and nothing is to hold up its end.
pub fn owner(key: &ProcessKey) -> OwnerReference {
    OwnerReference {
        api_version: "ameide.io/v1".into(),
        kind: "Process".into(),
        name: key.name.clone(),
        uid: key.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

/// The Kubernetes namespace as second owner. An owner that stays is all that keeps an object from the
/// garbage collector during a foreground deletion.
pub fn namespace_owner(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Namespace".into(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// Adds the second owner, if it is known.
pub fn hold(metadata: &mut ObjectMeta, namespace: Option<OwnerReference>) {
    let owners = metadata.owner_references.get_or_insert_default();
    owners.extend(namespace);
}

/// Whether the namespace is among these owners.
pub fn held(owners: &[OwnerReference]) -> bool {
    owners
        .iter()
        .any(|owner| owner.kind == "Namespace" && owner.api_version == "v1")
}

/// uid of the Process that an object was made for: of its controller, or by its label when a
/// foreground deletion has taken that reference off.
pub fn made_for(metadata: &ObjectMeta) -> Option<&str> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    if let Some(controller) = owners.iter().find(|owner| owner.controller == Some(true)) {
        return Some(&controller.uid);
    }
    let labels = metadata.labels.as_ref().filter(|_| held(owners))?;
    labels.get(names::label::PROCESS_UID).map(String::as_str)
}

/// Whether an object is this Process's.
pub fn belongs(key: &ProcessKey, metadata: &ObjectMeta) -> bool {
    made_for(metadata) == Some(&key.uid)
}

#[cfg(test)]
mod tests;
