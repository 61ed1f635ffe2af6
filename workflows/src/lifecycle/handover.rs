//! What a run does before it continues as new.

use futures::FutureExt as _;
use temporalio_workflow::{WorkflowContext, WorkflowTermination};

use super::ProcessLifecycle;
use super::children::{self, Children, Whom};
use crate::contract::{Answer, Carried, LifecycleInput};

/// Whether the run may end here. What has come in and is not taken in yet goes with it; but an update has
/// its answer from the run that it was given to, so those that still wait are refused.
pub(super) async fn ready(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &mut Children,
) -> Result<bool, WorkflowTermination> {
    if ctx.state(|s| s.rules > 1 && !s.stirred()) {
        children::ask(ctx, children, Whom::All).await;
        if let Some(reports) = children.ended().now_or_never() {
            ctx.state_mut(|s| {
                s.reports.extend(reports);
                // With a failure they go over as they are.
                s.dirty |= s.state.trouble.is_none();
            });
        }
    }
    let (dirty, failing, reports, rules) = ctx.state(|s| {
        let failing = s.state.trouble.is_some();
        (s.stirred(), failing, !s.reports.is_empty(), s.rules)
    });
    if dirty {
        return Ok(false);
    }
    // What older rules decided has to replay: they held back for reports, and for updates for ever.
    if !failing || rules == 0 {
        return Ok(!(failing && reports) && ctx.all_handlers_finished());
    }
    if !ctx.all_handlers_finished() {
        ctx.state_mut(ProcessLifecycle::refuse_updates);
        let handlers = ctx.clone();
        ctx.wait_condition(move |_| handlers.all_handlers_finished())
            .await
            .map_err(|_| WorkflowTermination::cancelled())?;
    }
    Ok(ctx.state(|s| !s.stirred()))
}

impl ProcessLifecycle {
    /// Answers the updates whose verbs wait for a look: nothing was done, and nothing will be.
    fn refuse_updates(&mut self) {
        let failure = self.state.trouble.as_ref();
        let why = failure.map_or("", |(failure, _)| failure.message.as_str());
        let message = format!("it cannot be carried out now, ask again: {why}");
        for id in std::mem::take(&mut self.asking) {
            self.requests.retain(|request| request.id != id);
            let refused = Answer {
                accepted: false,
                message: message.clone(),
            };
            self.answers.entry(id).or_insert(refused);
        }
    }
}

/// Input of the next run.
pub(super) fn input(lifecycle: &mut ProcessLifecycle) -> LifecycleInput {
    let requests = std::mem::take(&mut lifecycle.requests);
    let carried = Carried {
        reports: std::mem::take(&mut lifecycle.reports),
        drained: std::mem::take(&mut lifecycle.drained),
        refused: std::mem::take(&mut lifecycle.refused),
        verbs: if requests.is_empty() {
            0
        } else {
            lifecycle.verbs
        },
        requests,
    };
    LifecycleInput {
        key: lifecycle.key.clone(),
        state: Some(lifecycle.state.clone()),
        carried: carried.shortened(),
    }
}
