//! `Verify`: the kind of workflow that a rollout asks before it sends traffic.

// The SDK's macros make a public constant of each method, and nothing can document those.
#![allow(missing_docs)]

use super::{failure, worker_facts};
use crate::payload::Optional;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{TimerResult, WorkflowContext, WorkflowResult, WorkflowTermination};

/// Input of [`Verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyInput {
    /// Whether to succeed; true when left out.
    pub ok: bool,
    /// What to say, in the output or in the failure.
    pub message: String,
    /// How long to think.
    pub delay_ms: u64,
}

impl Default for VerifyInput {
    fn default() -> Self {
        Self {
            ok: true,
            message: String::new(),
            delay_ms: 0,
        }
    }
}

/// Output of [`Verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyOutput {
    /// Always true: a failed verification is a failed run.
    pub ok: bool,
    /// The build id that was verified.
    pub build_id: String,
    /// The input's message.
    pub message: String,
}

/// Workflow type `Verify`. Takes [`VerifyInput`], which may be left out, and returns
/// [`VerifyOutput`]; fails with type `VerificationFailed`, which a retry policy may retry.
#[workflow]
#[derive(Default)]
pub struct Verify;

#[workflow_methods]
impl Verify {
    /// Runs the workflow.
    #[run(name = "Verify")]
    pub async fn run(
        ctx: &mut WorkflowContext<Self>,
        input: Optional<VerifyInput>,
    ) -> WorkflowResult<VerifyOutput> {
        let input = input.0;
        let facts = worker_facts(ctx, ctx.cancellation_token()).await?;
        if input.delay_ms > 0 {
            let timer = ctx.timer(Duration::from_millis(input.delay_ms)).await;
            if timer == TimerResult::Cancelled {
                return Err(WorkflowTermination::cancelled());
            }
        }
        if !input.ok || facts.fail_verify {
            let message = format!(
                "build {:?} was not accepted: {}",
                facts.build_id,
                if input.message.is_empty() {
                    "as told"
                } else {
                    &input.message
                }
            );
            return Err(failure("VerificationFailed", message).into());
        }
        Ok(VerifyOutput {
            ok: true,
            build_id: facts.build_id,
            message: input.message,
        })
    }
}
