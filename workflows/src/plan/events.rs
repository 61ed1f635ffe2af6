//! Events are told once, and not lost: they are kept until they are recorded.

use super::Plan;
use crate::contract::{EventType, State, Step};

/// Puts Events where they belong: after all else, but before the finalizer goes.
pub(super) fn tell(plan: &mut Plan, events: impl IntoIterator<Item = Step>) {
    let last = plan.steps.pop_if(|step| *step == Step::RemoveFinalizer);
    plan.steps.extend(events);
    plan.steps.extend(last);
}

/// Tells why signals could not be understood.
pub(super) fn refused(whys: &[String], plan: &mut Plan) {
    let events = whys.iter().map(|why| Step::Event {
        // Made unique when the plan is complete.
        id: "refused".into(),
        kind: EventType::Warning,
        reason: "SignalRefused".into(),
        action: "Signal".into(),
        note: why.clone(),
        build_id: String::new(),
    });
    tell(plan, events);
}

/// Adds what earlier plans could not tell, and keeps all of it until it is recorded.
pub(super) fn owe(state: &mut State, plan: &mut Plan) {
    let new: Vec<Step> = plan
        .steps
        .extract_if(.., |step| matches!(step, Step::Event { .. }))
        .collect();
    state.owe(new);
    tell(plan, state.untold.iter().cloned());
}
