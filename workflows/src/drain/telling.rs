//! What a drain tells its lifecycle, and when.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Fuse, FusedFuture as _, LocalBoxFuture};
use temporalio_workflow::{TimerOptions, WorkflowCancellationToken, WorkflowContext};

use super::works::timer_token;
use super::{DrainInput, ProcessDrain};
use crate::contract::{DrainProgress, DrainStage, DrainTold, Tell, TellInput};
use crate::lifecycle::ProcessLifecycle;
use crate::plan::draining::Draining;
use crate::support;
use crate::underway::UnderWay;

/// So long may nothing hold a version, or what is done about that take, without being told. Each telling is a
/// turn of the lifecycle, and most drains are over by then.
const PASSING: Duration = Duration::from_secs(5);

type Ctx = WorkflowContext<ProcessDrain>;

/// What is being told, and what is told if it lasts.
pub(super) struct Telling {
    sending: Fuse<LocalBoxFuture<'static, ()>>,
    passing: UnderWay<(), ()>,
    /// What may pass has lasted.
    lasted: bool,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            sending: Fuse::terminated(),
            passing: UnderWay::default(),
            lasted: false,
        }
    }
}

impl Telling {
    /// Begins to tell what is news, while the work goes on: an answer may take a workflow task of its own.
    pub(super) async fn turn_to(&mut self, ctx: &Ctx, input: &DrainInput, machine: &mut Draining) {
        let waits = input.terse && !self.lasted && may_pass(ctx, input, machine);
        let wanted = (waits && is_news(ctx, &machine.progress())).then_some(());
        self.passing.turn_to(
            wanted,
            |()| timer_token(ctx, input),
            |(), token| passing(ctx.clone(), token).boxed_local(),
        );
        if waits {
            return;
        }
        self.lasted = false;
        if let Some(message) = message(ctx, input, machine) {
            self.told().await;
            self.sending = send(ctx.clone(), input.clone(), message)
                .boxed_local()
                .fuse();
        }
    }

    /// Resolves when what may pass has lasted.
    pub(super) async fn next(&mut self) {
        let mut sending = &mut self.sending;
        let mut passed = std::pin::pin!(self.passing.ended().fuse());
        loop {
            temporalio_workflow::workflows::select! {
                _ = passed => break,
                () = sending => {}
            }
        }
        self.lasted = true;
    }

    /// Tells what is left to tell. What may pass is left to the next run, or to the result.
    pub(super) async fn finish(&mut self, ctx: &Ctx, input: &DrainInput, machine: &mut Draining) {
        self.passing.stop();
        self.told().await;
        if input.terse && may_pass(ctx, input, machine) {
            return;
        }
        if let Some(message) = message(ctx, input, machine) {
            send(ctx.clone(), input.clone(), message).await;
        }
    }

    /// Waits until what is being told is told. One that has ended is never ready again.
    async fn told(&mut self) {
        if !self.sending.is_terminated() {
            (&mut self.sending).await;
        }
    }
}

async fn passing(ctx: Ctx, token: WorkflowCancellationToken) {
    let options = TimerOptions::builder(PASSING)
        .summary("tell the lifecycle if this lasts".to_owned())
        .cancellation_token(token)
        .build();
    ctx.timer(options).await;
}

/// Nothing holds the version, and what follows from that is under way: if all goes well nobody has to know.
fn may_pass(ctx: &Ctx, input: &DrainInput, machine: &Draining) -> bool {
    let progress = machine.progress();
    let told_before = input.tells_stopping && progress.stage == DrainStage::Stopping;
    progress.open == Some(0)
        && !told_before
        && progress.ending.is_none()
        && progress.stage != DrainStage::Kept
        && machine.memory().notes.is_empty()
        && !ctx.state(|s| s.tell)
}

/// Whether the lifecycle knows something else. That a drain has begun it does know.
fn is_news(ctx: &Ctx, progress: &DrainProgress) -> bool {
    ctx.state(|s| match &s.told {
        Some(told) => told != progress,
        None => progress.stage != DrainStage::Waiting || progress.open.is_some(),
    })
}

/// What the lifecycle does not know yet.
fn message(ctx: &Ctx, input: &DrainInput, machine: &mut Draining) -> Option<DrainTold> {
    let progress = machine.progress();
    let again = ctx.state_mut(|s| std::mem::take(&mut s.tell));
    let notes = machine.take_notes();
    if notes.is_empty() && !again && !is_news(ctx, &progress) {
        return None;
    }
    ctx.state_mut(|s| s.told = Some(progress.clone()));
    Some(DrainTold {
        id: ctx.workflow_id().to_owned(),
        build_id: input.build_id.clone(),
        progress,
        notes,
        serial: machine.next_serial(),
    })
}

/// What has happened goes as a signal of this workflow, which is sent exactly once. How far it has come may
/// be told twice, and does not cost a workflow task when an activity of this one tells it.
async fn send(ctx: Ctx, input: DrainInput, message: DrainTold) {
    let what = "tell the lifecycle";
    if input.terse && message.notes.is_empty() {
        let tell = TellInput {
            key: input.key.clone(),
            drain: Some(message.clone()),
        };
        let options = support::quick(what.to_owned(), WorkflowCancellationToken::new());
        if ctx
            .execute_local_activity(Tell, tell, options)
            .await
            .is_ok()
        {
            return;
        }
    }
    let signal = ProcessLifecycle::drain_progress;
    support::signal_lifecycle(&ctx, &input.key, signal, &message, what).await;
}
