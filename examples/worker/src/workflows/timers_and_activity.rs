//! `TimersAndActivity`: something that takes a while and ends by itself.

// The SDK's macros make a public constant of each method, and nothing can document those.
#![allow(missing_docs)]

use super::worker_facts;
use crate::{
    activities::{Report, ReportInput, WorkerActivities},
    payload::Optional,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{
    ActivityOptions, TimerOptions, TimerResult, WorkflowContext, WorkflowResult,
    WorkflowTermination,
};

/// After this long without a heartbeat the server gives the activity to another worker.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Input of [`TimersAndActivity`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimersAndActivityInput {
    /// How many timers to wait for, one after the other; 1 when left out.
    pub timers: u32,
    /// How long each timer is; 100 when left out.
    pub timer_ms: u64,
    /// How long the activity at the end works, with heartbeats; 0 when left out.
    pub activity_ms: u64,
}

impl Default for TimersAndActivityInput {
    fn default() -> Self {
        Self {
            timers: 1,
            timer_ms: 100,
            activity_ms: 0,
        }
    }
}

/// Output of [`TimersAndActivity`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimersAndActivityOutput {
    /// The build id that ran the first workflow task.
    pub started_on: String,
    /// What the activity said, with the pod and the build id that ran it.
    pub report: Report,
}

/// Workflow type `TimersAndActivity`. Takes [`TimersAndActivityInput`], which may be left out, and
/// returns [`TimersAndActivityOutput`].
#[workflow]
#[derive(Default)]
pub struct TimersAndActivity;

#[workflow_methods]
impl TimersAndActivity {
    /// Runs the workflow.
    #[run(name = "TimersAndActivity")]
    pub async fn run(
        ctx: &mut WorkflowContext<Self>,
        input: Optional<TimersAndActivityInput>,
    ) -> WorkflowResult<TimersAndActivityOutput> {
        let input = input.0;
        let started_on = worker_facts(ctx, ctx.cancellation_token()).await?.build_id;
        for n in 1..=input.timers {
            let options = TimerOptions::builder(Duration::from_millis(input.timer_ms))
                .summary(format!("timer {n} of {}", input.timers))
                .build();
            if ctx.timer(options).await == TimerResult::Cancelled {
                return Err(WorkflowTermination::cancelled());
            }
        }
        let duration = Duration::from_millis(input.activity_ms);
        let options =
            ActivityOptions::with_start_to_close_timeout(duration + Duration::from_mins(1))
                .heartbeat_timeout(HEARTBEAT_TIMEOUT)
                .summary("say which pod this is".to_owned())
                .build();
        let report_input = ReportInput {
            duration_ms: input.activity_ms,
        };
        let report = ctx
            .execute_activity(WorkerActivities::report, report_input, options)
            .await?;
        Ok(TimersAndActivityOutput { started_on, report })
    }
}
