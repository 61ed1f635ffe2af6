//! What a rollout has under way: one piece of work, and the watch over the version's executions.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use process_operator_crds::spec::Analysis;
use temporalio_workflow::{WorkflowCancellationToken, WorkflowContext};

use super::{ProcessRollout, RolloutInput};
use crate::contract::{
    EvidenceInput, EvidenceOutcome, Expected, GateInput, Judge, RolloutProgress, RunGate,
    SetCurrentInput, SetWeightInput, StepFailure, WaitServing, WaitServingInput, WatchEvidence,
};
use crate::plan::machine::{Event, Machine, Work};
use crate::support;
use crate::underway::{self, UnderWay};

mod routing;

use routing::{nothing_for, promote, recall, unwind, weigh};

type Ctx = WorkflowContext<ProcessRollout>;

/// At most one of each kind.
#[derive(Default)]
pub(super) struct Works {
    work: UnderWay<Work, Event>,
    watch: UnderWay<(Analysis, Expected), Event>,
    /// The end of a change of routing that was told to stop: until then it may get through.
    change: Option<LocalBoxFuture<'static, Event>>,
}

impl Works {
    /// Goes on with what is wanted still, stops what is not, starts what is new.
    pub(super) fn turn_to(
        &mut self,
        ctx: &Ctx,
        input: &RolloutInput,
        machine: &Machine,
        work: Work,
    ) {
        if input.revised {
            let left = |under: &Work| {
                let changes = matches!(under, Work::Weigh { .. } | Work::Promote { .. });
                changes && *under != work
            };
            if let Some(end) = self.work.stopping(left) {
                self.change = Some(end);
            }
        }
        let change = &mut self.change;
        self.work.turn_to(
            Some(work),
            |work| token(ctx, input, work),
            |work, token| match work {
                Work::Recall => {
                    let set = nothing_for(input, told(ctx, machine));
                    let back_to = machine.gives_current_back().then(|| input.stable.clone());
                    recall(ctx.clone(), set, back_to, change.take(), token).boxed_local()
                }
                work => start(ctx.clone(), input, machine, work, token),
            },
        );
        let watched = machine.watch();
        let since = watched.as_ref().map(|(_, since)| *since);
        // One watch spans all steps: while the weight changes, a look could see either.
        let wanted = watched.map(|(analysis, _)| {
            let weights = input.policy.steps.iter().map(|step| step.weight);
            let expected = Expected {
                current: input.stable.clone(),
                weight: 100,
                or: weights.collect(),
            };
            (analysis, expected)
        });
        self.watch.turn_to(
            wanted,
            |_| ctx.cancellation_token().child_token(),
            |wanted, token| watch(ctx.clone(), input, wanted, since.unwrap_or_default(), token),
        );
    }

    /// The next thing that happens.
    pub(super) async fn next(&mut self) -> Event {
        underway::first(&mut self.work, &mut self.watch).await
    }

    /// Stops everything.
    pub(super) fn stop(&mut self) {
        self.work.stop();
        self.watch.stop();
    }
}

/// Taking new workflows back goes on when the rollout is cancelled; everything else stops with it.
fn token(ctx: &Ctx, input: &RolloutInput, work: &Work) -> WorkflowCancellationToken {
    let timer = input.own_timers && matches!(work, Work::Pause { .. });
    if timer || matches!(work, Work::Unwind | Work::Recall) {
        WorkflowCancellationToken::new()
    } else {
        ctx.cancellation_token().child_token()
    }
}

/// The routing as this rollout has left it.
fn expected(input: &RolloutInput, machine: &Machine) -> Expected {
    Expected {
        current: input.stable.clone(),
        weight: machine.progress().weight,
        // A weight that was being set when something else was decided may have got through.
        or: machine.weight_of_step().into_iter().collect(),
    }
}

/// A rollout that never shares traffic takes the routing over as it finds it, and so does one that
/// takes it back from somebody, at first.
fn unless_changed(input: &RolloutInput, machine: &Machine, force: bool) -> Option<Expected> {
    let begins = input.take_over && machine.progress().weight == 0;
    (machine.shares() && !force && !begins).then(|| expected(input, machine))
}

fn start(
    ctx: Ctx,
    input: &RolloutInput,
    machine: &Machine,
    work: &Work,
    token: WorkflowCancellationToken,
) -> LocalBoxFuture<'static, Event> {
    match work {
        Work::Serve => {
            let announce = told(&ctx, machine);
            serve(ctx, serving(input, announce), token).boxed_local()
        }
        Work::Gate {
            step,
            attempt,
            gate,
        } => {
            let gate_input = GateInput {
                key: input.key.clone(),
                temporal_namespace: input.temporal_namespace.clone(),
                task_queue: input.version_queue(),
                versioning: input.versioning,
                build_id: input.build_id.clone(),
                workflow_id: gate_id(input, run(&ctx), *attempt),
                workflow_type: gate.workflow_type.clone(),
                timeout_seconds: gate.timeout_seconds.into(),
                step: *step,
                weight: machine.weight_of_step().unwrap_or_default(),
            };
            run_gate(ctx, gate_input, token).boxed_local()
        }
        Work::Weigh { percent, force } => {
            let step = usize::try_from(machine.progress().step).unwrap_or(1) - 1;
            let pause = input
                .policy
                .steps
                .get(step)
                .and_then(|step| step.pause.as_ref());
            // What the lifecycle will see once the weight is set.
            let mut then = machine.clone();
            then.apply(Event::Weighted(Timestamp::UNIX_EPOCH));
            let set = SetWeightInput {
                key: input.key.clone(),
                temporal_namespace: input.temporal_namespace.clone(),
                build_id: input.build_id.clone(),
                task_queue: input.task_queue.clone(),
                percent: *percent,
                expected: unless_changed(input, machine, *force),
                take_over: *force || input.take_over,
                announce: Some(RolloutProgress {
                    id: ctx.workflow_id().to_owned(),
                    progress: then.progress().clone(),
                }),
                pause_seconds: pause
                    .and_then(|pause| pause.duration_seconds)
                    .map(i64::from),
                versioning: input.versioning,
                ready_within: input.ready_within,
                back_to: None,
                // Evidence and later steps expect what the share was taken from.
                current: force.then(|| input.stable.clone()),
                waiting: Some(told(&ctx, machine)),
            };
            weigh(ctx, set, input.revised, token).boxed_local()
        }
        Work::Pause { due } => pause(ctx, *due, machine.progress().weight, token).boxed_local(),
        Work::Judge { analysis } => {
            let announce = told(&ctx, machine);
            let input = EvidenceInput {
                announce: Some(announce),
                ..evidence(
                    input,
                    &(analysis.clone(), expected(input, machine)),
                    machine.watch().map(|(_, since)| since).unwrap_or_default(),
                )
            };
            judge(ctx, input, token).boxed_local()
        }
        Work::Promote { force } => {
            let set = SetCurrentInput {
                key: input.key.clone(),
                temporal_namespace: input.temporal_namespace.clone(),
                build_id: input.build_id.clone(),
                task_queue: input.task_queue.clone(),
                expected: unless_changed(input, machine, *force),
                take_over: *force || input.take_over,
                versioning: input.versioning,
                ready_within: input.ready_within,
                waiting: Some(told(&ctx, machine)),
            };
            promote(ctx, set, input.revised, token).boxed_local()
        }
        Work::Unwind => {
            let waiting = told(&ctx, machine);
            unwind(ctx, nothing_for(input, waiting), token).boxed_local()
        }
        // It is started with the end of what it takes back.
        Work::Recall | Work::Wait | Work::End => std::future::pending().boxed_local(),
    }
}

/// Workflow id and run id of this rollout.
pub(super) fn run(ctx: &Ctx) -> (&str, &str) {
    (ctx.workflow_id(), ctx.run_id())
}

/// Id of a gate workflow: names what it is about, each try, and the number at the end of the rollout's own id,
/// since gates of two rollouts of one version are two. A lifecycle without memory counts from the beginning, so the
/// run is named too: by the end of its id, as the server makes the first half of it from the time.
pub(super) fn gate_id(input: &RolloutInput, (rollout, run): (&str, &str), attempt: u32) -> String {
    let last = |id: &str, by: char| id.rsplit(by).next().unwrap_or_default().to_owned();
    let id = format!(
        "gate/{}/{}/{attempt}/{}",
        input.key,
        input.build_id,
        last(rollout, '/')
    );
    if input.revised {
        format!("{id}-{}", last(run, '-'))
    } else {
        id
    }
}

/// How far it has come, for an activity to tell the lifecycle with what it finds.
fn told(ctx: &Ctx, machine: &Machine) -> RolloutProgress {
    RolloutProgress {
        id: ctx.workflow_id().to_owned(),
        progress: machine.progress().clone(),
    }
}

fn failed(error: Option<StepFailure>) -> Event {
    error.map_or(Event::Cancelled, Event::Failed)
}

fn serving(input: &RolloutInput, announce: RolloutProgress) -> WaitServingInput {
    WaitServingInput {
        key: input.key.clone(),
        build_id: input.build_id.clone(),
        deployment_name: input.deployment_name.clone(),
        temporal_namespace: input.temporal_namespace.clone(),
        task_queue: input.version_queue(),
        deadline: input.deadline,
        stable: Some(input.stable.clone()),
        versioning: input.versioning,
        announce: Some(announce),
    }
}

async fn serve(ctx: Ctx, input: WaitServingInput, token: WorkflowCancellationToken) -> Event {
    let summary = format!(
        "wait until pods of {} are ready and poll {}",
        input.deployment_name, input.task_queue
    );
    let options = support::wait(summary, Some(token));
    match ctx.execute_activity(WaitServing, input, options).await {
        Ok(serving) if serving.serving && serving.beside_unversioned => Event::ServedBeside,
        Ok(serving) if serving.serving => Event::Served,
        Ok(serving) => Event::Failed(StepFailure::new(
            serving
                .category
                .unwrap_or(ErrorCategory::ProgressDeadlineExceeded),
            serving.message,
        )),
        Err(error) => failed(support::unless_cancelled(error)),
    }
}

async fn run_gate(ctx: Ctx, input: GateInput, token: WorkflowCancellationToken) -> Event {
    let summary = format!("gate: run {} on {}", input.workflow_type, input.build_id);
    let options = support::wait(summary, Some(token));
    match ctx.execute_activity(RunGate, input, options).await {
        Ok(outcome) if outcome.passed => Event::GatePassed(outcome.message),
        Ok(outcome) => Event::Failed(StepFailure::new(ErrorCategory::GateFailed, outcome.message)),
        Err(error) => failed(support::unless_cancelled(error)),
    }
}

async fn pause(ctx: Ctx, due: Timestamp, weight: i32, token: WorkflowCancellationToken) -> Event {
    let summary = format!("hold {weight} % until {due:.0}");
    support::until(&ctx, due, summary, token).await;
    Event::Due
}

fn evidence(
    input: &RolloutInput,
    (analysis, expected): &(Analysis, Expected),
    since: Timestamp,
) -> EvidenceInput {
    EvidenceInput {
        key: input.key.clone(),
        temporal_namespace: input.temporal_namespace.clone(),
        build_id: input.build_id.clone(),
        deployment_name: input.deployment_name.clone(),
        task_queue: input.version_queue(),
        versioning: input.versioning,
        since,
        analysis: analysis.clone(),
        expected: expected.clone(),
        announce: None,
    }
}

fn watch(
    ctx: Ctx,
    input: &RolloutInput,
    wanted: &(Analysis, Expected),
    since: Timestamp,
    token: WorkflowCancellationToken,
) -> LocalBoxFuture<'static, Event> {
    let input = evidence(input, wanted, since);
    let options = support::wait(
        format!("watch executions and pods of {}", input.build_id),
        Some(token),
    );
    async move {
        match ctx.execute_activity(WatchEvidence, input, options).await {
            Ok(EvidenceOutcome {
                against: Some(against),
                ..
            }) => Event::Failed(against),
            // Nothing speaks against it: it was told to stop, or has nothing to watch.
            Ok(_) => std::future::pending().await,
            Err(error) => match support::unless_cancelled(error) {
                Some(failure) => Event::Failed(failure),
                None => std::future::pending().await,
            },
        }
    }
    .boxed_local()
}

async fn judge(ctx: Ctx, input: EvidenceInput, token: WorkflowCancellationToken) -> Event {
    let summary = format!(
        "wait until {} executions of {} have closed",
        input.analysis.min_workflows, input.build_id
    );
    let options = support::wait(summary, Some(token));
    match ctx.execute_activity(Judge, input, options).await {
        Ok(EvidenceOutcome {
            against: Some(against),
            ..
        }) => Event::Failed(against),
        Ok(outcome) => Event::Conclusive(outcome.message),
        Err(error) => failed(support::unless_cancelled(error)),
    }
}
