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

/// A rollout waits for its pods itself, and what it says next makes its lifecycle look at everything. That they are ready is
/// told only if it has not been published after so long.
const SOON: Duration = Duration::from_secs(2);

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
                if tell_later(shared, before, &now) {
                    return;
                }
                "available"
            } else {
                look_again(shared, &now);
                "not available"
            }
        }
        Some(before) if (before.ready_replicas > 0) != (now.ready_replicas > 0) => {
            if tell_later(shared, before, &now) {
                return;
            }
            "ready pods"
        }
        Some(_) => return,
    };
    tell(shared, &now, what);
}

fn tell(shared: &Shared, workload: &Workload, what: &str) {
    if let Some(key) = process_of(shared, workload) {
        let changed = Changed::new(
            ChangeKind::Deployment,
            format!("Deployment {} {what}", workload.name),
        );
        let (uid, mark) = (&workload.uid, &workload.resource_version);
        shared.signaler.send(&key, uid, mark, changed);
    }
}

/// Leaves it to a rollout that is under way to tell that pods have become ready; `false` when none will.
fn tell_later(shared: &Shared, before: &Workload, now: &Workload) -> bool {
    let process = shared.cache.process(&now.owner_uid);
    if !process.as_ref().is_some_and(rolls) || !comes_up(before, now) {
        return false;
    }
    let (shared, seen) = (shared.clone(), now.clone());
    tokio::spawn(async move {
        tokio::time::sleep(SOON).await;
        let process = shared.cache.process(&seen.owner_uid);
        let workload = shared.cache.workload(&seen.namespace, &seen.name);
        if let (Some(process), Some(now)) = (process, workload)
            && now.uid == seen.uid
            && !published(&process, &now)
        {
            tell(&shared, &seen, "available");
        }
    });
    true
}

/// A rollout is under way, or will be: the status of a new Process may not tell it yet.
fn rolls(process: &Neighbour) -> bool {
    process.rolling || process.current.is_none()
}

/// More pods are ready, or those that are wanted are none. With `minReadySeconds` pods become available without
/// becoming ready, which nobody sees in a status.
fn comes_up(before: &Workload, now: &Workload) -> bool {
    now.ready_replicas > before.ready_replicas || now.available && now.replicas == 0
}

/// The status of its Process tells as many ready pods. None are told from none only by the end of the rollout.
fn published(process: &Neighbour, now: &Workload) -> bool {
    let told = (now.build_id.clone(), now.ready_replicas);
    process.ready.contains(&told) && (now.ready_replicas > 0 || !rolls(process))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ready: i32, of: i32, available: bool) -> Workload {
        Workload {
            build_id: "v2".into(),
            ready_replicas: ready,
            replicas: of,
            available,
            ..Workload::default()
        }
    }

    #[test]
    fn what_a_rollout_waits_for_is_that_more_pods_are_ready() {
        for (before, now, expected) in [
            (pods(0, 1, false), pods(1, 1, true), true),
            (pods(0, 3, false), pods(1, 3, false), true),
            // Without pods.
            (pods(0, 0, false), pods(0, 0, true), true),
            // They have been ready for `minReadySeconds`.
            (pods(1, 1, false), pods(1, 1, true), false),
            (pods(1, 1, true), pods(0, 1, false), false),
        ] {
            assert_eq!(comes_up(&before, &now), expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn ready_pods_are_told_unless_the_status_says_so() {
        let process = |ready: i32, rolling: bool| Neighbour {
            ready: vec![("v1".into(), 1), ("v2".into(), ready)],
            rolling,
            current: Some("v1".into()),
            ..Neighbour::default()
        };
        let (one, none) = (pods(1, 1, true), pods(0, 0, true));
        assert!(published(&process(1, true), &one));
        assert!(!published(&process(0, true), &one));
        assert!(!published(&process(0, true), &none), "it is not seen");
        assert!(published(&process(0, false), &none));
        assert!(!published(&Neighbour::default(), &one));
    }
}
