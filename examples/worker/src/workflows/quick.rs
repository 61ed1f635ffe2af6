//! `Quick`: ends at once.

// The SDK's macros make a public constant of each method, and nothing can document those.
#![allow(missing_docs)]

use super::{failure, worker_facts};
use crate::{eventing::Bound, faults::in_share, payload::Optional};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{WorkflowContext, WorkflowResult};

/// Input of [`Quick`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuickInput {
    /// Fail, whatever `FAIL_PERCENT` says.
    pub fail: bool,
}

/// Output of [`Quick`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuickOutput {
    /// The build id of the worker that ran it.
    pub build_id: String,
    /// That worker's `PROCESS_DEFINITION_ID`.
    pub definition_id: String,
    /// That worker's `PROCESS_TENANT_ID`.
    pub tenant_id: String,
    /// The definition that the worker read, by file.
    pub definition: BTreeMap<String, String>,
    /// Topics that the worker is bound to, by name.
    pub bindings: BTreeMap<String, Bound>,
    /// That worker's pod.
    pub pod: String,
}

/// Workflow type `Quick`. Takes [`QuickInput`], which may be left out, and returns
/// [`QuickOutput`]; fails with type `QuickFailed`.
#[workflow]
#[derive(Default)]
pub struct Quick;

#[workflow_methods]
impl Quick {
    /// Runs the workflow.
    #[run(name = "Quick")]
    pub async fn run(
        ctx: &mut WorkflowContext<Self>,
        input: Optional<QuickInput>,
    ) -> WorkflowResult<QuickOutput> {
        let facts = worker_facts(ctx, ctx.cancellation_token()).await?;
        if in_share(ctx.workflow_id(), facts.fail_task_percent) {
            ctx.force_task_fail("FAIL_TASK_PERCENT is set and this run is in its share");
            // The task fails with whatever else this code would do; the run waits for the next.
            std::future::pending::<()>().await;
        }
        if input.0.fail || in_share(ctx.workflow_id(), facts.fail_percent) {
            let message = format!("Quick failed on build {:?}, as told", facts.build_id);
            return Err(failure("QuickFailed", message).into());
        }
        Ok(QuickOutput {
            build_id: facts.build_id,
            definition_id: facts.definition_id,
            tenant_id: facts.tenant_id,
            definition: facts.definition,
            bindings: facts.bindings,
            pod: facts.pod,
        })
    }
}
