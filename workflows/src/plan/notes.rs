//! Transitions, as the history in status and Events tell them.

use jiff::Timestamp;
use process_operator_crds::names::manager::OPERATOR;

use super::Plan;
use crate::contract::{EventType, State, Step, Transition};

/// Writes a transition of our own to the history and as an Event.
pub(super) fn note(
    state: &mut State,
    plan: &mut Plan,
    now: Timestamp,
    what: &str,
    build_id: &str,
    reason: &str,
) {
    note_by(state, plan, now, what, build_id, reason, OPERATOR);
}

/// Writes a transition to the history and as an Event.
pub(super) fn note_by(
    state: &mut State,
    plan: &mut Plan,
    now: Timestamp,
    what: &str,
    build_id: &str,
    reason: &str,
    actor: &str,
) {
    let warning = matches!(
        what,
        "RolloutFailed"
            | "RolloutHeld"
            | "RoutingChanged"
            | "DrainTimedOut"
            | "DrainEscalated"
            | "WorkflowsLeft"
            | "SignalRefused"
            | "DeletionHeld"
            | "LateStarts"
            | "CancellingWorkflows"
            | "TerminatingWorkflows"
    );
    // What could not be started the first time is decided again, and was told.
    let starts = matches!(what, "RolloutStarted" | "RollbackStarted" | "DrainStarted");
    let told = state.history.last().is_some_and(|last| {
        (&*last.what, &*last.build_id, &*last.reason, &*last.actor)
            == (what, build_id, reason, actor)
    });
    if starts && told {
        return;
    }
    state.record(Transition {
        time: now,
        what: what.into(),
        build_id: build_id.into(),
        reason: reason.into(),
        actor: actor.into(),
    });
    let mut about = if build_id.is_empty() {
        reason.to_owned()
    } else {
        format!("{build_id}: {reason}")
    };
    if actor != OPERATOR {
        about = format!("{about}, by {actor}");
    }
    plan.steps.push(Step::Event {
        // Made unique when the plan is complete.
        id: format!("{what}/{build_id}"),
        kind: if warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: what.into(),
        action: action_of(what).into(),
        note: about,
        build_id: build_id.into(),
    });
}

fn action_of(what: &str) -> &'static str {
    match what {
        "RolloutStarted" | "RollbackStarted" | "RolloutSuperseded" | "WeightChanged"
        | "RolloutHeld" => "RollOut",
        "RolloutFailed" | "VersionCurrent" => "Route",
        "DrainStarted" | "DrainTimedOut" | "DrainEscalated" | "DrainForced" | "DrainResumed"
        | "WorkflowsEnded" | "WorkflowsLeft" | "VersionRetired" => "Retire",
        "SignalRefused" => "Signal",
        "Deleting"
        | "SchedulesPaused"
        | "WaitingForWorkflows"
        | "LateStarts"
        | "DeletionHeld"
        | "CancellingWorkflows"
        | "TerminatingWorkflows"
        | "StoppingWorkers"
        | "Orphaned" => "Delete",
        what if what.ends_with("Requested") => "Request",
        _ => "Observe",
    }
}
