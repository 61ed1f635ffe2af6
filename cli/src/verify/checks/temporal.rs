//! What a Temporal server says beside the status.

use process_operator_crds::Reason;

use super::{Outcome, fail, ok, skip, warn};
use crate::model::{Tree, VersionState};
use crate::temporal::{Pollers, Routing};
use crate::verify::fixes;

/// The version that should poll: the one that serves, or the first one.
fn expected(tree: &Tree) -> Result<&str, Outcome> {
    let serving = tree
        .versions
        .iter()
        .find(|version| version.state == VersionState::Current);
    let version = serving.or_else(|| tree.versions.first());
    let version = version.ok_or_else(|| skip("there is no version yet"))?;
    match &version.deployment {
        // What follows from that is not another fault.
        Some(deployment) if deployment.ready == 0 => {
            Err(skip(format!("no pod of {} is ready", version.build_id)))
        }
        _ => Ok(&version.build_id),
    }
}

pub(super) fn polling(found: &Result<Pollers, String>, tree: &Tree) -> Outcome {
    let pollers = match found {
        Ok(pollers) => pollers,
        Err(why) => return skip(format!("task queue {}: {why}", tree.task_queue)),
    };
    let queue = &tree.task_queue;
    let deployment = format!("{}/{}", tree.namespace, tree.name);
    let build_id = match expected(tree) {
        Ok(build_id) => build_id,
        Err(skipped) => return skipped,
    };
    let polls = pollers
        .versioned
        .iter()
        .any(|(of, id)| *of == deployment && id == build_id);
    let fix = || fixes::of(Reason::WorkerNotVersioned.as_str(), &tree.name);
    match pollers.unversioned.first() {
        None if polls => ok(format!("{build_id} polls {queue}")),
        Some(who) if polls => warn(
            format!("{build_id} polls {queue}, and so does {who}, which says no version"),
            fix(),
        ),
        Some(who) => fail(
            format!("{who} polls {queue} and says no version; nobody polls it as {build_id}"),
            fix(),
        ),
        None => fail(
            format!("no worker polls {queue} as {build_id} of {deployment}"),
            "see that the worker takes TASK_QUEUE, TEMPORAL_NAMESPACE and TEMPORAL_ADDRESS from its environment, \
             and what it logs",
        ),
    }
}

pub(super) fn routing(found: &Result<Option<Routing>, String>, tree: &Tree) -> Outcome {
    let deployment = format!("{}/{}", tree.namespace, tree.name);
    let routing = match found {
        Ok(Some(routing)) => routing,
        Ok(None) => {
            if let Err(skipped) = expected(tree) {
                return skipped;
            }
            return fail(
                format!("Temporal has no record of Worker Deployment {deployment}"),
                fixes::of(Reason::WorkerNotVersioned.as_str(), &tree.name),
            );
        }
        Err(why) => return skip(format!("Worker Deployment {deployment}: {why}")),
    };
    let current = tree
        .versions
        .iter()
        .find(|version| version.state == VersionState::Current);
    let current = current.map_or("", |version| version.build_id.as_str());
    let ramping = tree
        .versions
        .iter()
        .find_map(|version| match version.state {
            VersionState::Ramping(weight) => Some((version.build_id.as_str(), weight)),
            _ => None,
        });
    let (ramp, weight) = ramping.unwrap_or_default();
    // A share of nothing may keep the name of the version.
    let same_ramp = routing.ramping == ramp || routing.percent == 0.0 && weight == 0;
    let same_weight =
        (f64::from(routing.percent) - f64::from(weight)).abs() < f64::from(f32::EPSILON);
    if routing.current == current && same_ramp && same_weight {
        return ok(format!(
            "Temporal routes as the status says: {}",
            shares(routing)
        ));
    }
    fail(
        format!(
            "Temporal routes otherwise than the status says: {}, changed last by {}",
            shares(routing),
            routing.modifier
        ),
        fixes::of(Reason::RoutingChanged.as_str(), &tree.name),
    )
}

fn shares(routing: &Routing) -> String {
    let current = match routing.current.as_str() {
        "" => "no version is current".to_owned(),
        current => format!("{current} is current"),
    };
    match routing.ramping.as_str() {
        "" => current,
        ramping => format!("{current}, {ramping} takes {} %", routing.percent),
    }
}

pub(super) fn probe((kind, found): &(String, Result<String, String>)) -> Outcome {
    match found {
        Ok(told) => ok(told.clone()),
        Err(why) => fail(
            why.clone(),
            format!(
                "see that the workers know workflow type {kind} and that it completes without input"
            ),
        ),
    }
}
