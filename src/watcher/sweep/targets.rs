//! What Temporal routes, beside what Processes say of it.

use std::collections::BTreeMap;

use process_operator_activities::cache::Neighbour;
use process_operator_activities::temporal::names;
use process_operator_crds::Reason;
use temporalio_client::tonic::{Code, Status};

use super::{Round, Told, report};
use crate::watcher::deployments::{allowed, manager};

/// Compares the routing of one Temporal namespace with what its Processes say about it.
pub(super) async fn compare(
    round: &Round<'_>,
    namespace: &str,
    processes: &[Neighbour],
    told: &mut Told,
) -> Result<(), Status> {
    const MAY_BE_FREE: &str = "Worker Deployment may be free";
    const MAY_BE_USED: &str = "Temporal namespace may be used";
    let here = processes
        .iter()
        .filter(|process| process.temporal_namespace == namespace);
    let cache = &round.shared.cache;
    let routed = match names::list(&round.link.connection, namespace).await {
        Ok(routed) => {
            cache.put_worker_deployments(namespace, routed.keys().cloned().collect());
            Some(routed)
        }
        Err(status) if status.code() == Code::NotFound => {
            cache.remove_worker_deployments(namespace);
            None
        }
        // Not ours to look at; the Process says so itself.
        Err(status) if status.code() == Code::PermissionDenied => {
            cache.remove_worker_deployments(namespace);
            for process in here {
                told.is_new(process, MAY_BE_USED, None);
            }
            return Ok(());
        }
        Err(status) => return Err(status),
    };
    for process in here {
        let name = process.key().worker_deployment();
        let manager = if routed.is_some() && says(process, Reason::DeploymentOwnedElsewhere) {
            Some(manager(round.link, namespace, &name).await?)
        } else {
            None
        };
        // What the lifecycle was refused, which is not this list.
        let allowed = if says(process, Reason::Forbidden) {
            allowed(round.link, namespace, &name).await?
        } else {
            None
        };
        if told.is_new(process, MAY_BE_FREE, manager) {
            report(round.shared, process, MAY_BE_FREE);
        } else if told.is_new(process, MAY_BE_USED, allowed) {
            report(round.shared, process, MAY_BE_USED);
        } else {
            let finding = |process: &Neighbour| differs(process, routed.as_ref());
            round.confirm(process, finding).await;
        }
    }
    Ok(())
}

/// Its condition `Stalled` has this reason.
fn says(process: &Neighbour, reason: Reason) -> bool {
    process.stalled.as_ref() == Some(&reason.to_string())
}

/// What a Process says that is not so. `None` for the routing: its Temporal namespace is gone.
fn differs(
    process: &Neighbour,
    routed: Option<&BTreeMap<String, Option<String>>>,
) -> Option<&'static str> {
    // What is being deleted looks for itself.
    if process.deleting {
        return None;
    }
    let missing = says(process, Reason::NamespaceNotFound);
    let Some(routed) = routed else {
        return (!missing).then_some("Temporal namespace is gone");
    };
    if missing {
        return Some("Temporal namespace is there");
    }
    let held_by_temporal = process.versioning.is_default();
    if says(process, Reason::DeploymentOwnedElsewhere) || !held_by_temporal {
        return None;
    }
    let present = routed.get(&process.key().worker_deployment());
    let changed = process.current.is_some() && process.current != present.cloned().flatten();
    changed.then_some("routing changed")
}
