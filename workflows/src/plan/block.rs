//! What keeps the spec from being acted on.

use process_operator_crds::{ErrorCategory, Reason};

use super::{Plan, aspects, events};
use crate::contract::{
    EventType, Observation, ProcessView, RoutingState, State, Step, StepFailure,
};

/// Why nothing new may be deployed. The running versions are kept as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Goes into the conditions.
    pub reason: Reason,
    /// For people; names the field and the fix.
    pub message: String,
}

/// The definition, where the operator may not read it: somebody gives the right back, and nothing tells
/// when.
pub(super) fn unreadable(process: &ProcessView) -> Option<StepFailure> {
    let refused = process
        .definition
        .as_ref()
        .filter(|it| !it.refused.is_empty())?;
    Some(StepFailure::new(
        ErrorCategory::Forbidden,
        format!(
            "ConfigMap {} may not be read: {}",
            refused.config_map, refused.refused
        ),
    ))
}

/// What keeps the spec from being acted on, worst first.
pub(super) fn block(state: &State, process: &ProcessView, seen: &Observation) -> Option<Block> {
    let namespace = &process.temporal_namespace;
    let found = if let Some(message) = &seen.invalid {
        (Reason::InvalidSpec, message.clone())
    } else if process.suspend {
        (
            Reason::Suspended,
            "spec.suspend is true: observing, not acting".into(),
        )
    } else if let Some(failure) = unreadable(process) {
        (failure.category.reason(), failure.message)
    } else if let Some(lost) = process.definition.as_ref().filter(|it| !it.found()) {
        let name = &lost.config_map;
        lost.failure.as_ref().map_or_else(
            || {
                (
                    Reason::DefinitionNotFound,
                    format!(
                        "ConfigMap {name} does not exist; create it or correct spec.definitionRef.configMapRef.name"
                    ),
                )
            },
            |failure| (failure.reason, failure.message.clone()),
        )
    } else if let Some(holder) = &seen.queue_holder {
        (
            Reason::TaskQueueConflict,
            format!(
                "task queue {} in Temporal namespace {namespace} is served by the older Process {holder}; \
                 set another spec.temporal.taskQueue or delete that Process",
                process.task_queue
            ),
        )
    } else if seen.routing.state == RoutingState::NamespaceNotFound {
        (
            Reason::NamespaceNotFound,
            format!(
                "Temporal namespace {namespace} does not exist; create it or correct spec.temporal.namespace"
            ),
        )
    } else if seen.routing.state == RoutingState::Forbidden {
        (
            Reason::Forbidden,
            format!(
                "the operator may not use Temporal namespace {namespace}: {}",
                seen.routing.message
            ),
        )
    } else if let Some(manager) = &seen.routing.foreign_manager {
        (
            Reason::DeploymentOwnedElsewhere,
            format!(
                "the Worker Deployment in Temporal namespace {namespace} is managed by {manager:?}; \
                 unset its manager identity to hand it over"
            ),
        )
    } else if state.current.is_none()
        && let Some(lacking) = aspects::lacking(process)
    {
        (
            Reason::DependencyNotReady,
            format!("{lacking}: the first version waits for it"),
        )
    } else {
        return None;
    };
    Some(Block {
        reason: found.0,
        message: found.1,
    })
}

/// An Event when something begins to stand against the spec, or is lacking for the version that runs, and one
/// when that is over. Only with a status that says the same: what is told there already is no news.
pub(super) fn tell(
    state: &mut State,
    process: &ProcessView,
    block: Option<&Block>,
    plan: &mut Plan,
) {
    let published = |step: &Step| matches!(step, Step::PublishStatus { .. });
    if !plan.steps.iter().any(published) {
        return;
    }
    let lacking = aspects::lacking(process).map(|message| Block {
        reason: Reason::DependencyNotReady,
        message,
    });
    let stands = block.or(lacking.as_ref());
    // Whoever suspends knows it, and a registry that is being asked for the first time answers in a moment.
    if stands.is_some_and(|it| matches!(it.reason, Reason::Suspended | Reason::DefinitionPending)) {
        return;
    }
    let reason = stands.map_or_else(String::new, |it| it.reason.to_string());
    let before = std::mem::replace(&mut state.told_block, reason.clone());
    if before == reason {
        return;
    }
    let (kind, what, note) = match stands {
        Some(it) => (
            EventType::Warning,
            "Blocked",
            format!("{reason}: {}", it.message),
        ),
        None => (
            EventType::Normal,
            "Unblocked",
            format!("no longer {before}"),
        ),
    };
    let event = Step::Event {
        // Made unique when the plan is complete.
        id: format!("{what}/{reason}"),
        kind,
        reason: what.into(),
        action: "Observe".into(),
        note,
        build_id: String::new(),
    };
    events::tell(plan, [event]);
}
