//! The first look at a new Process: what its Deployment depends on, and nothing that has to be asked for.
//!
//! It rests on the object as the watch has just shown it and on what is known of its neighbours. The finalizer is
//! written before the Deployment, and its answer tells whether the object has changed since; a full look follows in any
//! case, and it is by that one that everything but the Deployment is decided.

use std::time::Instant;

use process_operator_crds::{Process, names};
use process_operator_workflows::contract::{Observation, ProcessKey};

use super::{queue_holder, view};
use crate::context::{Context, Recent};
use crate::definition;
use crate::dependencies::needed;
use crate::registry::Source;
use crate::temporal::names::was_free;

/// `None` where more has to be looked at.
pub(super) async fn look(context: &Context, key: &ProcessKey) -> Option<Observation> {
    let asked_at = Instant::now();
    let process = context.cache.newcomers.begin(&key.uid)?;
    if !stands_alone(&process) || context.cache.has_predecessor(key) {
        return None;
    }
    let view = view(&context.drains, &process, key, None).ok()?;
    let namespace = &view.temporal_namespace;
    if !was_free(context, namespace, &key.worker_deployment())
        .await
        .ok()?
    {
        return None;
    }
    let seen = Observation {
        first: true,
        queue_holder: queue_holder(context, &process, key),
        process: Some(view),
        ..Observation::default()
    };
    context.remember(Recent { process, asked_at });
    Some(seen)
}

/// It has another status than the one that the definition gives to a new one.
fn is_told(process: &Process) -> bool {
    let status = process.status.as_ref();
    status.is_some_and(|status| status.observed_generation.is_some() || status.workflow.is_some())
}

/// Nothing was done for it yet, nobody has asked for anything, and other objects are not needed for its workers.
fn stands_alone(process: &Process) -> bool {
    let metadata = &process.metadata;
    let untouched = metadata.deletion_timestamp.is_none()
        && metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
        && !is_told(process);
    let annotations = metadata.annotations.as_ref();
    let asks = annotations.is_some_and(|all| all.contains_key(names::annotation::REQUEST));
    let name = metadata.name.as_deref().unwrap_or_default();
    untouched
        && !asks
        && process.spec.rollout.versioning.is_default()
        && definition::named(process, name).is_none()
        && Source::of(process).is_none()
        && needed(process).is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn process(change: impl FnOnce(&mut Value)) -> Process {
        let mut object = json!({
            "apiVersion": "ameide.io/v1", "kind": "Process",
            "metadata": { "name": "l2o", "namespace": "apps", "uid": "u-1" },
            "spec": {
                "image": "i", "definitionRef": { "id": "d", "tenantId": "t" },
                "temporal": { "namespace": "n", "taskQueue": "q" },
            },
        });
        change(&mut object);
        serde_json::from_value(object).expect("a Process")
    }

    #[test]
    fn only_what_needs_nothing_else_is_begun_with_at_once() {
        assert!(stands_alone(&process(|_| {})));
        let pending = |object: &mut Value| object["status"] = json!({ "conditions": [] });
        assert!(stands_alone(&process(pending)));
        let others: [(&str, Value); 6] = [
            ("/metadata/finalizers", json!(["somebody/else"])),
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            (
                "/metadata/annotations",
                json!({ names::annotation::REQUEST: "pause" }),
            ),
            ("/status", json!({ "observedGeneration": 1 })),
            (
                "/spec/rollout",
                json!({ "versioning": "TaskQueuePerVersion" }),
            ),
            (
                "/spec/definitionRef",
                json!({ "id": "d", "tenantId": "t", "configMapRef": { "name": "c" } }),
            ),
        ];
        for (path, value) in others {
            let changed = process(|object| {
                let (parent, field) = path.rsplit_once('/').expect("a path");
                let parent = object.pointer_mut(parent).expect("an object");
                parent[field] = value;
            });
            assert!(!stands_alone(&changed), "{path}");
        }
    }
}
