//! A Deployment in the few words that the watcher keeps and the activities decide on.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use process_operator_crds::names;

use crate::build::{hash, held, made_for};
use crate::cache::Workload;

/// A Deployment in a few words.
pub fn workload(live: &Deployment) -> Option<Workload> {
    let generation = live.metadata.generation.unwrap_or(0);
    let replicas = live
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = live.status.clone().unwrap_or_default();
    let ready_replicas = status.ready_replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    // Pods of an earlier template count as available too: `kubectl rollout status` waits for them to go.
    let others = status.replicas.unwrap_or(0) > updated;
    let available = status.available_replicas.unwrap_or(0);
    let observed = status.observed_generation.unwrap_or(0) >= generation;
    Some(Workload {
        namespace: live.namespace()?,
        name: live.name_any(),
        uid: live.uid()?,
        process: live
            .labels()
            .get(names::label::PROCESS)
            .cloned()
            .unwrap_or_default(),
        build_id: live
            .labels()
            .get(names::label::BUILD_ID)
            .cloned()
            .unwrap_or_default(),
        owner_uid: made_for(&live.metadata).unwrap_or_default().to_owned(),
        held: held(live.owner_references()),
        generation,
        deleting: live.metadata.deletion_timestamp.is_some(),
        replicas,
        ready_replicas,
        available: observed && updated >= replicas && !others && available >= replicas,
        fields: hash::owned_fields(live.metadata.managed_fields.as_ref()),
        resource_version: live.resource_version().unwrap_or_default(),
    })
}

/// Made by us, but its owner reference has been removed. In a Process that is being deleted that is
/// how Kubernetes orphans; otherwise it is a mistake that is put right.
pub(crate) fn orphaned(live: &Deployment) -> bool {
    let controlled = live
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true));
    !controlled && !hash::owned_fields(live.metadata.managed_fields.as_ref()).is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn available(status: &Value) -> bool {
        let live: Deployment = serde_json::from_value(json!({
            "metadata": { "name": "d", "namespace": "n", "uid": "u", "generation": 2 },
            "spec": { "replicas": 1, "selector": {}, "template": {} },
            "status": status,
        }))
        .expect("a Deployment");
        workload(&live).expect("a workload").available
    }

    #[test]
    fn pods_count_when_all_are_of_the_present_spec() {
        let status = |observed: i64, all: i32, updated: i32, available: i32| {
            json!({
                "observedGeneration": observed, "replicas": all, "updatedReplicas": updated,
                "readyReplicas": available, "availableReplicas": available,
            })
        };
        assert!(available(&status(2, 1, 1, 1)));
        // Of an earlier spec.
        assert!(!available(&status(1, 1, 1, 1)));
        assert!(!available(
            &json!({ "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 })
        ));
        // Of an earlier template.
        assert!(!available(&status(2, 2, 1, 2)));
        assert!(!available(&status(2, 1, 0, 1)));
        // Not ready.
        assert!(!available(&status(2, 1, 1, 0)));
        assert!(!available(&Value::Null));
    }
}
