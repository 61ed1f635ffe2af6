//! What a child's report means for the memory.

use jiff::Timestamp;

use super::{Plan, conditions::category_of, note, rollouts::serves};
use crate::contract::{
    ChildFinished, ChildKind, ChildOutcome, FailedVersion, Observation, State, StepFailure,
};

/// Takes over a report. One about a child that is not remembered is late or doubled and is ignored.
pub(super) fn absorb(
    state: &mut State,
    seen: &Observation,
    report: &ChildFinished,
    now: Timestamp,
    plan: &mut Plan,
) {
    let build_id = &report.build_id;
    match report.kind {
        ChildKind::Rollout => {
            let Some(rollout) = state.rollout.take_if(|rollout| rollout.id == report.id) else {
                return;
            };
            match report.outcome {
                ChildOutcome::Completed => {
                    state.failed = None;
                    if !rollout.told_current {
                        serves(state, build_id, now, plan);
                    }
                }
                ChildOutcome::Failed => {
                    let available = seen
                        .versions
                        .get(build_id)
                        .and_then(|version| version.deployment.as_ref())
                        .is_some_and(|deployment| deployment.available);
                    state.failed = Some(FailedVersion {
                        build_id: build_id.clone(),
                        category: category_of(&report.category),
                        message: report.message.clone(),
                        available,
                    });
                    note(state, plan, now, "RolloutFailed", build_id, &report.message);
                }
                // Ended by somebody's hand: it was not superseded, since then it would be forgotten.
                ChildOutcome::Canceled | ChildOutcome::Unknown => {}
            }
        }
        ChildKind::Drain => {
            if state
                .drains
                .get(build_id)
                .is_none_or(|drain| drain.id != report.id)
            {
                return;
            }
            if let Some(drain) = state.drop_drain(build_id) {
                state.applied.remove(&drain.deployment_name);
            }
            match report.outcome {
                ChildOutcome::Completed => {
                    state.resumed.remove(build_id);
                    note(
                        state,
                        plan,
                        now,
                        "VersionRetired",
                        build_id,
                        &report.message,
                    );
                }
                ChildOutcome::Failed => {
                    // A new drain is started with the next look; the back-off keeps that from spinning.
                    let failure = StepFailure::new(
                        category_of(&report.category),
                        format!("retiring {build_id}: {}", report.message),
                    );
                    state.trouble = Some((failure, 1));
                }
                ChildOutcome::Canceled | ChildOutcome::Unknown => {}
            }
        }
    }
}
