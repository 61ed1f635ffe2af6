//! A step of a rollout, of which nothing has to be found out.

use crate::contract::{Observation, RoutingState, Stage, State};

/// What a look would give once a rollout has told of a step, if an earlier look tells: all but the share that the
/// version has now is as it was. `None` where more may have changed with the step, so that only a look tells.
pub(crate) fn after_step(state: &State, mut seen: Observation) -> Option<Observation> {
    let rollout = state
        .rollout
        .as_ref()
        .filter(|rollout| !rollout.cancelled)?;
    let told = rollout.progress.as_ref()?;
    let waits =
        told.stage == Stage::Pausing && told.hold.is_none() && told.waits.is_none() && !told.paused;
    // Shares of pods move Deployments, and with queues of their own versions have another record of the routing.
    let by_temporal = seen
        .process
        .as_ref()
        .is_some_and(|process| process.versioning.is_default() && !process.deleting);
    let routing = &mut seen.routing;
    let ramps = routing.state == RoutingState::Known
        && routing.foreign_manager.is_none()
        && routing.ramping.as_ref() == Some(&rollout.build_id);
    if !(waits && by_temporal && ramps) {
        return None;
    }
    routing.percent = told.weight;
    Some(seen)
}
