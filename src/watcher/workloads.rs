//! The Deployments made for Processes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use process_operator_activities::cache::{Neighbour, Workload};
use process_operator_activities::watched::workload;
use process_operator_crds::spec::Versioning;
use process_operator_workflows::contract::{ChangeKind, Changed, ProcessKey};

use super::Shared;
use super::watch::Followed;
use crate::metrics::Metrics;

/// Lost pods say why after a while: an image cannot be pulled, a Secret is not found. No change of the
/// Deployment tells that, so it is looked at again after these, as long as they are not back.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

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
        Some(before) if edited(shared, before, &now) => "edited",
        // The drain that stops them tells it.
        Some(_) if stopped(shared, &now) => return,
        Some(before) if before.available != now.available => {
            if now.available {
                "available"
            } else {
                look_again(shared, &now);
                "not available"
            }
        }
        Some(before) if (before.ready_replicas > 0) != (now.ready_replicas > 0) => "ready pods",
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

/// Somebody else has written it.
fn edited(shared: &Shared, before: &Workload, now: &Workload) -> bool {
    (before.generation != now.generation || before.fields != now.fields)
        && !shared.cache.expected(&now.uid, now.generation, &now.fields)
}

/// A version that does not serve is to have no pods.
fn stopped(shared: &Shared, now: &Workload) -> bool {
    let serves = |process: Neighbour| {
        process.versioning == Versioning::None || process.current.as_ref() == Some(&now.build_id)
    };
    now.replicas == 0 && !shared.cache.process(&now.owner_uid).is_none_or(serves)
}

/// Has the lifecycle look again at a version that serves and has lost pods.
fn look_again(shared: &Shared, lost: &Workload) {
    let Some(process) = shared.cache.process(&lost.owner_uid) else {
        return;
    };
    // Without versions the Deployment is that of the one that serves, or its canary.
    if process.versioning != Versioning::None && process.current.as_ref() != Some(&lost.build_id) {
        return;
    }
    let (shared, lost) = (shared.clone(), lost.clone());
    tokio::spawn(async move {
        for (n, after) in AGAIN.into_iter().enumerate() {
            tokio::time::sleep(after).await;
            let now = shared.cache.workload(&lost.namespace, &lost.name);
            let still = |now: &Workload| now.uid == lost.uid && !now.available && !now.deleting;
            if !now.as_ref().is_some_and(still) {
                return;
            }
            let detail = format!("Deployment {} still not available", lost.name);
            shared.signaler.send(
                &process.key(),
                &lost.uid,
                // The same for all replicas, which makes one signal of theirs.
                &format!("{} again {n}", lost.resource_version),
                Changed::new(ChangeKind::Deployment, detail),
            );
        }
    });
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
