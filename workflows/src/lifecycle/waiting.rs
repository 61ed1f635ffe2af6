//! What a lifecycle sleeps for.

use std::time::Duration;

use futures::FutureExt as _;
use temporalio_workflow::{
    TimerOptions, WorkflowCancellationToken, WorkflowContext, WorkflowTermination,
};

use super::children::Children;
use super::closing::Closing;
use super::{HISTORY_LIMIT, ProcessLifecycle};
use crate::contract::StepFailure;

/// Sleeps until there is something to do; while a failure is being retried, not longer than its back-off.
pub(super) async fn wait(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &mut Children,
    closing: &mut Closing,
) -> Result<(), WorkflowTermination> {
    while wakes(ctx, children, closing).await? {}
    Ok(())
}

/// Sleeps once. Whether what has ended is a failure that has to be waited out.
async fn wakes(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &mut Children,
    closing: &mut Closing,
) -> Result<bool, WorkflowTermination> {
    let over = ctx.history_length() > HISTORY_LIMIT || ctx.continue_as_new_suggested();
    let retry = ctx.state(|s| s.state.trouble.clone());
    if over && retry.is_none() {
        return Ok(false);
    }
    let mut failed = false;
    let token = WorkflowCancellationToken::new();
    {
        let timer = async {
            let Some((failure, tries)) = &retry else {
                return std::future::pending().await;
            };
            let options = TimerOptions::builder(back_off(failure, *tries))
                .summary(format!(
                    "retry after {}: {}",
                    failure.category, failure.message
                ))
                .cancellation_token(token.clone())
                .build();
            ctx.timer(options).await;
        };
        let mut timer = std::pin::pin!(timer.fuse());
        let mut change = std::pin::pin!(ctx.wait_condition(ProcessLifecycle::stirred));
        let mut ended = std::pin::pin!(children.ended().fuse());
        let mut closed = std::pin::pin!(closing.ended().fuse());
        temporalio_workflow::workflows::select! {
            changed = change => changed.map_err(|_| WorkflowTermination::cancelled())?,
            reports = ended => ctx.state_mut(|s| s.reports.extend(reports)),
            (stage, ended) = closed => failed = ctx.state_mut(|s| s.closed(stage, ended)),
            () = timer => (),
        }
    }
    token.cancel();
    // What came together with a signal is known before the signal is judged: a task that was lost
    // with an operator brings both at once, and somebody may have asked for what is only possible now.
    if let Some(reports) = children.ended().now_or_never() {
        ctx.state_mut(|s| s.reports.extend(reports));
    }
    if let Some((stage, ended)) = closing.ended().now_or_never() {
        failed = ctx.state_mut(|s| s.closed(stage, ended));
    }
    Ok(failed && ctx.state(|s| !s.stirred() && s.reports.is_empty()))
}

/// Back-off of a failure: quick for what passes by itself, slow for what a person has to change
/// (whose correction arrives as a signal anyway), and not before whoever refused wants to be asked.
fn back_off(failure: &StepFailure, tries: u32) -> Duration {
    let (first, most) = if failure.category.retryable() {
        (500, 30_000)
    } else {
        (10_000, 300_000)
    };
    let asked = Duration::from_secs(failure.retry_after_seconds.unwrap_or_default().into());
    Duration::from_millis((first << tries.saturating_sub(1).min(10)).min(most)).max(asked)
}
