//! The work of a deletion: one heartbeating activity, replaced when something else is to be done.

use futures::FutureExt as _;
use temporalio_workflow::WorkflowContext;

use super::ProcessLifecycle;
use crate::contract::{
    CloseBy, CloseRuns, CloseRunsInput, CloseRunsOutcome, DeletionStage, StepFailure,
};
use crate::support;
use crate::underway::UnderWay;

type Ended = Result<CloseRunsOutcome, Option<StepFailure>>;

/// At most one activity.
#[derive(Default)]
pub(super) struct Closing(UnderWay<CloseRunsInput, Ended>);

impl Closing {
    /// Goes on with what is wanted still, stops what is not, starts what is new.
    pub(super) fn turn_to(
        &mut self,
        ctx: &WorkflowContext<ProcessLifecycle>,
        wanted: Option<CloseRunsInput>,
    ) {
        self.0.turn_to(
            wanted,
            |_| ctx.cancellation_token().child_token(),
            |input, token| {
                let options = support::wait(summary(input), Some(token));
                let (ctx, input) = (ctx.clone(), input.clone());
                let ended = async move {
                    let ended = ctx.execute_activity(CloseRuns, input, options).await;
                    ended.map_err(support::unless_cancelled)
                };
                ended.boxed_local()
            },
        );
    }

    /// Resolves when the activity has ended by itself.
    pub(super) async fn ended(&mut self) -> (DeletionStage, Ended) {
        let (input, ended) = self.0.ended().await;
        (input.stage, ended)
    }
}

impl ProcessLifecycle {
    /// Whether a child's report has come and is not taken in yet.
    pub(super) fn has_report(&self, id: &str) -> bool {
        self.reports.iter().any(|report| report.id == id)
    }

    /// Takes over how a stage of the deletion has ended. Whether it is to be tried again after a while.
    pub(super) fn closed(&mut self, stage: DeletionStage, ended: Ended) -> bool {
        self.dirty = true;
        match ended {
            Ok(outcome) => {
                if let Some(memory) = &mut self.state.deletion
                    && memory.stage == stage
                {
                    memory.progress = outcome.progress.clone();
                    memory.ended = Some(outcome);
                    memory.failed = 0;
                }
                false
            }
            Err(Some(failure)) => {
                self.dirty = false;
                self.stepped = false;
                let mut tries = 1;
                if self.rules > 1
                    && let Some(memory) = &mut self.state.deletion
                {
                    memory.failed += 1;
                    tries = memory.failed;
                    memory.progress.trouble = Some(failure.clone());
                }
                self.state.trouble = Some((failure, tries));
                self.rules > 1
            }
            Err(None) => false,
        }
    }
}

/// What it does, for the Temporal UI.
fn summary(input: &CloseRunsInput) -> String {
    let until = input
        .until
        .map(|until| format!(", until {until:.0}"))
        .unwrap_or_default();
    let queue = &input.task_queue;
    match input.end {
        None => format!("wait until no workflow is open on {queue}{until}"),
        Some(CloseBy::Cancel) => format!("cancel the workflows that are open on {queue}{until}"),
        Some(CloseBy::Terminate) => format!("terminate the workflows that are open on {queue}"),
    }
}
