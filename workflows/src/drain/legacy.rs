//! A drain that was started by an operator without drain policies: it goes on as it began until its
//! lifecycle tells it a policy.

use std::time::Duration;

use temporalio_workflow::{TimerOptions, TimerResult, WorkflowCancellationToken, WorkflowContext};

use super::{DrainInput, ProcessDrain};
use crate::contract::{RetireInput, RetireVersion, StepFailure, WaitDrained, WaitDrainedInput};
use crate::support;

/// `Err(None)` when told to stop.
pub(super) async fn retire(
    ctx: &WorkflowContext<ProcessDrain>,
    input: &DrainInput,
    token: &WorkflowCancellationToken,
) -> Result<String, Option<StepFailure>> {
    loop {
        ctx.set_current_details(format!(
            "Keeping the workers of `{}` until no running workflow is pinned to it.",
            input.build_id
        ));
        let waited = ctx
            .execute_activity(
                WaitDrained,
                WaitDrainedInput {
                    key: input.key.clone(),
                    temporal_namespace: input.temporal_namespace.clone(),
                    build_id: input.build_id.clone(),
                    ..WaitDrainedInput::default()
                },
                support::wait(
                    format!(
                        "wait until no running workflow is pinned to {}",
                        input.build_id
                    ),
                    Some(token.clone()),
                ),
            )
            .await
            .map_err(support::unless_cancelled)?;
        if waited.in_use {
            return Ok(format!("{} is in use again", input.build_id));
        }
        if !waited.never_served && input.scale_down_delay_seconds > 0 {
            ctx.set_current_details(format!(
                "`{}` is drained; its pods stay {} s more so that activities in flight end.",
                input.build_id, input.scale_down_delay_seconds
            ));
            let delay = Duration::from_secs(input.scale_down_delay_seconds.unsigned_abs());
            let fired = ctx
                .timer(
                    TimerOptions::builder(delay)
                        .summary(format!("let running activities of {} end", input.build_id))
                        .cancellation_token(token.clone())
                        .build(),
                )
                .await;
            if matches!(fired, TimerResult::Cancelled) {
                return Err(None);
            }
        }
        ctx.set_current_details(format!(
            "Removing workers and records of `{}`.",
            input.build_id
        ));
        let retired = ctx
            .execute_activity(
                RetireVersion,
                RetireInput {
                    key: input.key.clone(),
                    temporal_namespace: input.temporal_namespace.clone(),
                    build_id: input.build_id.clone(),
                    name: input.deployment_name.clone(),
                    keep: input.keep,
                    ..RetireInput::default()
                },
                support::wait(
                    format!("remove workers and record of {}", input.build_id),
                    Some(token.clone()),
                ),
            )
            .await
            .map_err(support::unless_cancelled)?;
        if retired.in_use {
            // Work came back between the drain and the removal: drain again.
            continue;
        }
        ctx.set_current_details(format!("`{}` is gone.", input.build_id));
        return Ok(format!("{} is gone; {}", input.build_id, retired.message));
    }
}
