//! `ProcessRollout`: brings one version live. One execution per attempt, with its own status in
//! the Temporal UI: Completed, Failed (the message says which check failed) or Canceled.

#![allow(
    missing_docs,
    reason = "the SDK's macros add a public constant beside each method and drop attributes on the impl"
)]

use std::time::Duration;

use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ActivityOptions, SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult,
};

use crate::contract::{
    ChildKind, ProcessKey, QUEUE_ROUTING, SetCurrent, SetCurrentInput, StepFailure, WaitServing,
    WaitServingInput,
};
use crate::support;

/// Input of [`ProcessRollout`].
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RolloutInput {
    /// Which Process.
    pub key: ProcessKey,
    /// The version to bring live.
    pub build_id: String,
    /// Its Deployment.
    pub deployment_name: String,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// Their task queue.
    pub task_queue: String,
    /// When to give up.
    pub deadline: Timestamp,
}

/// One attempt to bring one version live.
#[workflow]
pub struct ProcessRollout {
    input: RolloutInput,
    /// The run that started it is gone: its successor wants a signal.
    asked: bool,
}

#[workflow_methods]
impl ProcessRollout {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: RolloutInput) -> Self {
        Self {
            input,
            asked: false,
        }
    }

    /// Waits for the workers, then routes to them.
    #[run(name = "ProcessRollout")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        let input = ctx.state(|s| s.input.clone());
        let result = roll_out(ctx, &input).await;
        let asked = ctx.state(|s| s.asked);
        let (key, build_id) = (&input.key, &input.build_id);
        support::conclude(ctx, key, ChildKind::Rollout, build_id, asked, result).await
    }

    /// Asks for a report by signal at the end. Any payload is taken.
    #[signal(name = "report")]
    pub fn report(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _raw: RawValue) {
        self.asked = true;
    }
}

/// `Err(None)` when told to stop.
async fn roll_out(
    ctx: &WorkflowContext<ProcessRollout>,
    input: &RolloutInput,
) -> Result<String, Option<StepFailure>> {
    ctx.set_current_details(format!(
        "Waiting until the pods of `{}` are ready and poll `{}`. It fails if that is not so at {:.0}.",
        input.deployment_name, input.task_queue, input.deadline
    ));
    let serving = ctx
        .execute_activity(
            WaitServing,
            WaitServingInput {
                key: input.key.clone(),
                build_id: input.build_id.clone(),
                deployment_name: input.deployment_name.clone(),
                temporal_namespace: input.temporal_namespace.clone(),
                task_queue: input.task_queue.clone(),
                deadline: input.deadline,
            },
            support::wait(format!(
                "wait until pods of {} are ready and poll {}",
                input.deployment_name, input.task_queue
            )),
        )
        .await
        .map_err(support::unless_cancelled)?;
    if !serving.serving {
        return Err(Some(StepFailure {
            category: serving
                .category
                .unwrap_or(ErrorCategory::ProgressDeadlineExceeded),
            message: serving.message,
        }));
    }
    ctx.set_current_details(format!(
        "Telling Temporal to send new workflows to `{}`.",
        input.build_id
    ));
    ctx.execute_activity(
        SetCurrent,
        SetCurrentInput {
            key: input.key.clone(),
            temporal_namespace: input.temporal_namespace.clone(),
            build_id: input.build_id.clone(),
        },
        ActivityOptions::with_start_to_close_timeout(Duration::from_secs(30))
            .task_queue(QUEUE_ROUTING)
            // A replica that was paused with this in its hands is noticed long before the time-out.
            .heartbeat_timeout(Duration::from_secs(5))
            .retry_policy(support::retry())
            .summary(format!("send new workflows to {}", input.build_id))
            .build(),
    )
    .await
    .map_err(support::unless_cancelled)?;
    ctx.set_current_details(format!("New workflows go to `{}`.", input.build_id));
    Ok(format!("{} is current", input.build_id))
}
