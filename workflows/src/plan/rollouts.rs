//! When a rollout is started, told something, or stopped.

use jiff::Timestamp;
use process_operator_crds::names::BuildId;
use process_operator_crds::spec::RolloutStrategy;
use process_operator_crds::{ErrorCategory, Reason};

use super::verbs::given_up;
use super::versions::share;
use super::{Block, Child, Plan, note};
use crate::contract::{
    Observation, Order, ProcessKey, ProcessView, Progress, Rollout, RolloutOrder, RoutingState,
    State, after,
};

/// Starts, keeps or stops the rollout of the target version.
pub(super) fn roll_out(
    state: &mut State,
    key: &ProcessKey,
    process: &ProcessView,
    seen: &Observation,
    block: Option<&Block>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let target = &process.build_id;
    let known = seen.routing.state == RoutingState::Known;
    let current = seen.routing.current.as_ref().filter(|_| known);
    // A suspended Process is not acted on: its rollout stays where it is.
    let suspended = block.is_some_and(|block| block.reason == Reason::Suspended);
    // A rollout under way finds out for itself what somebody else did, and holds.
    let disturbed = block.is_some_and(|block| block.reason == Reason::DeploymentOwnedElsewhere);
    if let Some(rollout) = &mut state.rollout {
        let wanted = rollout.build_id == *target;
        let bears = rollout.holds();
        if suspended || wanted && (block.is_none() || disturbed && bears) {
            hold_or_release(rollout, process, suspended, plan);
            return;
        }
        if !rollout.cancelled {
            rollout.cancelled = true;
            if current == Some(&rollout.build_id) {
                state.unproven.remove(&rollout.build_id);
                // What follows starts from what is seen: a promotion that is not over yet must not take that back.
                if seen.settings.rules > 1 {
                    let keep = RolloutOrder::new(Order::Keep, "");
                    plan.orders.push((rollout.id.clone(), keep));
                }
            }
            plan.cancel.push(rollout.id.clone());
            if !wanted && current != Some(&rollout.build_id) {
                superseded(state, process, seen, now, plan);
            }
        }
        if block.is_some() {
            return;
        }
        state.rollout = None;
    } else if let Some(current) = current {
        // Nothing is on its way there or back.
        state.unproven.remove(current);
    }
    let is_current = current == Some(target);
    // Made current by somebody else, or by a promotion that an abort came too late for.
    let got_there = is_current && block.is_none();
    match &state.failed {
        Some(failed) if failed.build_id != *target => forget_failure(state),
        Some(_) if got_there => state.failed = None,
        _ => {}
    }
    // A spec that rests is rolled out all the same: the request is for then.
    if plan.rest.is_some() {
        return;
    }
    let taking_over =
        std::mem::take(&mut state.take_over) && seen.routing.foreign_manager.is_some();
    let idle = block.is_some() || is_current && !taking_over;
    if idle || !known || stays_failed(state, seen, target) {
        return;
    }
    state.failed = None;
    start(state, key, process, seen, taking_over, now, plan);
}

/// Tells that the spec asks for another version before the one that was on its way was Current. An object that cannot
/// be read asks for nothing.
fn superseded(
    state: &mut State,
    process: &ProcessView,
    seen: &Observation,
    now: Timestamp,
    plan: &mut Plan,
) {
    let target = &process.build_id;
    let Some(rollout) = state.rollout.as_ref().filter(|_| !target.is_empty()) else {
        return;
    };
    let build_id = rollout.build_id.clone();
    let told = rollout.progress.as_ref();
    let (step, weight) = told.map_or((0, 0), |told| (told.step, told.weight));
    let weight = share(&seen.routing, &build_id).unwrap_or(weight);
    let step = match step {
        0 => String::new(),
        step => format!(", step {step} of {}", rollout.steps),
    };
    let serves = match &seen.routing.current {
        Some(current) if current == target => ", which serves",
        _ => "",
    };
    let why = format!(
        "{weight} % of new workflows went to it{step}; generation {} of the spec asks for {target}{serves}",
        process.generation
    );
    note(state, plan, now, "RolloutSuperseded", &build_id, &why);
}

/// The target's rollout has failed, and nothing has changed since.
fn stays_failed(state: &State, seen: &Observation, target: &str) -> bool {
    let Some(failed) = &state.failed else {
        return false;
    };
    let available = seen
        .versions
        .get(target)
        .and_then(|version| version.deployment.as_ref())
        .is_some_and(|deployment| deployment.available);
    let handed_over = failed.category == ErrorCategory::DeploymentOwnedElsewhere;
    let recovered = available && !failed.available && !given_up(state, target);
    !(handed_over || recovered)
}

/// What failed is to be tried again, or is wanted no more. The memory of it is all that a lifecycle which has found it
/// knows of its way.
pub(super) fn forget_failure(state: &mut State) {
    let Some(build_id) = state.failed.as_ref().map(|failed| failed.build_id.clone()) else {
        return;
    };
    let mut starts = state.history.iter().rev().filter(|entry| {
        entry.build_id == build_id
            && matches!(entry.what.as_str(), "RolloutStarted" | "RollbackStarted")
    });
    let was_rollback = starts
        .next()
        .is_some_and(|entry| entry.what == "RollbackStarted");
    if given_up(state, &build_id) && !was_rollback {
        state.unproven.insert(build_id);
    }
    state.failed = None;
}

/// Why nothing would come of a request to take routing back now.
pub(super) fn cannot_take_over(
    state: &State,
    process: &ProcessView,
    seen: &Observation,
) -> Option<String> {
    let brought_back = super::brought_back(state, process, seen);
    let process = brought_back.as_ref().unwrap_or(process);
    let block = super::block(state, process, seen)
        .filter(|block| block.reason != Reason::DeploymentOwnedElsewhere);
    if let Some(block) = block {
        let Block { reason, message } = block;
        return Some(format!(
            "something else stands in the way, {reason}: {message}"
        ));
    }
    let target = &process.build_id;
    let failed = state
        .failed
        .as_ref()
        .filter(|failed| failed.build_id == *target)?;
    let is_current = seen.routing.current.as_ref() == Some(target);
    (!is_current && stays_failed(state, seen, target)).then(|| {
        format!(
            "the rollout of {target} has failed: request `retry` first, change the spec, or unset the manager \
             identity in Temporal; it failed with: {}",
            failed.message
        )
    })
}

/// Pauses it, or lets it go on, when the spec or a request says so.
fn hold_or_release(rollout: &mut Rollout, process: &ProcessView, suspended: bool, plan: &mut Plan) {
    let paused = suspended || process.paused || rollout.paused.is_some();
    if paused == rollout.told_paused || rollout.cancelled {
        return;
    }
    rollout.told_paused = paused;
    let order = if paused { Order::Pause } else { Order::Resume };
    plan.orders
        .push((rollout.id.clone(), RolloutOrder::new(order, "")));
}

/// A request has asked to take routing back, and what does that has not ended.
pub(super) fn takes_over(state: &State, process: &ProcessView) -> bool {
    let under_way = state.rollout.as_ref().is_some_and(|rollout| {
        rollout.take_over && !rollout.cancelled && rollout.build_id == process.build_id
    });
    state.take_over || under_way
}

/// A look may come between the last change of routing and the report of the rollout that made it. What
/// follows from the change is told after the change.
pub(super) fn became_current(state: &mut State, now: Timestamp, plan: &mut Plan) {
    let current = state.current.as_ref().map(|current| &current.build_id);
    let Some(rollout) = &mut state.rollout else {
        return;
    };
    if current == Some(&rollout.build_id) && !rollout.cancelled {
        rollout.told_current = true;
        let build_id = rollout.build_id.clone();
        serves(state, &build_id, now, plan);
    }
}

/// New executions go to a version.
pub(super) fn serves(state: &mut State, build_id: &str, now: Timestamp, plan: &mut Plan) {
    let why = "new executions go to it";
    note(state, plan, now, "VersionCurrent", build_id, why);
}

/// A version that was current before and is still kept: its way back is short. What was taken back before its
/// rollout came to its end has not been, whatever the server saw.
fn served_before(state: &State, seen: &Observation, build_id: &str) -> bool {
    let served = seen.routing.served.contains_key(build_id)
        || seen
            .versions
            .get(build_id)
            .is_some_and(|version| version.retired.is_some());
    served && !state.unproven.contains(build_id)
}

/// The way of a version begins that it has to come to the end of.
fn to_be_proven(state: &mut State, seen: &Observation, target: &str) {
    // Of what is not known any more nothing has to be remembered.
    state.unproven.retain(|build_id| {
        seen.versions.contains_key(build_id) || seen.routing.served.contains_key(build_id)
    });
    state.unproven.insert(target.to_owned());
}

fn start(
    state: &mut State,
    key: &ProcessKey,
    process: &ProcessView,
    seen: &Observation,
    take_over: bool,
    now: Timestamp,
    plan: &mut Plan,
) {
    let target = &process.build_id;
    state.children += 1;
    if seen.settings.rules > 3 {
        state.pace.begun.push(now);
    }
    let deadline = after(now, process.progress_deadline_seconds);
    let id = key
        .rollout(&BuildId::from_observed(target), state.children)
        .to_string();
    let back = served_before(state, seen, target);
    if !back {
        to_be_proven(state, seen, target);
    }
    let stable = seen.routing.current.clone().unwrap_or_default();
    let at_once = back || stable.is_empty() || stable == *target;
    let strategy = process.policy.strategy;
    let stepped = !at_once && strategy == RolloutStrategy::Canary;
    let steps = if stepped {
        u32::try_from(process.policy.steps.len()).unwrap_or(u32::MAX)
    } else {
        0
    };
    state.rollout = Some(Rollout {
        id: id.clone(),
        build_id: target.clone(),
        since: now,
        deadline,
        steps,
        told_paused: process.paused,
        take_over,
        shares: !at_once && strategy != RolloutStrategy::RollingUpdate,
        ..Rollout::default()
    });
    let what = if back && !stable.is_empty() {
        "RollbackStarted"
    } else {
        "RolloutStarted"
    };
    note(
        state,
        plan,
        now,
        what,
        target,
        &format!("image {}", process.image),
    );
    plan.start.push(Child::Rollout {
        id,
        build_id: target.clone(),
        deployment_name: process.deployment_name.clone(),
        deadline,
        stable,
        at_once,
        take_over,
    });
}

/// Writes what a rollout has told of itself to history and Events, once.
pub(super) fn progressed(state: &mut State, now: Timestamp, plan: &mut Plan) {
    let Some(rollout) = &mut state.rollout else {
        return;
    };
    let Some(latest) = rollout.progress.clone() else {
        return;
    };
    let mut told = std::mem::take(&mut rollout.unnoted);
    if told.last() != Some(&latest) {
        told.push(latest.clone());
    }
    let mut before = rollout.noted.replace(latest).unwrap_or_default();
    let (build_id, steps) = (rollout.build_id.clone(), rollout.steps);
    for progress in told {
        for (what, reason) in news(&progress, &before, steps) {
            note(state, plan, now, what, &build_id, &reason);
        }
        before = progress;
    }
}

/// What is new about how far a rollout has come.
fn news(now: &Progress, before: &Progress, steps: u32) -> Vec<(&'static str, String)> {
    let mut news = Vec::new();
    if !now.gate.is_empty() && now.gate != before.gate {
        news.push(("GateEnded", now.gate.clone()));
    }
    if now.weight != before.weight {
        let reason = format!(
            "step {} of {steps}: {} % of new workflows",
            now.step, now.weight
        );
        news.push(("WeightChanged", reason));
    }
    if now.waits_for_promotion() && !before.waits_for_promotion() {
        news.push((
            "WaitingForPromotion",
            "it goes on when it is promoted".into(),
        ));
    }
    if let Some(hold) = &now.hold
        && before.hold.as_ref() != Some(hold)
    {
        news.push(("RolloutHeld", hold.message.clone()));
    }
    news
}
