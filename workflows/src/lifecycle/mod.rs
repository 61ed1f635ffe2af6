//! `ProcessLifecycle`: one durable workflow for each Process.
//!
//! It sleeps until a signal says that something may have changed, looks at the world through an
//! activity, decides ([`crate::plan`]), acts through an activity, and sleeps again. A settled
//! Process has no timer, no poll and no write.

#![allow(
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "the SDK's macros add a public constant beside each method, drop attributes on the impl, and \
              want handlers that take their input by value"
)]

mod children;
mod closing;
mod handover;
mod look;
mod requests;
mod turn;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ContinueAsNewOptions, SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult,
};

use self::children::Children;
use self::closing::Closing;
use self::requests::Refusal;
use self::waiting::wait;
use crate::contract::{
    Answer, ChangeKind, Changed, ChildFinished, DeletionProgress, DrainTold, LifecycleInput,
    Observation, ProcessKey, Request, RolloutProgress, State, Verb,
};
use crate::support;

/// Above this many events the run continues as new: replays stay short, far from the server's
/// warning at 10 240 events.
const HISTORY_LIMIT: u32 = 2_000;

/// The lifecycle of one Process.
#[workflow]
pub struct ProcessLifecycle {
    key: ProcessKey,
    state: State,
    /// Something may have changed that only a look tells.
    dirty: bool,
    /// A rollout has told of a step.
    stepped: bool,
    /// There is a Deployment now: others without one go first.
    behind: bool,
    /// What the last look has given, as long as it may do for the next step of a rollout.
    seen: Option<Box<Observation>>,
    reports: Vec<ChildFinished>,
    /// What drains have told.
    drained: Vec<DrainTold>,
    refused: Vec<String>,
    /// Children of earlier runs that were asked to report by signal.
    asked: BTreeSet<String>,
    /// Verbs that wait for their turn.
    requests: Vec<Request>,
    /// Those of them whose updates wait for an answer.
    asking: BTreeSet<String>,
    /// What became of those asked for by update, until the update takes it.
    answers: BTreeMap<String, Answer>,
    /// Verbs so far; tells them apart.
    verbs: u32,
    /// The rules of the operator that looked last.
    rules: u32,
}

/// How a lifecycle ended.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LifecycleResult {
    /// For people.
    pub message: String,
}

#[workflow_methods]
impl ProcessLifecycle {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: LifecycleInput) -> Self {
        // Looks once in any case: what was signalled before a continue-as-new is covered by that, or carried.
        let carried = input.carried;
        Self {
            key: input.key,
            state: input.state.unwrap_or_default(),
            dirty: true,
            stepped: false,
            behind: false,
            seen: None,
            reports: carried.reports,
            drained: carried.drained,
            refused: carried.refused,
            asked: BTreeSet::new(),
            requests: carried.requests,
            asking: BTreeSet::new(),
            answers: BTreeMap::new(),
            verbs: carried.verbs,
            rules: 0,
        }
    }

    /// The loop.
    #[run(name = "ProcessLifecycle")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<LifecycleResult> {
        let mut children = Children::default();
        let mut closing = Closing::default();
        loop {
            wait(ctx, &mut children, &mut closing).await?;
            // A failure that lasts for days is retried in one run after the other.
            if (ctx.continue_as_new_suggested() || ctx.history_length() > HISTORY_LIMIT)
                && handover::ready(ctx, &mut children).await?
            {
                let input = ctx.state_mut(handover::input);
                ctx.continue_as_new(input, ContinueAsNewOptions::default())?;
            }
            if let Some(result) = turn::turn(ctx, &mut children, &mut closing).await? {
                return Ok(result);
            }
        }
    }

    /// Something may have changed. Takes anything; see [`Changed`].
    #[signal(name = "changed")]
    pub fn changed(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        match support::decode::<Changed>(&raw) {
            Ok(changed) => match changed.kind.parse::<ChangeKind>() {
                // It finds that something is not done, which is known: somebody asked to be left
                // alone until then.
                Ok(ChangeKind::Sweep) if self.state.must_wait() => return,
                // What it misses may be a child that was terminated and cannot tell: all are asked again.
                Ok(ChangeKind::Sweep) if self.rules > 1 => self.asked.clear(),
                Err(_) if self.state.unknown.len() < State::UNKNOWN => {
                    self.state.unknown.push(changed);
                }
                Ok(_) | Err(_) => {}
            },
            Err(why) => self.refused.push(format!("signal changed ignored: {why}")),
        }
        self.dirty = true;
    }

    /// How far a rollout has come. Takes anything; see [`RolloutProgress`].
    #[signal(name = "progress")]
    pub fn progress(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        match support::decode::<RolloutProgress>(&raw) {
            Ok(report) => {
                if let Some(rollout) = &mut self.state.rollout
                    && rollout.id == report.id
                {
                    rollout.take_in(report.progress);
                    self.stepped = true;
                }
            }
            Err(why) => {
                self.refused.push(format!("signal progress ignored: {why}"));
                self.dirty = true;
            }
        }
    }

    /// How far a deletion has come. Takes anything; see [`DeletionProgress`].
    #[signal(name = "deletion")]
    pub fn deletion(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        match support::decode::<DeletionProgress>(&raw) {
            Ok(progress) => {
                if let Some(memory) = &mut self.state.deletion
                    && memory.stage == progress.stage
                    && memory.ended.is_none()
                {
                    memory.progress = progress;
                    self.dirty = true;
                }
            }
            Err(why) => {
                self.refused.push(format!("signal deletion ignored: {why}"));
                self.dirty = true;
            }
        }
    }

    /// Hold the rollout where it is. Answers what follows.
    #[update(name = "pause")]
    pub async fn pause(ctx: &mut WorkflowContext<Self>, raw: RawValue) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::Pause, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(pause)]
    fn check_pause(&self, _ctx: &WorkflowContextView, raw: &RawValue) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::Pause, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "pause")]
    pub fn signal_pause(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        requests::take(self, Verb::Pause, &raw);
    }

    /// Let a paused or held rollout go on. Answers what follows.
    #[update(name = "resume")]
    pub async fn resume(ctx: &mut WorkflowContext<Self>, raw: RawValue) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::Resume, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(resume)]
    fn check_resume(&self, _ctx: &WorkflowContextView, raw: &RawValue) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::Resume, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "resume")]
    pub fn signal_resume(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        requests::take(self, Verb::Resume, &raw);
    }

    /// Take the next step now, or all with `full`. Answers what follows.
    #[update(name = "promote")]
    pub async fn promote(
        ctx: &mut WorkflowContext<Self>,
        raw: RawValue,
    ) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::Promote, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(promote)]
    fn check_promote(&self, _ctx: &WorkflowContextView, raw: &RawValue) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::Promote, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "promote")]
    pub fn signal_promote(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        requests::take(self, Verb::Promote, &raw);
    }

    /// Back to the version that served before. Answers what follows.
    #[update(name = "abort")]
    pub async fn abort(ctx: &mut WorkflowContext<Self>, raw: RawValue) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::Abort, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(abort)]
    fn check_abort(&self, _ctx: &WorkflowContextView, raw: &RawValue) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::Abort, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "abort")]
    pub fn signal_abort(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        requests::take(self, Verb::Abort, &raw);
    }

    /// Do again what failed. Answers what follows.
    #[update(name = "retry")]
    pub async fn retry(ctx: &mut WorkflowContext<Self>, raw: RawValue) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::Retry, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(retry)]
    fn check_retry(&self, _ctx: &WorkflowContextView, raw: &RawValue) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::Retry, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "retry")]
    pub fn signal_retry(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        requests::take(self, Verb::Retry, &raw);
    }

    /// Bring an earlier version back. Answers what follows.
    #[update(name = "undo")]
    pub async fn undo(ctx: &mut WorkflowContext<Self>, raw: RawValue) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::Undo, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(undo)]
    fn check_undo(&self, _ctx: &WorkflowContextView, raw: &RawValue) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::Undo, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "undo")]
    pub fn signal_undo(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        requests::take(self, Verb::Undo, &raw);
    }

    /// Restart the pods of the current version. Answers what follows.
    #[update(name = "restart")]
    pub async fn restart(
        ctx: &mut WorkflowContext<Self>,
        raw: RawValue,
    ) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::Restart, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(restart)]
    fn check_restart(&self, _ctx: &WorkflowContextView, raw: &RawValue) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::Restart, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "restart")]
    pub fn signal_restart(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        requests::take(self, Verb::Restart, &raw);
    }

    /// End the workflows that hold an old version, or move them to the current one. Answers what
    /// follows.
    #[update(name = "forceCancelDrain")]
    pub async fn force_cancel_drain(
        ctx: &mut WorkflowContext<Self>,
        raw: RawValue,
    ) -> Result<Answer, Refusal> {
        requests::ask(ctx, Verb::ForceCancelDrain, &raw).await
    }

    /// Refuses at once what cannot be done.
    #[update_validator(force_cancel_drain)]
    fn check_force_cancel_drain(
        &self,
        _ctx: &WorkflowContextView,
        raw: &RawValue,
    ) -> Result<(), Refusal> {
        requests::check(&self.state, Verb::ForceCancelDrain, raw)
    }

    /// The same as the update, for people in the Temporal UI.
    #[signal(name = "forceCancelDrain")]
    pub fn signal_force_cancel_drain(
        &mut self,
        _ctx: &mut SyncWorkflowContext<Self>,
        raw: RawValue,
    ) {
        requests::take(self, Verb::ForceCancelDrain, &raw);
    }

    /// How far a drain has come. Takes anything; see [`DrainTold`].
    #[signal(name = "drain-progress")]
    pub fn drain_progress(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        match support::decode::<DrainTold>(&raw) {
            Ok(told) => self.drained.push(told),
            Err(why) => self
                .refused
                .push(format!("signal drain-progress ignored: {why}")),
        }
        self.dirty = true;
    }

    /// A child ended. Takes anything; see [`ChildFinished`].
    #[signal(name = "child-finished")]
    pub fn child_finished(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        match support::decode::<ChildFinished>(&raw) {
            Ok(report) => self.reports.push(report),
            Err(why) => self
                .refused
                .push(format!("signal child-finished ignored: {why}")),
        }
        self.dirty = true;
    }
}
