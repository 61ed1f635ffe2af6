//! `ProcessDrain`: retires one version. It waits until the server says that no running workflow is
//! pinned to it, lets what is in flight end, then removes its workers and its records.

#![allow(
    missing_docs,
    reason = "the SDK's macros add a public constant beside each method and drop attributes on the impl"
)]

use std::time::Duration;

use process_operator_crds::spec::Versioning;
use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    SyncWorkflowContext, TimerOptions, TimerResult, WorkflowContext, WorkflowContextView,
    WorkflowResult,
};

use crate::contract::{
    ChildKind, ProcessKey, RetireInput, RetireVersion, StepFailure, WaitDrained, WaitDrainedInput,
};
use crate::support;

/// Input of [`ProcessDrain`].
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DrainInput {
    /// Which Process.
    pub key: ProcessKey,
    /// The version to retire.
    pub build_id: String,
    /// Its Deployment; empty when only the server knows the version.
    pub deployment_name: String,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// How long the pods stay after the last workflow ended, so that activities in flight end.
    pub scale_down_delay_seconds: i64,
    /// How many versions that were current are kept for a rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<i32>,
    /// What keeps versions apart.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
    /// Task queue of the Process, where versions have queues of their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task_queue: String,
}

/// The retirement of one version.
#[workflow]
pub struct ProcessDrain {
    input: DrainInput,
    /// The run that started it is gone: its successor wants a signal.
    asked: bool,
}

#[workflow_methods]
impl ProcessDrain {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: DrainInput) -> Self {
        Self {
            input,
            asked: false,
        }
    }

    /// Waits for the last workflow, then removes the version.
    #[run(name = "ProcessDrain")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        let input = ctx.state(|s| s.input.clone());
        let result = retire(ctx, &input).await;
        let asked = ctx.state(|s| s.asked);
        let (key, build_id) = (&input.key, &input.build_id);
        support::conclude(ctx, key, ChildKind::Drain, build_id, asked, result).await
    }

    /// Asks for a report by signal at the end. Any payload is taken.
    #[signal(name = "report")]
    pub fn report(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _raw: RawValue) {
        self.asked = true;
    }
}

/// `Err(None)` when told to stop.
async fn retire(
    ctx: &WorkflowContext<ProcessDrain>,
    input: &DrainInput,
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
                    versioning: input.versioning,
                    task_queue: input.task_queue.clone(),
                },
                support::wait(
                    format!(
                        "wait until no running workflow is pinned to {}",
                        input.build_id
                    ),
                    None,
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
                    versioning: input.versioning,
                    task_queue: input.task_queue.clone(),
                },
                support::wait(
                    format!("remove workers and record of {}", input.build_id),
                    None,
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
