//! The work of a deletion: one heartbeating activity, replaced when something else is to be done.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use temporalio_workflow::{WorkflowCancellationToken, WorkflowContext};

use super::ProcessLifecycle;
use crate::contract::{
    CloseBy, CloseRuns, CloseRunsInput, CloseRunsOutcome, DeletionStage, StepFailure,
};
use crate::support;

type Ended = Result<CloseRunsOutcome, Option<StepFailure>>;

/// At most one activity.
#[derive(Default)]
pub(super) struct Closing {
    running: Option<Running>,
}

struct Running {
    input: CloseRunsInput,
    token: WorkflowCancellationToken,
    ended: LocalBoxFuture<'static, Ended>,
}

impl Closing {
    /// Goes on with what is wanted still, stops what is not, starts what is new.
    pub(super) fn turn_to(
        &mut self,
        ctx: &WorkflowContext<ProcessLifecycle>,
        wanted: Option<&CloseRunsInput>,
    ) {
        if self.running.as_ref().map(|running| &running.input) == wanted {
            return;
        }
        if let Some(running) = self.running.take() {
            running.token.cancel();
        }
        self.running = wanted.map(|input| {
            let token = ctx.cancellation_token().child_token();
            let (ctx, input) = (ctx.clone(), input.clone());
            let options = support::wait(summary(&input), Some(token.clone()));
            let asked = input.clone();
            let ended = async move {
                let ended = ctx.execute_activity(CloseRuns, asked, options).await;
                ended.map_err(support::unless_cancelled)
            };
            Running {
                input,
                token,
                ended: ended.boxed_local(),
            }
        });
    }

    /// Resolves when the activity has ended by itself.
    pub(super) async fn ended(&mut self) -> (DeletionStage, Ended) {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let ended = (&mut running.ended).await;
        let stage = running.input.stage;
        self.running = None;
        (stage, ended)
    }
}

impl ProcessLifecycle {
    /// Takes over how a stage of the deletion has ended.
    pub(super) fn closed(&mut self, stage: DeletionStage, ended: Ended) {
        self.dirty = true;
        match ended {
            Ok(outcome) => {
                if let Some(memory) = &mut self.state.deletion
                    && memory.stage == stage
                {
                    memory.progress = outcome.progress.clone();
                    memory.ended = Some(outcome);
                }
            }
            Err(Some(failure)) => {
                self.dirty = false;
                self.state.trouble = Some((failure, 1));
            }
            Err(None) => {}
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
