//! The Deployments made for Processes.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use process_operator_activities::cache::Workload;
use process_operator_activities::watched::workload;
use process_operator_workflows::contract::{ChangeKind, Changed, ProcessKey};

use super::Shared;
use super::watch::Followed;
use crate::metrics::Metrics;

impl Followed for Deployment {
    /// Its namespace and name.
    type Id = (String, String);

    fn id(&self) -> (String, String) {
        (self.namespace().unwrap_or_default(), self.name_any())
    }

    fn cached(shared: &Shared) -> Vec<(String, (String, String))> {
        let workloads = shared.cache.all_workloads().into_iter();
        workloads
            .map(|workload| {
                (
                    workload.namespace.clone(),
                    (workload.namespace, workload.name),
                )
            })
            .collect()
    }

    fn seen(&self, shared: &Shared, at_start: bool) {
        deployment_seen(shared, self, at_start);
    }

    fn gone(shared: &Shared, (namespace, name): &(String, String), resource_version: &str) {
        deployment_gone(shared, namespace, name, resource_version);
    }
}

/// Which Process a Deployment belongs to. By its label, not by its owner: the successor of a
/// Process waits for the objects of its predecessor to go.
fn process_of(shared: &Shared, workload: &Workload) -> Option<ProcessKey> {
    let owner = shared.cache.process(&workload.owner_uid);
    let named = || {
        shared
            .cache
            .process_named(&workload.namespace, &workload.process)
    };
    owner.or_else(named).map(|process| process.key())
}

fn deployment_seen(shared: &Shared, object: &Deployment, at_start: bool) {
    Metrics::count_kind(&shared.metrics.watch_events, "Deployment");
    let Some(now) = workload(object) else {
        return;
    };
    let before = shared.cache.put_workload(now.clone());
    if at_start {
        return;
    }
    let what = match &before {
        // Only an operator makes a Deployment that has a Process as its controller.
        None if now.generation == 1 => return,
        None => "found",
        Some(before) if before.deleting != now.deleting => {
            if shared.cache.leaves(&now.uid) {
                return;
            }
            "being deleted"
        }
        Some(before) if before.available != now.available => {
            if now.available {
                "available"
            } else {
                "not available"
            }
        }
        Some(before) if (before.ready_replicas > 0) != (now.ready_replicas > 0) => "ready pods",
        Some(before)
            if (before.generation != now.generation || before.fields != now.fields)
                && !shared.cache.expected(&now.uid, now.generation, &now.fields) =>
        {
            "edited"
        }
        Some(_) => return,
    };
    if let Some(key) = process_of(shared, &now) {
        let changed = Changed::new(
            ChangeKind::Deployment,
            format!("Deployment {} {what}", now.name),
        );
        shared
            .signaler
            .send(&key, &now.uid, &now.resource_version, changed);
    }
}

fn deployment_gone(shared: &Shared, namespace: &str, name: &str, resource_version: &str) {
    Metrics::count_kind(&shared.metrics.watch_events, "Deployment");
    let leaves = |uid: &str| shared.cache.leaves(uid);
    let by_us = shared
        .cache
        .workload(namespace, name)
        .is_some_and(|workload| leaves(&workload.uid));
    let Some(gone) = shared.cache.remove_workload(namespace, name) else {
        return;
    };
    // Only a successor of the same name still has to hear of it.
    if by_us && shared.cache.process(&gone.owner_uid).is_some() {
        return;
    }
    if let Some(key) = process_of(shared, &gone) {
        let changed = Changed::new(ChangeKind::Deployment, format!("Deployment {name} deleted"));
        shared.signaler.send(
            &key,
            &gone.uid,
            &format!("{resource_version} deleted"),
            changed,
        );
    }
}
