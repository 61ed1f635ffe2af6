//! What status and the Temporal UI say.

use std::fmt::Write as _;

use process_operator_crds::conditions::NewCondition;
use process_operator_crds::names::{self, BuildId};
use process_operator_crds::{ConditionType, ErrorCategory, Reason};

use super::Block;
use crate::contract::{
    DeploymentView, Drain, Observation, ProcessKey, ProcessView, RoutingState, State,
    StatusView, VersionStatus,
};

/// All conditions, and one word for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In the order they are published.
    pub conditions: Vec<NewCondition>,
    /// For the search attribute.
    pub phase: &'static str,
}

/// The generation is filled in with the status.
fn condition(kind: ConditionType, status: bool, reason: Reason, message: impl Into<String>) -> NewCondition {
    NewCondition::new(kind, status, reason, message, 0)
}

impl Verdict {
    /// While the finalizer is being worked off.
    pub(super) fn deleting() -> Self {
        let message = "the Process is being deleted; running workflows are left alone";
        Self {
            conditions: vec![
                condition(ConditionType::Ready, false, Reason::Deleting, message),
                condition(ConditionType::Progressing, false, Reason::Deleting, message),
                condition(ConditionType::WorkersReady, false, Reason::Deleting, message),
                condition(ConditionType::Reconciling, true, Reason::Deleting, message),
            ],
            phase: "Deleting",
        }
    }
}

/// What is wrong beyond a block, if something is.
fn fault(state: &State, block: Option<&Block>) -> Option<(Reason, String)> {
    if let Some(block) = block.filter(|block| block.reason != Reason::Suspended) {
        return Some((block.reason, block.message.clone()));
    }
    if let Some((failure, _)) = &state.trouble {
        return Some((failure.category.reason(), failure.message.clone()));
    }
    let failed = state.failed.as_ref()?;
    Some((failed.category.reason(), failed.message.clone()))
}

fn deployment_of<'a>(seen: &'a Observation, build_id: &str) -> Option<&'a DeploymentView> {
    seen.versions
        .get(build_id)
        .and_then(|version| version.deployment.as_ref())
        .filter(|deployment| !deployment.foreign)
}

/// Derives the conditions. The table in the design's words: a running version is never called
/// unready because a newer one has trouble; `Stalled` means that a person has to act.
pub(super) fn verdict(
    state: &State,
    process: &ProcessView,
    seen: &Observation,
    block: Option<&Block>,
) -> Verdict {
    let current = state.current.as_ref().map(|current| current.build_id.as_str());
    let serving = current.or(state.target.as_ref().map(|(target, _)| target.as_str()));
    let pods = serving.and_then(|build_id| deployment_of(seen, build_id));
    let workers_ready = pods.is_some_and(|pods| pods.available);
    let any_ready = pods.is_some_and(|pods| pods.ready_replicas > 0 || pods.replicas == 0);
    let pod_text = pods.map_or_else(
        || "no worker Deployment".to_owned(),
        |pods| format!("{}/{} worker pods ready", pods.ready_replicas, pods.replicas),
    );
    let rolling = state.rollout.as_ref().filter(|rollout| !rollout.cancelled);
    let fault = fault(state, block);
    let suspended = block.is_some_and(|block| block.reason == Reason::Suspended);
    let retryable = block.is_none() && fault.as_ref().is_some_and(|_| state.trouble.as_ref().is_some_and(|(f, _)| f.category.retryable()));
    let stalled = fault.is_some() && !retryable;
    let unknown_routing = seen.routing.state == RoutingState::Unknown;

    let ready = match current {
        Some(build_id) if any_ready => condition(
            ConditionType::Ready,
            true,
            if rolling.is_some() { Reason::RollingOut } else { Reason::Settled },
            format!("{build_id} is current, {pod_text}"),
        ),
        Some(build_id) => condition(
            ConditionType::Ready,
            false,
            Reason::WorkersUnavailable,
            format!("{build_id} is current, but {pod_text}"),
        ),
        None => match (&fault, suspended) {
            (Some((reason, message)), _) => condition(ConditionType::Ready, false, *reason, message.clone()),
            (None, true) => condition(ConditionType::Ready, false, Reason::Suspended, "no version is current; spec.suspend is true"),
            (None, false) => condition(
                ConditionType::Ready,
                false,
                Reason::RollingOut,
                format!("no version is current yet; {pod_text}"),
            ),
        },
    };
    let progressing = if let Some(rollout) = rolling {
        condition(
            ConditionType::Progressing,
            true,
            Reason::RollingOut,
            format!("bringing {} live before {}", rollout.build_id, rollout.deadline),
        )
    } else if let Some((reason, message)) = &fault {
        condition(ConditionType::Progressing, retryable, *reason, message.clone())
    } else if suspended {
        condition(ConditionType::Progressing, false, Reason::Suspended, "spec.suspend is true")
    } else if current == Some(process.build_id.as_str()) {
        condition(ConditionType::Progressing, false, Reason::Settled, "the spec's version is current")
    } else {
        condition(ConditionType::Progressing, true, Reason::RollingOut, "waiting for the rollout to begin")
    };
    let lost = current.is_some() && !any_ready;
    let degraded = match (&fault, lost) {
        (Some((reason, message)), _) => condition(ConditionType::Degraded, true, *reason, message.clone()),
        (None, true) => condition(ConditionType::Degraded, true, Reason::WorkersUnavailable, pod_text.clone()),
        (None, false) => condition(ConditionType::Degraded, false, Reason::AsExpected, ""),
    };
    let reconciling = rolling.is_some() || lost || retryable || (current.is_none() && !stalled && !suspended);
    let draining: Vec<&str> = oldest_first(state).into_iter().map(|(build_id, _)| build_id.as_str()).collect();

    let conditions = vec![
        ready,
        progressing.clone(),
        degraded,
        condition(
            ConditionType::WorkersReady,
            workers_ready,
            if workers_ready { Reason::WorkersReady } else { Reason::WorkersUnavailable },
            pod_text,
        ),
        condition(
            ConditionType::DefinitionResolved,
            true,
            Reason::OpaqueReference,
            "definitionRef is passed on to the workers as it is",
        ),
        condition(
            ConditionType::TemporalReachable,
            !unknown_routing,
            if unknown_routing { Reason::TemporalUnavailable } else { Reason::TemporalReachable },
            seen.routing.message.clone(),
        ),
        condition(
            ConditionType::Draining,
            !draining.is_empty(),
            if draining.is_empty() { Reason::NothingDraining } else { Reason::DrainingVersions },
            draining.join(", "),
        ),
        condition(
            ConditionType::Reconciling,
            reconciling,
            if reconciling { progressing.reason } else { Reason::AsExpected },
            if reconciling { progressing.message.clone() } else { String::new() },
        ),
        condition(
            ConditionType::Stalled,
            stalled,
            fault.as_ref().filter(|_| stalled).map_or(Reason::AsExpected, |(reason, _)| *reason),
            fault.as_ref().filter(|_| stalled).map_or_else(String::new, |(_, message)| message.clone()),
        ),
    ];
    let phase = if suspended {
        "Suspended"
    } else if fault.is_some() || lost {
        "Degraded"
    } else if rolling.is_some() || current.is_none() {
        "RollingOut"
    } else if draining.is_empty() {
        "Ready"
    } else {
        "Draining"
    };
    Verdict { conditions, phase }
}

/// The column of kubectl shows the first one only.
fn oldest_first(state: &State) -> Vec<(&String, &Drain)> {
    let mut drains: Vec<_> = state.drains.iter().collect();
    drains.sort_by_key(|(_, drain)| drain.since);
    drains
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
        deployment_name: version.map_or_else(|| fallback.1.to_owned(), |version| version.name.clone()),
        replicas: pods.map_or(0, |pods| pods.replicas),
        ready_replicas: pods.map_or(0, |pods| pods.ready_replicas),
        since,
    }
}

fn conditions(verdict: &Verdict, generation: i64) -> Vec<NewCondition> {
    let about = |condition: &NewCondition| NewCondition {
        observed_generation: Some(generation),
        ..condition.clone()
    };
    verdict.conditions.iter().map(about).collect()
}

/// The complete status.
pub(super) fn status(
    state: &State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    process: &ProcessView,
    verdict: &Verdict,
) -> StatusView {
    let current = state.current.as_ref().map(|current| {
        version_status(seen, &current.build_id, Some(current.since), ("", ""))
    });
    let target = state.target.as_ref().map(|(build_id, since)| {
        let fallback = (process.image.as_str(), process.deployment_name.as_str());
        version_status(seen, build_id, Some(*since), fallback)
    });
    let pods = current.as_ref().and_then(|current| deployment_of(seen, &current.build_id));
    StatusView {
        observed_generation: process.generation,
        conditions: conditions(verdict, process.generation),
        replicas: pods.map_or(0, |pods| pods.replicas),
        selector: current.as_ref().map_or_else(String::new, |current| {
            names::selector(&key.name, &BuildId::from_observed(&current.build_id))
        }),
        draining: oldest_first(state)
            .into_iter()
            .map(|(build_id, drain)| {
                let fallback = (drain.image.as_str(), drain.deployment_name.as_str());
                version_status(seen, build_id, Some(drain.since), fallback)
            })
            .collect(),
        current,
        target,
        task_queue: process.task_queue.clone(),
        workflow: [
            seen.settings.control_namespace.clone(),
            key.lifecycle().to_string(),
            run_id.to_owned(),
        ],
        history: state.history.clone(),
        version_count: i32::try_from(seen.versions.len()).unwrap_or(i32::MAX),
    }
}

/// Markdown for the Temporal UI's current details.
pub(super) fn details(
    state: &State,
    process: &ProcessView,
    seen: &Observation,
    verdict: &Verdict,
) -> String {
    let mut text = format!("**{}**\n\n", verdict.phase);
    for wanted in [ConditionType::Ready, ConditionType::Progressing, ConditionType::Degraded] {
        if let Some(found) = verdict.conditions.iter().find(|condition| condition.type_ == wanted) {
            let status = if found.status == true.into() { "yes" } else { "no" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "* {wanted}: {status} ({}) {}", found.reason, found.message);
        }
    }
    text.push_str("\n| version | role | image | pods | server |\n|---|---|---|---|---|\n");
    let names: std::collections::BTreeSet<&String> =
        seen.versions.keys().chain(seen.routing.versions.keys()).collect();
    for build_id in names {
        let version = seen.versions.get(build_id);
        let role = if state.current.as_ref().is_some_and(|current| current.build_id == *build_id) {
            "current"
        } else if *build_id == process.build_id {
            "target"
        } else if state.drains.contains_key(build_id) {
            "draining"
        } else {
            ""
        };
        let pods = deployment_of(seen, build_id)
            .map_or_else(|| "-".to_owned(), |pods| format!("{}/{}", pods.ready_replicas, pods.replicas));
        let server = seen
            .routing
            .versions
            .get(build_id)
            .map_or_else(|| "-".to_owned(), |state| format!("{state:?}"));
        let image = version.map_or("-", |version| version.image.as_str());
        let _ = writeln!(text, "| {build_id} | {role} | {image} | {pods} | {server} |");
    }
    text
}

/// The category of a child's report, as it was written by [`ErrorCategory::metric_label`].
pub(crate) fn category_of(label: &str) -> ErrorCategory {
    use strum::IntoEnumIterator as _;
    ErrorCategory::iter()
        .find(|category| category.metric_label() == label)
        .unwrap_or(ErrorCategory::Internal)
}
