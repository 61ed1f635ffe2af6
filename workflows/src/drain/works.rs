//! What a drain has under way: one piece of work, and the timer of its deadline.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use temporalio_workflow::{WorkflowCancellationToken, WorkflowContext};

use super::{DrainInput, ProcessDrain};
use crate::contract::{
    CountOpen, CountOpenInput, CountOpenOutcome, EndOpen, EndOpenInput, KeepDrained,
    KeepDrainedInput, RetireInput, RetireVersion, StepFailure, StopVersion, StopVersionInput,
    WaitDrained, WaitDrainedInput,
};
use crate::plan::draining::{Draining, Event, Work};
use crate::support;
use crate::underway::{self, UnderWay};

type Ctx = WorkflowContext<ProcessDrain>;
/// `Err(None)` when it was cancelled.
type Happened = Result<Event, Option<StepFailure>>;

/// At most one of each kind.
#[derive(Default)]
pub(super) struct Works {
    work: UnderWay<Work, Happened>,
    alarm: UnderWay<Timestamp, Happened>,
}

impl Works {
    /// Goes on with what is wanted still, stops what is not, starts what is new.
    pub(super) fn turn_to(
        &mut self,
        ctx: &Ctx,
        input: &DrainInput,
        machine: &Draining,
        work: Work,
    ) {
        let child = || ctx.cancellation_token().child_token();
        self.work.turn_to(
            Some(work),
            |_| child(),
            |work, token| start(ctx.clone(), input, machine, work, token),
        );
        self.alarm.turn_to(
            machine.alarm(),
            |_| timer_token(ctx, input),
            |due, token| {
                let summary = format!(
                    "{} what is pinned to {} at {due:.0}",
                    machine.policy().on_timeout,
                    input.build_id
                );
                alarm(ctx.clone(), *due, summary, token).boxed_local()
            },
        );
    }

    /// The next thing that happens.
    pub(super) async fn next(&mut self) -> Happened {
        underway::first(&mut self.work, &mut self.alarm).await
    }

    /// Stops everything.
    pub(super) fn stop(&mut self) {
        self.work.stop();
        self.alarm.stop();
    }
}

/// What ends a timer: see [`DrainInput::own_timers`].
pub(super) fn timer_token(ctx: &Ctx, input: &DrainInput) -> WorkflowCancellationToken {
    if input.own_timers {
        WorkflowCancellationToken::new()
    } else {
        ctx.cancellation_token().child_token()
    }
}

async fn alarm(
    ctx: Ctx,
    due: Timestamp,
    summary: String,
    token: WorkflowCancellationToken,
) -> Happened {
    support::until(&ctx, due, summary, token).await;
    Ok(Event::Due(due))
}

fn start(
    ctx: Ctx,
    input: &DrainInput,
    machine: &Draining,
    work: &Work,
    token: WorkflowCancellationToken,
) -> LocalBoxFuture<'static, Happened> {
    let (key, temporal_namespace, build_id, apart) = (
        input.key.clone(),
        input.temporal_namespace.clone(),
        input.build_id.clone(),
        input.apart.clone(),
    );
    match work.clone() {
        Work::Wait => {
            let summary = format!("wait until no running workflow is pinned to {build_id}");
            let input = WaitDrainedInput {
                key,
                temporal_namespace,
                build_id,
                known: Some(machine.known()),
                apart,
                since: Some(machine.memory().since),
            };
            wait(ctx, input, summary, token).boxed_local()
        }
        Work::Count => {
            let (input, summary) = counting(input);
            count(ctx, input, summary, token).boxed_local()
        }
        Work::End {
            action,
            reason,
            until,
        } => {
            let summary = format!("{action} what is pinned to {build_id}");
            let input = EndOpenInput {
                key,
                temporal_namespace,
                build_id,
                action,
                reason,
                until,
                apart,
            };
            end(ctx, input, summary, token).boxed_local()
        }
        Work::Keep { until } => {
            let summary = format!("leave {build_id} as it is until {until:.0}");
            let input = KeepDrainedInput {
                key,
                temporal_namespace,
                build_id,
                until,
                apart,
            };
            keep(ctx, input, summary, token).boxed_local()
        }
        Work::Stop => {
            let summary = format!("stop the pods of {build_id}");
            let input = StopVersionInput {
                key,
                temporal_namespace,
                build_id,
                name: input.deployment_name.clone(),
                apart,
            };
            stop_pods(ctx, input, summary, token).boxed_local()
        }
        Work::Retire => {
            let summary = format!("remove record and Deployment of {build_id}");
            let memory = machine.memory();
            let input = RetireInput {
                key,
                temporal_namespace,
                build_id,
                name: input.deployment_name.clone(),
                keep: input.keep,
                stopped: !memory.never_served,
                last_current: memory.last_current,
                apart,
            };
            retire(ctx, input, summary, token).boxed_local()
        }
        Work::Finish(_) => std::future::pending().boxed_local(),
    }
}

async fn wait(
    ctx: Ctx,
    input: WaitDrainedInput,
    summary: String,
    token: WorkflowCancellationToken,
) -> Happened {
    let options = support::long_wait(summary, Some(token));
    ctx.execute_activity(WaitDrained, input, options)
        .await
        .map(Event::Waited)
        .map_err(support::unless_cancelled)
}

/// What is to be counted, in words as well.
fn counting(input: &DrainInput) -> (CountOpenInput, String) {
    let count = CountOpenInput {
        key: input.key.clone(),
        temporal_namespace: input.temporal_namespace.clone(),
        build_id: input.build_id.clone(),
        apart: input.apart.clone(),
    };
    let summary = format!(
        "count the running workflows that are pinned to {}",
        input.build_id
    );
    (count, summary)
}

/// What holds the version when its drain begins, if that is found out quickly.
pub(super) async fn first_count(ctx: &Ctx, input: &DrainInput) -> Option<CountOpenOutcome> {
    let (count, summary) = counting(input);
    let options = support::quick(summary, ctx.cancellation_token().child_token());
    let counted = ctx.execute_local_activity(CountOpen, count, options);
    counted.await.ok()
}

async fn count(
    ctx: Ctx,
    input: CountOpenInput,
    summary: String,
    token: WorkflowCancellationToken,
) -> Happened {
    // Within the workflow task that found the deadline passed, if that is quick: the result is written
    // down together with what follows from it.
    let options = support::quick(summary.clone(), token.clone());
    let counted = ctx.execute_local_activity(CountOpen, input.clone(), options);
    if let Ok(counted) = counted.await {
        return Ok(Event::Counted(counted));
    }
    let options = support::wait(summary, Some(token));
    ctx.execute_activity(CountOpen, input, options)
        .await
        .map(Event::Counted)
        .map_err(support::unless_cancelled)
}

async fn end(
    ctx: Ctx,
    input: EndOpenInput,
    summary: String,
    token: WorkflowCancellationToken,
) -> Happened {
    let options = support::wait(summary, Some(token));
    ctx.execute_activity(EndOpen, input, options)
        .await
        .map(Event::Ended)
        .map_err(support::unless_cancelled)
}

async fn keep(
    ctx: Ctx,
    input: KeepDrainedInput,
    summary: String,
    token: WorkflowCancellationToken,
) -> Happened {
    let options = support::long_wait(summary, Some(token));
    let kept = ctx
        .execute_activity(KeepDrained, input, options)
        .await
        .map_err(support::unless_cancelled)?;
    Ok(found(kept.in_use, kept.held).unwrap_or(Event::Kept))
}

async fn stop_pods(
    ctx: Ctx,
    input: StopVersionInput,
    summary: String,
    token: WorkflowCancellationToken,
) -> Happened {
    let options = support::wait(summary, Some(token));
    let stopped = ctx
        .execute_activity(StopVersion, input, options)
        .await
        .map_err(support::unless_cancelled)?;
    Ok(found(stopped.in_use, stopped.held).unwrap_or(Event::Stopped))
}

async fn retire(
    ctx: Ctx,
    input: RetireInput,
    summary: String,
    token: WorkflowCancellationToken,
) -> Happened {
    let options = support::wait(summary, Some(token));
    let retired = ctx
        .execute_activity(RetireVersion, input, options)
        .await
        .map_err(support::unless_cancelled)?;
    Ok(found(retired.routed, retired.in_use).unwrap_or(Event::Retired(retired.message)))
}

/// A version that turned out to be needed.
fn found(in_use: bool, held: bool) -> Option<Event> {
    if in_use {
        Some(Event::InUse)
    } else {
        held.then_some(Event::Held)
    }
}
