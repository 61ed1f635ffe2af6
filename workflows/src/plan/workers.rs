//! What is told about the pods of the version that serves.

use process_operator_crds::Reason;

use super::Plan;
use super::conditions::deployment_of;
use crate::contract::{DeploymentView, EventType, Observation, State, Step};

/// How many are ready, and what is wrong with the others.
pub(super) fn in_words(pods: &DeploymentView) -> String {
    let mut words = format!(
        "{}/{} worker pods ready",
        pods.ready_replicas, pods.replicas
    );
    if !pods.trouble.is_empty() {
        words.push_str(": ");
        words.push_str(&pods.trouble);
    }
    words
}

/// An Event when something begins to be wrong with them and one when all are back. Not for the history in
/// status, from which a pod that comes and goes would drive everything else.
pub(super) fn tell(state: &mut State, seen: &Observation, plan: &mut Plan) {
    let Some(current) = &state.current else {
        return;
    };
    let Some(pods) = deployment_of(seen, &current.build_id) else {
        return;
    };
    let (kind, reason) = if !pods.trouble.is_empty() && !state.told_trouble {
        (EventType::Warning, Reason::WorkersUnavailable)
    } else if pods.available && state.told_trouble {
        (EventType::Normal, Reason::WorkersReady)
    } else {
        return;
    };
    let build_id = &current.build_id;
    plan.steps.push(Step::Event {
        // Made unique when the plan is complete.
        id: format!("{reason}/{build_id}"),
        kind,
        reason: reason.to_string(),
        action: "Observe".into(),
        note: format!("{build_id}: {}", in_words(pods)),
        build_id: build_id.clone(),
    });
    state.told_trouble = !state.told_trouble;
}
