//! `ProcessRollout`: brings one version live. One execution per attempt, with its own status in
//! the Temporal UI: Completed, Failed (the message says which check failed) or Canceled.
//!
//! What comes after what is decided by [`crate::plan::machine`]; here it is carried out.

#![allow(
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "the SDK's macros add a public constant beside each method, drop attributes on the impl, and \
              want handlers that take their input by value"
)]

mod details;
mod works;

use futures::FutureExt as _;
use jiff::Timestamp;
use process_operator_crds::names;
use process_operator_crds::spec::Versioning;
use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult,
};

use crate::contract::{
    ChildKind, Order, ProcessKey, Progress, RolloutOrder, RolloutPolicy, RolloutProgress, Stage,
};
use crate::plan::machine::{Event, Machine, Work};
use crate::support;
use details::details;
use works::Works;

/// Input of [`ProcessRollout`].
#[allow(
    clippy::struct_excessive_bools,
    reason = "a payload: each was added after others"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RolloutInput {
    /// Which Process.
    pub key: ProcessKey,
    /// The version to bring live.
    pub build_id: String,
    /// Its Deployment.
    pub deployment_name: String,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// Their task queue.
    pub task_queue: String,
    /// When to give up waiting for its workers.
    pub deadline: Timestamp,
    /// How it takes over.
    pub policy: RolloutPolicy,
    /// The version that serves; empty when none does.
    pub stable: String,
    /// Without steps and gates: a first version, or one that has served before.
    pub at_once: bool,
    /// Paused from the beginning.
    pub paused: bool,
    /// Routing is taken back from whoever manages it.
    pub take_over: bool,
    /// What keeps versions apart.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
    /// Seconds in which pods must become ready, where a change of routing is a change of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_within: Option<i64>,
    /// What an operator does that `false` says did not start it: a change of routing that is under way is waited
    /// for before it is taken back, a promotion too; how a gate ended is told before its version is made Current; a
    /// pause is held to the server's clock; ids of gates name the run; evidence that was passed over does not count for
    /// the next step.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub revised: bool,
    /// Its timers end with what they time, and not with the cancel of the workflow itself, in whose task they may
    /// go off: the SDK (1.1.1) does not bear both. `false`: started by an operator that had them end so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_timers: bool,
}

impl RolloutInput {
    /// Task queue that the workers of the version poll.
    fn version_queue(&self) -> String {
        names::task_queue(self.versioning, &self.task_queue, &self.build_id)
    }
}

/// One attempt to bring one version live.
#[workflow]
pub struct ProcessRollout {
    input: RolloutInput,
    /// The run that started it is gone: its successor wants a signal.
    asked: bool,
    /// Signals not yet taken in.
    orders: Vec<RolloutOrder>,
    /// What the lifecycle was last told.
    told: Progress,
    /// It wants to be told again.
    tell: bool,
    /// An activity has told it a time by a clock that is off.
    off: bool,
}

#[workflow_methods]
impl ProcessRollout {
    #[init]
    fn new(_ctx: &WorkflowContextView, input: RolloutInput) -> Self {
        Self {
            input,
            asked: false,
            orders: Vec::new(),
            told: Progress::default(),
            tell: false,
            off: false,
        }
    }

    /// Waits until the version serves, then makes it Current, by the steps of its policy.
    #[run(name = "ProcessRollout")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        let input = ctx.state(|s| s.input.clone());
        let machine = course(ctx, &input).await;
        let build_id = &input.build_id;
        let result = machine.outcome().map(|()| format!("{build_id} is current"));
        if result.is_ok() {
            ctx.set_current_details(format!("New workflows go to `{build_id}`."));
        }
        let asked = ctx.state(|s| s.asked);
        support::conclude(ctx, &input.key, ChildKind::Rollout, build_id, asked, result).await
    }

    /// Asks for a report by signal at the end. Any payload is taken.
    #[signal(name = "report")]
    pub fn report(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _raw: RawValue) {
        self.asked = true;
        self.tell = true;
    }

    /// What to do, from the lifecycle. What cannot be read is dropped: people give their orders to
    /// the lifecycle, which answers.
    #[signal(name = "order")]
    pub fn order(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        if let Ok(order) = support::decode::<RolloutOrder>(&raw) {
            self.orders.push(order);
        }
    }
}

/// From the beginning to the end.
async fn course(ctx: &WorkflowContext<ProcessRollout>, input: &RolloutInput) -> Machine {
    let mut machine = Machine::new(input.policy.clone(), input.at_once, input.paused)
        .first(input.stable.is_empty())
        .replaces_pods(input.versioning == Versioning::None)
        .recalls(input.revised);
    let mut works = Works::default();
    let mut cancelled = false;
    loop {
        for RolloutOrder { order, why, step } in ctx.state_mut(|s| std::mem::take(&mut s.orders)) {
            machine.out_of(step);
            machine.apply(Event::Ordered(order, why));
        }
        let work = machine.work();
        if work == Work::End {
            works.stop();
            return machine;
        }
        ctx.set_current_details(details(input, works::run(ctx), &machine, &work));
        works.turn_to(ctx, input, &machine, work);
        tell(ctx, input, &machine).await;
        let event = if cancelled {
            // Nothing is heard any more: what is left is taking the weight back.
            Some(works.next().await)
        } else {
            let mut ended = std::pin::pin!(ctx.cancelled());
            let mut ordered =
                std::pin::pin!(ctx.wait_condition(|s| !s.orders.is_empty() || s.tell));
            let mut next = std::pin::pin!(works.next().fuse());
            temporalio_workflow::workflows::select! {
                _ = ended => {
                    cancelled = true;
                    Some(Event::Cancelled)
                }
                _ = ordered => None,
                event = next => Some(event),
            }
        };
        if let Some(event) = event {
            if let Event::Weighted(_) = event {
                // The activity has told the lifecycle already.
                machine.apply(event);
                ctx.state_mut(|s| {
                    if !std::mem::take(&mut s.off) {
                        s.told = machine.progress().clone();
                    }
                });
            } else {
                machine.apply(event);
            }
        }
    }
}

/// Tells the lifecycle what it cannot know by itself: that nobody but a person leads on, what is
/// missing, what is being looked at. The rest shows in the routing.
async fn tell(ctx: &WorkflowContext<ProcessRollout>, input: &RolloutInput, machine: &Machine) {
    let now = machine.progress();
    // How the last gate ended shows while the version is being made Current, if it says so before that.
    let ended = input.revised && now.stage == Stage::Promoting;
    let (told, again) = ctx.state_mut(|s| (s.told.clone(), std::mem::take(&mut s.tell)));
    let plain = matches!(
        now.stage,
        Stage::Starting | Stage::Weighting | Stage::Promoting | Stage::Unwinding
    ) && now.hold.is_none()
        && told.hold.is_none()
        && !(ended && now.gate != told.gate);
    if !again && (plain || told == *now) {
        return;
    }
    ctx.state_mut(|s| s.told = now.clone());
    let mut report = RolloutProgress {
        id: ctx.workflow_id().to_owned(),
        progress: now.clone(),
    };
    if let Work::Gate { gate, attempt, .. } = machine.work() {
        let id = works::gate_id(input, works::run(ctx), attempt);
        let runs = format!("gate workflow {} ({id}) runs", gate.workflow_type);
        let message = &mut report.progress.message;
        *message = match message.as_str() {
            "" => runs,
            evidence => format!("{evidence}; {runs}"),
        };
    }
    support::signal_lifecycle(
        ctx,
        &input.key,
        crate::lifecycle::ProcessLifecycle::progress,
        &report,
        "tell the lifecycle",
    )
    .await;
}

/// An order that asks for nothing is an unknown one.
impl RolloutOrder {
    /// An order on somebody's behalf.
    pub fn new(order: Order, why: impl Into<String>) -> Self {
        Self {
            order,
            why: why.into(),
            step: None,
        }
    }
}
