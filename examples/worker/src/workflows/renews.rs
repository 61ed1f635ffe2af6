//! `Renews`: goes on in one run after the other, as a workflow that lives for years would.

// The SDK's macros make a public constant of each method, and nothing can document those.
#![allow(missing_docs)]

use crate::payload::Optional;
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{
    ContinueAsNewOptions, TimerOptions, WorkflowCancellationToken, WorkflowContext, WorkflowResult,
    WorkflowTermination, workflows,
};

/// Input of [`Renews`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RenewsInput {
    /// How long each run lasts; 200 when left out.
    pub run_ms: u64,
}

impl Default for RenewsInput {
    fn default() -> Self {
        Self { run_ms: 200 }
    }
}

/// Workflow type `Renews`. Takes [`RenewsInput`], which may be left out, and continues as new until
/// it is cancelled.
#[workflow]
#[derive(Default)]
pub struct Renews;

#[workflow_methods]
impl Renews {
    /// Runs the workflow.
    #[run(name = "Renews")]
    pub async fn run(
        ctx: &mut WorkflowContext<Self>,
        input: Optional<RenewsInput>,
    ) -> WorkflowResult<()> {
        // A token of its own: the SDK (1.1) cannot bear that the timer fires in the task in which the workflow, and
        // with it its timers, are cancelled.
        let timer = TimerOptions::builder(Duration::from_millis(input.0.run_ms))
            .cancellation_token(WorkflowCancellationToken::new())
            .build();
        let cancelled = {
            let mut cancelled = std::pin::pin!(ctx.cancelled().fuse());
            let mut timer = std::pin::pin!(ctx.timer(timer).fuse());
            workflows::select! {
                _ = cancelled => true,
                _ = timer => false,
            }
        };
        if cancelled {
            return Err(WorkflowTermination::cancelled());
        }
        ctx.continue_as_new(input, ContinueAsNewOptions::default())?;
        Ok(())
    }
}
