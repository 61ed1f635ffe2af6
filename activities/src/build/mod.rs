//! Pure builders of the owned objects, one file for each kind.

pub mod deployment;
pub mod hash;
pub mod revision;
pub mod template;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use process_operator_workflows::contract::ProcessKey;

/// The Process as controller. `blockOwnerDeletion` stays off: with it, a foreground deletion would
/// remove Deployments before our finalizer has ended.
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

/// Whether the Process is the controller of what has these owners.
pub fn controls(key: &ProcessKey, owners: &[OwnerReference]) -> bool {
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == key.uid)
}
