//! The complete status, from what is remembered and what is seen.

use process_operator_crds::conditions::NewCondition;
use process_operator_crds::names::{self, BuildId};
use process_operator_crds::spec::Versioning;

use super::Verdict;
use super::conditions::deployment_of;
use crate::contract::{
    DefinitionView, Drain, DrainProgress, Observation, ProcessKey, ProcessView, RolloutView, State,
    StatusView, VersionStatus, VersionView,
};

/// The complete status.
pub(super) fn status(
    state: &State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    process: &ProcessView,
    verdict: &Verdict,
) -> StatusView {
    let current = state
        .current
        .as_ref()
        .map(|current| version_status(seen, &current.build_id, Some(current.since), ("", "")));
    let target = state.target.as_ref().map(|(build_id, since)| {
        let fallback = (process.image.as_str(), process.deployment_name.as_str());
        version_status(seen, build_id, Some(*since), fallback)
    });
    let pods = current
        .as_ref()
        .and_then(|current| deployment_of(seen, &current.build_id));
    StatusView {
        observed_generation: process.generation,
        conditions: conditions(verdict, process.generation),
        replicas: pods.map_or(0, |pods| pods.replicas),
        selector: current.as_ref().map_or_else(String::new, |current| {
            if process.versioning == Versioning::None {
                names::track_selector(&key.name)
            } else {
                names::selector(&key.name, &BuildId::from_observed(&current.build_id))
            }
        }),
        draining: oldest_first(state)
            .into_iter()
            .map(|(build_id, drain)| {
                let fallback = (drain.image.as_str(), drain.deployment_name.as_str());
                VersionStatus {
                    drain: drained(drain),
                    ..version_status(seen, build_id, Some(drain.since()), fallback)
                }
            })
            .collect(),
        task_queue: task_queue(process, current.as_ref()),
        current,
        target,
        workflow: [
            seen.settings.control_namespace.clone(),
            key.lifecycle().to_string(),
            run_id.to_owned(),
        ],
        history: state.history.clone(),
        version_count: i32::try_from(seen.versions.len()).unwrap_or(i32::MAX),
        rollout: rollout(state),
        definition: process.definition.clone().filter(DefinitionView::found),
        last_request: state.last_request.clone(),
    }
}

/// The queue that starters use; empty when each version has its own and none serves yet.
fn task_queue(process: &ProcessView, current: Option<&VersionStatus>) -> String {
    match current {
        None if process.versioning == Versioning::TaskQueuePerVersion => String::new(),
        current => {
            let build_id = current.map_or("", |current| current.build_id.as_str());
            names::task_queue(process.versioning, &process.task_queue, build_id)
        }
    }
}

/// The rollout in status.
fn rollout(state: &State) -> Option<RolloutView> {
    let rollout = state
        .rollout
        .as_ref()
        .filter(|rollout| !rollout.cancelled)?;
    let progress = rollout.progress.clone().unwrap_or_default();
    let hold = progress.hold.as_ref().map(|hold| hold.message.clone());
    let message = [
        rollout.paused.as_ref().map(|why| format!("paused {why}")),
        hold,
        Some(progress.message.clone()),
        Some(progress.gate.clone()),
    ];
    let message: Vec<String> = message
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    Some(RolloutView {
        stage: progress.stage.to_string(),
        step: i32::try_from(progress.step).unwrap_or(i32::MAX),
        steps: i32::try_from(rollout.steps).unwrap_or(i32::MAX),
        weight: progress.weight,
        next_step_time: progress.due,
        started_time: Some(rollout.since),
        deadline: Some(rollout.deadline),
        message: message.join("; "),
    })
}

/// Versions that may still need their pods. The column of kubectl shows the first one only.
pub(super) fn oldest_first(state: &State) -> Vec<(&String, &Drain)> {
    let mut drains: Vec<_> = state
        .drains
        .iter()
        .filter(|(_, drain)| drain.is_draining())
        .collect();
    drains.sort_by_key(|(_, drain)| drain.since());
    drains
}

/// How far a drain has come: what it has told, or what follows from the policy that it was given.
pub(super) fn drained(drain: &Drain) -> Option<DrainProgress> {
    if let Some(progress) = &drain.progress {
        return Some(progress.clone());
    }
    let policy = drain.policy.as_ref()?;
    Some(DrainProgress {
        since: drain.since,
        deadline: policy.deadline(drain.since),
        on_timeout: policy.on_timeout,
        ..DrainProgress::default()
    })
}

fn version_status(
    seen: &Observation,
    build_id: &str,
    since: Option<jiff::Timestamp>,
    fallback: (&str, &str),
) -> VersionStatus {
    let version = seen.versions.get(build_id);
    let pods = deployment_of(seen, build_id);
    VersionStatus {
        build_id: build_id.to_owned(),
        image: version.map_or_else(|| fallback.0.to_owned(), |version| version.image.clone()),
        deployment_name: version
            .map_or(fallback.1, VersionView::deployment_name)
            .to_owned(),
        replicas: pods.map_or(0, |pods| pods.replicas),
        ready_replicas: pods.map_or(0, |pods| pods.ready_replicas),
        since,
        drain: None,
    }
}

fn conditions(verdict: &Verdict, generation: i64) -> Vec<NewCondition> {
    let about = |condition: &NewCondition| NewCondition {
        observed_generation: Some(generation),
        ..condition.clone()
    };
    verdict.conditions.iter().map(about).collect()
}
