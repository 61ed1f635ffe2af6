//! Where a turn begins: with a look, or without one.

use temporalio_workflow::{WorkflowContext, WorkflowTermination};

use super::ProcessLifecycle;
use super::turn::run_steps;
use crate::contract::{Observation, Observe, ObserveInput, ProcessKey, Step};
use crate::plan::{Inbox, Plan, after_step};
use crate::support;

impl ProcessLifecycle {
    /// Whether there is something to do.
    pub(super) fn stirred(&self) -> bool {
        self.dirty || self.stepped
    }

    /// Begins a turn: how to look, what has arrived, and what there is to see if the last look tells it.
    pub(super) fn begin(&mut self) -> (ObserveInput, Inbox, Option<Observation>) {
        let inbox = Inbox {
            reports: std::mem::take(&mut self.reports),
            drained: std::mem::take(&mut self.drained),
            requests: std::mem::take(&mut self.requests),
            refused: std::mem::take(&mut self.refused),
        };
        let known = self.known(&inbox);
        let adopt = !self.state.adopted;
        let trouble = self.state.trouble.take();
        let input = ObserveInput {
            key: self.key.clone(),
            adopt,
            tries: trouble.as_ref().map_or(0, |(_, tries)| *tries),
            first: adopt && trouble.is_none() && inbox == Inbox::default(),
            behind: std::mem::take(&mut self.behind),
        };
        (input, inbox, known)
    }

    /// What there is to see, if the last look tells it: nothing has happened since but a step of a rollout.
    fn known(&mut self, inbox: &Inbox) -> Option<Observation> {
        let changed = std::mem::take(&mut self.dirty);
        let stepped = std::mem::take(&mut self.stepped);
        let quiet =
            stepped && !changed && *inbox == Inbox::default() && self.state.trouble.is_none();
        let seen = self.seen.take().filter(|_| quiet)?;
        after_step(&self.state, *seen)
    }

    /// Keeps what was seen for a step that may follow.
    pub(super) fn keep(&mut self, mut seen: Observation, plan: &Plan) {
        if seen.settings.rules > 5 && plan.tells_only() && self.state.trouble.is_none() {
            if let Some((_, mark)) = self
                .state
                .published
                .as_ref()
                .filter(|_| plan.status.is_some())
            {
                seen.status.clone_from(mark);
            }
            self.seen = self.state.rollout.is_some().then(|| Box::new(seen));
        }
    }
}

/// Looks at the world. A look that fails is an answer too.
pub(super) async fn observe(
    ctx: &WorkflowContext<ProcessLifecycle>,
    input: ObserveInput,
) -> Result<Observation, WorkflowTermination> {
    let options = support::local(format!("look at {}", input.key.worker_deployment()));
    match ctx.execute_local_activity(Observe, input, options).await {
        Ok(seen) => Ok(seen),
        Err(error) if error.as_cancelled().is_some() => Err(WorkflowTermination::cancelled()),
        Err(error) => Ok(Observation {
            failure: Some(support::failure(&error)),
            ..Observation::default()
        }),
    }
}

/// Makes the Deployment of a new Process. Whatever comes of it, a full look finds it.
pub(super) async fn first(
    ctx: &WorkflowContext<ProcessLifecycle>,
    key: &ProcessKey,
    seen: &Observation,
    steps: Vec<Step>,
) -> Result<(), WorkflowTermination> {
    if !steps.is_empty() {
        let outcome = run_steps(ctx, key, seen, steps, 0).await?;
        ctx.state_mut(|s| s.state.applied.extend(outcome.applied));
    }
    ctx.state_mut(|s| {
        s.behind = true;
        s.dirty = true;
    });
    Ok(())
}
