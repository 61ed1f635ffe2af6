//! The conditions of a Process that is being deleted.

use process_operator_crds::conditions::NewCondition;
use process_operator_crds::{ConditionType, ErrorCategory, Reason};

use super::super::Verdict;
use super::super::aspects::definition;
use super::super::conditions::condition;
use crate::contract::{DeletionStage, Observation, ProcessView, State, StepFailure};

/// While the finalizer is being worked off.
pub(super) fn verdict(
    state: &State,
    (process, seen): (&ProcessView, &Observation),
    how: &str,
) -> Verdict {
    let message = &format!("the Process is being deleted{how}");
    let goes = |kind, status| condition(kind, status, Reason::Deleting, message);
    let plain = |kind, status| condition(kind, status, Reason::Deleting, "");
    // An object that cannot be read names no definition, and older rules told of none.
    let resolved = if seen.invalid.is_some() || seen.settings.rules == 0 {
        condition(
            ConditionType::DefinitionResolved,
            true,
            Reason::OpaqueReference,
            "",
        )
    } else {
        definition(process)
    };
    let held = held(state, seen);
    let failing = state.trouble.as_ref().map(|(failure, _)| failure);
    let degraded = match failing.or(held) {
        Some(failure) => condition(
            ConditionType::Degraded,
            true,
            failure.category.reason(),
            failure.message.clone(),
        ),
        None => goes(ConditionType::Degraded, false),
    };
    Verdict {
        // All of them: what is left out of an apply is given up, and a condition of which the watcher
        // holds only a part would then make the whole status invalid.
        conditions: vec![
            goes(ConditionType::Ready, false),
            goes(ConditionType::Progressing, false),
            goes(ConditionType::WorkersReady, false),
            goes(ConditionType::Reconciling, true),
            degraded,
            resolved,
            temporal(held),
            plain(ConditionType::DependenciesReady, true),
            plain(ConditionType::MutableTag, false),
            goes(ConditionType::Draining, false),
            goes(ConditionType::Stalled, false),
        ],
        phase: "Deleting",
    }
}

/// What keeps the running workflows from being looked after, as far as is told, and while that matters.
fn held<'a>(state: &'a State, seen: &Observation) -> Option<&'a StepFailure> {
    let memory = state.deletion.as_ref()?;
    let waits = memory.stage != DeletionStage::Leaving && seen.settings.rules > 0;
    memory.progress.trouble.as_ref().filter(|_| waits)
}

/// Whoever looks after the running workflows asks Temporal all the while, and nobody else does.
fn temporal(held: Option<&StepFailure>) -> NewCondition {
    let kind = ConditionType::TemporalReachable;
    let away = held.filter(|failure| {
        matches!(
            failure.category,
            ErrorCategory::TemporalUnavailable
                | ErrorCategory::NamespaceNotFound
                | ErrorCategory::Forbidden
        )
    });
    match away {
        Some(failure) => condition(
            kind,
            false,
            failure.category.reason(),
            failure.message.clone(),
        ),
        None => condition(kind, true, Reason::TemporalReachable, ""),
    }
}
