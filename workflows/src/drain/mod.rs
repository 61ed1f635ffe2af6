//! `ProcessDrain`: retires one version. It waits until no running workflow is pinned to it, ends
//! those that are when the deadline has passed or somebody says so, lets what is in flight end, stops
//! the pods, and removes records and Deployment after a while.

#![allow(
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "the SDK's macros add a public constant beside each method, drop attributes on the impl, and \
              want handlers that take their input by value"
)]

mod legacy;
mod telling;
mod works;

use futures::FutureExt as _;
use jiff::Timestamp;
use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ContinueAsNewOptions, SyncWorkflowContext, WorkflowContext, WorkflowContextView,
    WorkflowResult, WorkflowTermination,
};

use self::telling::Telling;
use self::works::Works;
use crate::contract::{
    ChildKind, DrainMemory, DrainPolicy, DrainProgress, EndAction, Force, KeptApart, ProcessKey,
    StepFailure, VerbArgs,
};
use crate::plan::draining::{Draining, Event, Work};
use crate::support;

/// Above this many events the run continues as new.
pub const HISTORY_LIMIT: u32 = 1_000;

/// A changed grace reaches a Cancel that is under way. In runs that were written before it did not.
const OTHER_GRACE: &str = "other-grace";

/// Input of [`ProcessDrain`].
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DrainInput {
    /// Which Process.
    pub key: ProcessKey,
    /// The version to retire.
    pub build_id: String,
    /// Its Deployment; empty when only the server knows the version.
    pub deployment_name: String,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// How long the pods stay after the last workflow ended. Only read without a policy.
    pub scale_down_delay_seconds: i64,
    /// How many versions that were current are kept for a rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<i32>,
    /// How the version is to end. `None`: started by an operator without drain policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<DrainPolicy>,
    /// When the version lost its traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Memory of the previous run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<DrainMemory>,
    /// How the version's executions are told from those of others.
    #[serde(skip_serializing_if = "KeptApart::is_default")]
    pub apart: KeptApart,
    /// It counts what holds the version before it waits, and tells its lifecycle only what lasts. `false`:
    /// started by an operator that did neither.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terse: bool,
    /// It tells its lifecycle before it stops the pods, however soon that is over: nobody else says of a version
    /// with a queue of its own that it needs none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tells_stopping: bool,
    /// Its timers end with what they time, and not with the cancel of the workflow itself, in whose task they may
    /// go off: the SDK (1.1.1) does not bear both. `false`: started by an operator that had them end so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_timers: bool,
}

/// The retirement of one version.
#[workflow]
pub struct ProcessDrain {
    input: DrainInput,
    /// The run that started it is gone: its successor wants a signal.
    asked: bool,
    /// A policy not yet taken in.
    policy: Option<DrainPolicy>,
    /// Orders not yet taken in.
    forces: Vec<Force>,
    /// What is wrong with those that cannot be read.
    unreadable: Vec<String>,
    /// What the lifecycle was last told.
    told: Option<DrainProgress>,
    /// It wants to be told again.
    tell: bool,
}

impl ProcessDrain {
    fn has_news(&self) -> bool {
        self.policy.is_some() || !self.forces.is_empty() || !self.unreadable.is_empty() || self.tell
    }
}

#[workflow_methods]
impl ProcessDrain {
    #[init]
    fn new(_ctx: &WorkflowContextView, mut input: DrainInput) -> Self {
        let (forces, unreadable) = input
            .memory
            .as_mut()
            .map_or_else(Default::default, |memory| {
                let forces = std::mem::take(&mut memory.forces);
                (forces, std::mem::take(&mut memory.unreadable))
            });
        Self {
            asked: input.memory.as_ref().is_some_and(|memory| memory.asked),
            forces,
            input,
            policy: None,
            unreadable,
            told: None,
            tell: false,
        }
    }

    /// Waits for the last workflow, then removes the version.
    #[run(name = "ProcessDrain")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        let input = ctx.state(|s| s.input.clone());
        let result = match input.policy.clone() {
            Some(policy) => course(ctx, &input, policy).await?,
            None => without_policy(ctx, &input).await?,
        };
        let asked = ctx.state(|s| s.asked);
        let (key, build_id) = (&input.key, &input.build_id);
        support::conclude(ctx, key, ChildKind::Drain, build_id, asked, result).await
    }

    /// Asks for a report by signal at the end. Any payload is taken.
    #[signal(name = "report")]
    pub fn report(&mut self, _ctx: &mut SyncWorkflowContext<Self>, _raw: RawValue) {
        self.asked = true;
        self.tell = true;
    }

    /// Ends the workflows that hold the version, or moves them to the current one. Takes anything;
    /// see [`VerbArgs`]. Nothing at all cancels them.
    #[signal(name = "forceCancelDrain")]
    pub fn force(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        if self.forces.len() >= DrainMemory::FORCES {
            return;
        }
        let force = support::arguments(&raw).and_then(|args: VerbArgs| {
            Ok(Force {
                action: EndAction::read(&args.action)?,
                actor: args.actor.trim().to_owned(),
                reason: args.reason.trim().to_owned(),
            })
        });
        match force {
            Ok(force) => self.forces.push(force),
            Err(why) => self.unreadable.push(why),
        }
    }

    /// The policy has changed; from the lifecycle. What cannot be read is dropped.
    #[signal(name = "policy")]
    pub fn set_policy(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        if let Ok(policy) = support::decode::<DrainPolicy>(&raw) {
            self.policy = Some(policy);
        }
    }
}

/// How a drain ends; `Err(None)` when it was told to stop.
type Outcome = Result<String, Option<StepFailure>>;

/// Until a policy is told, if ever.
async fn without_policy(
    ctx: &WorkflowContext<ProcessDrain>,
    input: &DrainInput,
) -> Result<Outcome, WorkflowTermination> {
    let token = ctx.cancellation_token().child_token();
    let told = {
        let mut old = std::pin::pin!(legacy::retire(ctx, input, &token).fuse());
        let mut told = std::pin::pin!(ctx.wait_condition(|s| s.policy.is_some()));
        temporalio_workflow::workflows::select! {
            outcome = old => return Ok(outcome),
            told = told => told,
        }
    };
    token.cancel();
    let policy = ctx.state_mut(|s| s.policy.take());
    match policy.filter(|_| told.is_ok()) {
        Some(policy) => course(ctx, input, policy).await,
        None => Ok(Err(None)),
    }
}

/// From the beginning to the end.
async fn course(
    ctx: &WorkflowContext<ProcessDrain>,
    input: &DrainInput,
    policy: DrainPolicy,
) -> Result<Outcome, WorkflowTermination> {
    let now = || support::timestamp(ctx.workflow_time());
    let memory = input.memory.clone().unwrap_or_else(|| DrainMemory {
        since: input.since.unwrap_or_else(now),
        ..DrainMemory::default()
    });
    let (key, build_id) = (input.key.clone(), input.build_id.clone());
    let mut machine = Draining::new(key, build_id, policy, memory).apart(input.apart.clone());
    let mut works = Works::default();
    let mut telling = Telling::default();
    if input.terse && input.memory.is_none() {
        // Within the first workflow task; a wait that had to come back to say so costs another one.
        if let Some(counted) = works::first_count(ctx, input).await {
            machine.apply(Event::Found(counted), now());
        }
    }
    loop {
        let news = ctx.state_mut(|s| {
            let policy = s.policy.take().map(Event::Policy);
            let forces = std::mem::take(&mut s.forces).into_iter().map(Event::Forced);
            let unreadable = std::mem::take(&mut s.unreadable).into_iter();
            policy
                .into_iter()
                .chain(forces)
                .chain(unreadable.map(Event::Unreadable))
                .collect::<Vec<_>>()
        });
        for event in news {
            machine.apply(event, now());
        }
        if machine.other_grace().is_some() && ctx.patched(OTHER_GRACE) {
            machine.follow_grace();
        }
        ctx.set_current_details(machine.details());
        let work = machine.work();
        if let Work::Finish(result) = work {
            works.stop();
            telling.finish(ctx, input, &mut machine).await;
            return Ok(Ok(result));
        }
        if ctx.history_length() > HISTORY_LIMIT || ctx.continue_as_new_suggested() {
            telling.finish(ctx, input, &mut machine).await;
            ctx.continue_as_new(
                next_run(ctx, input, &machine),
                ContinueAsNewOptions::default(),
            )?;
        }
        works.turn_to(ctx, input, &machine, work);
        telling.turn_to(ctx, input, &mut machine).await;
        let happened = {
            let mut ended = std::pin::pin!(ctx.cancelled());
            let mut news = std::pin::pin!(ctx.wait_condition(ProcessDrain::has_news));
            let mut next = std::pin::pin!(works.next().fuse());
            let mut lasted = std::pin::pin!(telling.next().fuse());
            temporalio_workflow::workflows::select! {
                _ = ended => Err(None),
                _ = news => Ok(None),
                event = next => event.map(Some),
                () = lasted => Ok(None),
            }
        };
        match happened {
            Ok(None) => {}
            Ok(Some(event)) => machine.apply(event, now()),
            Err(failure) => {
                works.stop();
                return Ok(Err(failure));
            }
        }
    }
}

/// Everything that the next run needs: the deadline follows from policy and memory.
fn next_run(
    ctx: &WorkflowContext<ProcessDrain>,
    input: &DrainInput,
    machine: &Draining,
) -> DrainInput {
    ctx.state(|s| {
        let policy = s.policy.as_ref().unwrap_or_else(|| machine.policy());
        DrainInput {
            policy: Some(policy.clone()),
            memory: Some(DrainMemory {
                forces: s.forces.clone(),
                unreadable: s
                    .unreadable
                    .iter()
                    .take(DrainMemory::LINES)
                    .cloned()
                    .collect(),
                asked: s.asked,
                ..machine.memory().clone()
            }),
            ..input.clone()
        }
    })
}
