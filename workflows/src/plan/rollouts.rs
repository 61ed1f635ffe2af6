//! When a rollout is started, told something, or stopped.

use jiff::Timestamp;
use process_operator_crds::names::BuildId;
use process_operator_crds::spec::RolloutStrategy;
use process_operator_crds::{ErrorCategory, Reason};

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
            plan.cancel.push(rollout.id.clone());
        }
        if block.is_some() {
            return;
        }
        state.rollout = None;
    }
    let is_current =
        seen.routing.state == RoutingState::Known && seen.routing.current.as_ref() == Some(target);
    // Made current by somebody else, or by a promotion that an abort came too late for.
    let got_there = is_current && block.is_none();
    if state
        .failed
        .as_ref()
        .is_some_and(|failed| failed.build_id != *target || got_there)
    {
        state.failed = None;
    }
    let taking_over =
        std::mem::take(&mut state.take_over) && seen.routing.foreign_manager.is_some();
    let idle = block.is_some() || is_current && !taking_over;
    if idle || seen.routing.state != RoutingState::Known {
        return;
    }
    if let Some(failed) = &state.failed {
        let available = seen
            .versions
            .get(target)
            .and_then(|version| version.deployment.as_ref())
            .is_some_and(|deployment| deployment.available);
        let handed_over = failed.category == ErrorCategory::DeploymentOwnedElsewhere;
        let recovered = available && !failed.available && !super::verbs::given_up(state, target);
        if !(handed_over || recovered) {
            return;
        }
        state.failed = None;
    }
    start(state, key, process, seen, taking_over, now, plan);
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

/// A version that was current before and is still kept: its way back is short.
pub(super) fn served_before(seen: &Observation, build_id: &str) -> bool {
    seen.routing.served.contains_key(build_id)
        || seen
            .versions
            .get(build_id)
            .is_some_and(|version| version.retired.is_some())
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
    let deadline = after(now, process.progress_deadline_seconds);
    let id = key
        .rollout(&BuildId::from_observed(target), state.children)
        .to_string();
    let back = served_before(seen, target);
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
