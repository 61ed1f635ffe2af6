//! Changes of routing.

use std::time::Duration;

use futures::future::LocalBoxFuture;
use jiff::{SignedDuration, Timestamp};
use process_operator_crds::spec::Versioning;
use temporalio_common::Priority;
use temporalio_workflow::{ActivityCancellationType, ActivityOptions, WorkflowCancellationToken};

use super::{Ctx, failed};
use crate::contract::{
    QUEUE_ROUTING, RolloutProgress, SetCurrent, SetCurrentInput, SetWeight, SetWeightInput,
};
use crate::plan::machine::Event;
use crate::rollout::RolloutInput;
use crate::support;

/// Clocks that differ by less are as good as the same.
const TOLERATED: SignedDuration = SignedDuration::from_secs(1);

/// A time that some machine's clock has told, held to what the server's clock leaves possible.
fn between(begun: Timestamp, told: Timestamp, ended: Timestamp) -> Timestamp {
    told.clamp(begun, ended.max(begun))
}

/// Options of a change of routing. An abort goes before routine steps when the queue is full. With
/// `versioning: None` it waits for pods, and that is not for a queue of short calls.
fn options(
    summary: String,
    versioning: Versioning,
    urgent: bool,
    token: WorkflowCancellationToken,
) -> ActivityOptions {
    if versioning == Versioning::None {
        return support::wait(summary, Some(token));
    }
    ActivityOptions::with_start_to_close_timeout(Duration::from_secs(30))
        .task_queue(QUEUE_ROUTING)
        // A replica that was paused with this in its hands is noticed long before the time-out.
        .heartbeat_timeout(Duration::from_secs(5))
        .retry_policy(support::retry())
        .maybe_priority(urgent.then(|| Priority::builder().priority_key(1_u32).build()))
        .cancellation_token(token)
        .summary(summary)
        .build()
}

pub(super) async fn weigh(
    ctx: Ctx,
    input: SetWeightInput,
    waits: bool,
    token: WorkflowCancellationToken,
) -> Event {
    let summary = format!(
        "send {} % of new workflows to {}",
        input.percent, input.build_id
    );
    let mut options = options(summary, input.versioning, false, token);
    if waits {
        options.cancellation_type = ActivityCancellationType::WaitCancellationCompleted;
    }
    let begun = support::timestamp(ctx.workflow_time());
    match ctx.execute_activity(SetWeight, input, options).await {
        Ok(outcome) if waits => {
            let ended = support::timestamp(ctx.workflow_time());
            let at = between(begun, outcome.at, ended);
            // By then the activity has told when the pause ends, by the clock of the machine that it ran on.
            let off = at.duration_since(outcome.at).abs() > TOLERATED;
            ctx.state_mut(|s| s.off = off);
            Event::Weighted(at)
        }
        Ok(outcome) => Event::Weighted(outcome.at),
        Err(error) => failed(support::unless_cancelled(error)),
    }
}

pub(super) async fn unwind(
    ctx: Ctx,
    input: SetWeightInput,
    token: WorkflowCancellationToken,
) -> Event {
    let summary = format!("take new workflows away from {}", input.build_id);
    let options = options(summary, input.versioning, true, token);
    match ctx.execute_activity(SetWeight, input, options).await {
        Ok(_) => Event::Unwound,
        Err(error) => failed(support::unless_cancelled(error)),
    }
}

/// The version takes nothing any more.
pub(super) fn nothing_for(input: &RolloutInput, waiting: RolloutProgress) -> SetWeightInput {
    SetWeightInput {
        key: input.key.clone(),
        temporal_namespace: input.temporal_namespace.clone(),
        build_id: input.build_id.clone(),
        task_queue: input.task_queue.clone(),
        versioning: input.versioning,
        waiting: Some(waiting),
        ..SetWeightInput::default()
    }
}

/// Takes everything back; with `back_to` also when the version is Current already. Not before a change that was
/// under way has come to its end: what is taken back first could be given again.
pub(super) async fn recall(
    ctx: Ctx,
    input: SetWeightInput,
    back_to: Option<String>,
    change: Option<LocalBoxFuture<'static, Event>>,
    token: WorkflowCancellationToken,
) -> Event {
    if let Some(change) = change {
        change.await;
    }
    unwind(ctx, SetWeightInput { back_to, ..input }, token).await
}

pub(super) async fn promote(
    ctx: Ctx,
    input: SetCurrentInput,
    waits: bool,
    token: WorkflowCancellationToken,
) -> Event {
    let mut options = options(
        format!("send new workflows to {}", input.build_id),
        input.versioning,
        false,
        token,
    );
    if waits {
        options.cancellation_type = ActivityCancellationType::WaitCancellationCompleted;
    }
    match ctx.execute_activity(SetCurrent, input, options).await {
        Ok(()) => Event::Promoted,
        Err(error) => failed(support::unless_cancelled(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_neither_shortens_nor_lengthens_a_pause_by_more_than_the_change_took() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (told, expected) in [(1, 100), (99, 100), (101, 101), (103, 103), (700, 103)] {
            assert_eq!(between(at(100), at(told), at(103)), at(expected));
        }
        // Time that stands still, as in a replay of one task.
        assert_eq!(between(at(100), at(7), at(100)), at(100));
        assert_eq!(between(at(100), at(7), at(99)), at(100));
    }
}
