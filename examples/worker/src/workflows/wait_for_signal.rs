//! `WaitForSignal`: stays open until told, as a long business process would.

// The SDK's macros make a public constant of each method, and nothing can document those.
#![allow(missing_docs)]

use super::worker_facts;
use crate::{
    config::Config,
    payload::{Lenient, Optional},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{
    SyncWorkflowContext, WaitConditionOptions, WorkflowCancellationToken, WorkflowContext,
    WorkflowContextView, WorkflowResult,
};

/// Input of [`WaitForSignal`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitForSignalInput {
    /// Stay open when cancelled, so that only a signal or a termination ends the run.
    pub ignore_cancel: bool,
}

/// Payload of the signal `finish`. A payload that is missing or wrong counts as the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finish {
    /// Comes back in the output.
    pub note: String,
}

/// Output of [`WaitForSignal`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitForSignalOutput {
    /// The build id that ran the first workflow task.
    pub started_on: String,
    /// The build id that ran the last one.
    pub completed_on: String,
    /// The pod that ran the last one.
    pub completed_pod: String,
    /// The Worker Deployment Version that Temporal recorded for the last one, as `name:build`.
    /// An unversioned worker has no name, and its build id is a checksum unless it has one.
    pub completed_version: String,
    /// The signal's note.
    pub note: String,
}

/// Answer of the query `builds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Builds {
    /// The build id that ran the first workflow task.
    pub started_on: String,
    /// The build id that answered the query: the one that would run the next workflow task.
    pub served_by: String,
}

/// Workflow type `WaitForSignal`. Takes [`WaitForSignalInput`], which may be left out, waits for
/// the signal `finish` with [`Finish`] and returns [`WaitForSignalOutput`].
#[workflow]
pub struct WaitForSignal {
    worker_build_id: String,
    break_determinism: bool,
    started_on: String,
    finish: Option<Finish>,
}

impl WaitForSignal {
    /// A new run's state. Workers register the workflow with this, as two things do not come from
    /// the input: the worker's build id, which only queries see, and the fault
    /// `BREAK_DETERMINISM`, whose purpose is to be different on another worker.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            worker_build_id: config.build_id.clone(),
            break_determinism: config.faults.break_determinism,
            started_on: String::new(),
            finish: None,
        }
    }
}

#[workflow_methods(factory_only)]
impl WaitForSignal {
    /// Runs the workflow.
    #[run(name = "WaitForSignal")]
    pub async fn run(
        ctx: &mut WorkflowContext<Self>,
        input: Optional<WaitForSignalInput>,
    ) -> WorkflowResult<WaitForSignalOutput> {
        if ctx.state(|state| state.break_determinism) {
            // One command more, before the first that the other program issues: a history
            // written by either program is refused by the other.
            ctx.timer(Duration::from_millis(1)).await;
        }
        let cancellation = if input.0.ignore_cancel {
            // A token of its own hears nothing of the run's cancellation.
            WorkflowCancellationToken::new()
        } else {
            ctx.cancellation_token()
        };
        let started_on = worker_facts(ctx, cancellation.clone()).await?.build_id;
        ctx.state_mut(|state| state.started_on.clone_from(&started_on));

        let wait = WaitConditionOptions::builder()
            .cancellation_token(cancellation.clone())
            .build();
        ctx.wait_condition_with_options(|state| state.finish.is_some(), wait)
            .await?;

        let completed = worker_facts(ctx, cancellation).await?;
        let version = ctx.current_deployment_version();
        Ok(WaitForSignalOutput {
            started_on,
            completed_on: completed.build_id,
            completed_pod: completed.pod,
            completed_version: version
                .map(|v| format!("{}:{}", v.deployment_name, v.build_id))
                .unwrap_or_default(),
            note: ctx
                .state(|state| state.finish.clone())
                .unwrap_or_default()
                .note,
        })
    }

    /// Ends the run.
    #[signal(name = "finish")]
    pub fn finish(&mut self, _ctx: &mut SyncWorkflowContext<Self>, finish: Lenient<Finish>) {
        self.finish.get_or_insert(finish.0);
    }

    /// The build id of the worker that answers, which is the one the run is on.
    #[query(name = "build_id")]
    pub fn build_id(&self, _ctx: &WorkflowContextView) -> String {
        self.worker_build_id.clone()
    }

    /// The build ids the run was started on and is on.
    #[query(name = "builds")]
    pub fn builds(&self, _ctx: &WorkflowContextView) -> Builds {
        Builds {
            started_on: self.started_on.clone(),
            served_by: self.worker_build_id.clone(),
        }
    }
}
