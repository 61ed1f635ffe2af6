//! One look, one decision, its effects.

use std::time::Duration;

use process_operator_crds::ErrorCategory;
use temporalio_common::data_converters::RawValue;
use temporalio_workflow::{
    MemoValue, SignalWorkflowOptions, TimerOptions, WorkflowCancellationToken, WorkflowContext,
    WorkflowTermination,
};

use super::children::{self, Children, Whom};
use super::closing::Closing;
use super::{LifecycleResult, ProcessLifecycle, look};
use crate::contract::{
    Act, ActInput, ActOutcome, CleanRecords, CleanRecordsInput, MEMO_DIGEST, Observation,
    ProcessKey, RolloutOrder, Step, StepFailure,
};
use crate::drain::ProcessDrain;
use crate::plan::{DrainOrder, Plan, failing_status, plan};
use crate::rollout::ProcessRollout;
use crate::support;

/// One look, one decision, its effects.
pub(super) async fn turn(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &mut Children,
    closing: &mut Closing,
) -> Result<Option<LifecycleResult>, WorkflowTermination> {
    let (input, inbox, known) = ctx.state_mut(ProcessLifecycle::begin);
    let (key, tries) = (input.key.clone(), input.tries);
    let seen = match known {
        Some(known) => known,
        None => look::observe(ctx, input).await?,
    };
    ctx.state_mut(|s| s.rules = s.rules.max(seen.settings.rules));
    if let Some(failure) = seen.failure {
        ctx.set_current_details(format!("**Cannot look**: {}", failure.message));
        ctx.state_mut(|s| {
            // What children and people said is not lost: it is read with the next look.
            s.reports.splice(0..0, inbox.reports);
            s.drained.splice(0..0, inbox.drained);
            s.requests.splice(0..0, inbox.requests);
            s.refused.splice(0..0, inbox.refused);
            s.state.trouble = Some((failure, tries + 1));
        });
        return Ok(None);
    }
    let now = support::timestamp(ctx.workflow_time());
    let run_id = ctx.run_id().to_owned();
    let plan = ctx.state_mut(|s| plan(&mut s.state, &key, &run_id, &seen, &inbox, now));
    if plan.first {
        return look::first(ctx, &key, &seen, plan.steps)
            .await
            .map(|()| None);
    }
    ctx.set_current_details(plan.details.clone());
    ctx.state_mut(|s| {
        let by_update = plan.answers.iter().cloned();
        s.answers.extend(by_update);
    });
    for (id, order) in &plan.orders {
        let heard = tell(ctx, id, order).await;
        children::miss(ctx, children, id, heard);
    }
    for (id, order) in &plan.drains {
        let heard = tell_drain(ctx, id, order).await;
        children::miss(ctx, children, id, heard);
    }
    for id in &plan.cancel {
        let told = ctx
            .external_workflow(id.clone(), None)
            .cancel(Some("superseded".into()))
            .await;
        children::miss(ctx, children, id, told.is_ok());
    }
    if plan.close.is_none() {
        closing.turn_to(ctx, None);
    }
    if !act(ctx, &key, &run_id, &seen, &plan, tries).await? && !plan.finish {
        // What was not started is decided again: nobody could hear what is asked of it until then.
        ctx.state_mut(|s| {
            if s.rules > 1 {
                plan.start
                    .iter()
                    .for_each(|child| s.state.forget(child.id()));
            }
        });
        return Ok(None);
    }
    if let Some(failure) = plan.again.clone() {
        ctx.state_mut(|s| s.state.trouble = Some((failure, tries + 1)));
    } else if let Some(rest) = plan.rest.clone() {
        // Nothing has failed: however often, the wait stays the same.
        ctx.state_mut(|s| s.state.trouble = Some((rest, 0)));
    }
    for child in &plan.start {
        children::start(ctx, children, &key, &seen, child).await;
    }
    if plan.close.is_some() {
        closing.turn_to(ctx, plan.close.clone());
    }
    children::ask(ctx, children, Whom::Unawaited).await;
    if plan.remember {
        let moment = TimerOptions::builder(Duration::from_millis(1))
            .summary("remember what was decided".to_owned())
            .cancellation_token(WorkflowCancellationToken::new())
            .build();
        ctx.timer(moment).await;
        ctx.state_mut(|s| s.dirty = true);
    }
    publish_visibility(ctx, &key, &seen, &plan);
    if plan.finish && ctx.state(|s| s.state.trouble.is_none() && !s.stirred()) {
        return finish(ctx, &key).await.map(Some);
    }
    ctx.state_mut(|s| s.keep(seen, &plan));
    Ok(None)
}

/// Gives an order to a rollout. Whether it is there to hear it.
async fn tell(ctx: &WorkflowContext<ProcessLifecycle>, id: &str, order: &RolloutOrder) -> bool {
    let Ok(payload) = support::payload(order) else {
        return true;
    };
    let options = SignalWorkflowOptions::builder()
        .cancellation_token(WorkflowCancellationToken::new())
        .summary(format!("tell the rollout: {}", order.order))
        .build();
    ctx.external_workflow(id.to_owned(), None)
        .signal(ProcessRollout::order, RawValue::new(vec![payload]), options)
        .await
        .is_ok()
}

/// Gives an order to a drain. Whether it is there to hear it.
async fn tell_drain(ctx: &WorkflowContext<ProcessLifecycle>, id: &str, order: &DrainOrder) -> bool {
    let (payload, summary) = match order {
        DrainOrder::Policy(policy) => (support::payload(policy), "tell the drain its policy"),
        DrainOrder::Force(args) => (support::payload(args), "force the drain"),
    };
    let Ok(payload) = payload else {
        return true;
    };
    let options = SignalWorkflowOptions::builder()
        .cancellation_token(WorkflowCancellationToken::new())
        .summary(summary.to_owned())
        .build();
    let drain = ctx.external_workflow(id.to_owned(), None);
    let raw = RawValue::new(vec![payload]);
    let heard = match order {
        DrainOrder::Policy(_) => drain.signal(ProcessDrain::set_policy, raw, options).await,
        DrainOrder::Force(_) => drain.signal(ProcessDrain::force, raw, options).await,
    };
    heard.is_ok()
}

/// Carries out the steps. A failure is remembered, shown in status, and retried after a back-off. `false`
/// when what follows the steps has to wait for that.
async fn act(
    ctx: &WorkflowContext<ProcessLifecycle>,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    plan: &Plan,
    tries: u32,
) -> Result<bool, WorkflowTermination> {
    if plan.steps.is_empty() {
        return Ok(true);
    }
    let outcome = run_steps(ctx, key, seen, plan.steps.clone(), tries).await?;
    let done = outcome.failure.is_none() && !outcome.superseded;
    // With the API server away a status cannot be written either; what lasts the activity tells itself.
    let tells = match (&outcome.failure, &outcome.aside) {
        (Some(failure), _) => failure.category != ErrorCategory::Unavailable,
        (None, aside) => aside.is_some() && done,
    };
    ctx.state_mut(|s| {
        if let (Some(view), Some(mark)) = (&plan.status, outcome.status) {
            s.state.published = Some((view.clone(), mark));
        }
        s.state.applied.extend(outcome.applied);
        if done {
            s.state.restart = None;
        }
        s.dirty |= outcome.superseded;
        let memory = s.state.deletion.as_mut();
        if let (Some(at), Some(late)) = (
            outcome.let_go,
            memory.and_then(|memory| memory.late.as_mut()),
        ) {
            late.until = at;
        }
        // Who has lost the Process to a deletion tells nothing more.
        let untold = (done && !plan.finish && !s.state.untold.is_empty())
            .then(|| StepFailure::new(ErrorCategory::Unavailable, "Events are not recorded"));
        if let Some(failure) = outcome.failure.or(outcome.aside).or(untold) {
            s.state.trouble = Some((failure, tries + 1));
        }
    });
    if tells {
        let (status, events) = ctx.state(|s| {
            let status = failing_status(&s.state, key, run_id, seen);
            (status, s.state.untold.clone())
        });
        if let Some(status) = status {
            let steps = std::iter::once(status).chain(events).collect();
            run_steps(ctx, key, seen, steps, tries).await?;
        }
    }
    Ok(done)
}

pub(super) async fn run_steps(
    ctx: &WorkflowContext<ProcessLifecycle>,
    key: &ProcessKey,
    seen: &Observation,
    steps: Vec<Step>,
    tries: u32,
) -> Result<ActOutcome, WorkflowTermination> {
    let summary = summary(&steps);
    let input = ActInput {
        key: key.clone(),
        generation: seen
            .process
            .as_ref()
            .map_or(0, |process| process.generation),
        steps,
        decided: Some(support::timestamp(ctx.workflow_time())),
        tries,
        first: seen.first,
    };
    let events: Vec<String> = input.steps.iter().filter_map(Step::event).collect();
    let acted = ctx.execute_local_activity(Act, input, support::local(summary));
    let outcome = match acted.await {
        Ok(outcome) => outcome,
        Err(error) if error.as_cancelled().is_some() => {
            return Err(WorkflowTermination::cancelled());
        }
        Err(error) => ActOutcome {
            failure: Some(support::failure(&error)),
            unrecorded: (seen.settings.rules > 0).then(|| events.clone()),
            ..ActOutcome::default()
        },
    };
    ctx.state_mut(|s| s.state.told(&events, outcome.unrecorded.as_deref()));
    Ok(outcome)
}

/// The steps in words, for the Temporal UI.
fn summary(steps: &[Step]) -> String {
    let words: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::EnsureFinalizer => Some("add finalizer".to_owned()),
            Step::ApplyVersion { name, .. } => Some(format!("apply Deployment {name}")),
            Step::DeleteVersion { name, .. } => Some(format!("delete Deployment {name}")),
            Step::ApplyCronJob { name, current, .. } => {
                Some(format!("apply CronJob {name} of {current}"))
            }
            Step::DeleteCronJob { name, .. } => Some(format!("delete CronJob {name}")),
            Step::RestoreRouting { current } => Some(format!("restore routing to {current}")),
            Step::PublishStatus { .. } => Some("publish status".to_owned()),
            Step::RestartVersion { name, .. } => Some(format!("restart pods of {name}")),
            Step::RemoveFinalizer => Some("remove finalizer".to_owned()),
            Step::Event { .. } => None,
        })
        .collect();
    words.join(", ")
}

/// Search attributes and memo, written when they change.
fn publish_visibility(
    ctx: &WorkflowContext<ProcessLifecycle>,
    key: &ProcessKey,
    seen: &Observation,
    plan: &Plan,
) {
    let build_id = seen
        .process
        .as_ref()
        .map(|process| process.build_id.clone())
        .unwrap_or_default();
    let indexed = (plan.phase.clone(), build_id);
    if seen.settings.search_attributes && ctx.state(|s| s.state.indexed != indexed) {
        ctx.upsert_search_attributes(support::search_attributes(key, &indexed.0, &indexed.1));
        ctx.state_mut(|s| s.state.indexed = indexed);
    }
    let Some(digest) = &plan.settled else { return };
    if ctx.state(|s| s.state.digest != *digest)
        && ctx
            .upsert_memo([(MEMO_DIGEST, Some(MemoValue::new(digest.clone())))])
            .is_ok()
    {
        ctx.state_mut(|s| s.state.digest.clone_from(digest));
    }
}

/// The Process is gone: what is left are the server's records.
async fn finish(
    ctx: &WorkflowContext<ProcessLifecycle>,
    key: &ProcessKey,
) -> Result<LifecycleResult, WorkflowTermination> {
    let temporal_namespace = ctx.state(|s| s.state.temporal_namespace.clone());
    let (untouched, late) = ctx.state(|s| {
        let memory = s.state.deletion.as_ref();
        let late = memory.and_then(|memory| memory.late.clone());
        (memory.is_some_and(|memory| memory.untouched), late)
    });
    if untouched {
        return Ok(LifecycleResult {
            message: "workers, routing and records are left as they are: the Process was orphaned"
                .into(),
        });
    }
    let ends = late.as_ref().is_some_and(|late| late.terminate);
    if temporal_namespace.is_empty() {
        return Ok(LifecycleResult {
            message: "the Process was gone before anything was done for it".into(),
        });
    }
    let input = CleanRecordsInput {
        key: key.clone(),
        temporal_namespace,
        late,
    };
    let options = support::wait(
        format!("clean the records of {}", key.worker_deployment()),
        None,
    );
    let outcome = match ctx.execute_activity(CleanRecords, input, options).await {
        Ok(outcome) => outcome,
        Err(error) if error.as_cancelled().is_some() => {
            return Err(WorkflowTermination::cancelled());
        }
        Err(error) => {
            return Ok(LifecycleResult {
                message: format!("records were left: {}", support::failure(&error).message),
            });
        }
    };
    let left: Vec<String> = outcome
        .left
        .iter()
        .map(|(build, why)| format!("{build} ({why})"))
        .collect();
    let records = if outcome.claimed {
        "a successor has claimed the Worker Deployment".into()
    } else if left.is_empty() {
        "all records are gone".into()
    } else {
        format!("records left: {}", left.join(", "))
    };
    let runs = match (outcome.late, ends) {
        (0, _) => String::new(),
        (count, true) => {
            format!("; workflows terminated that were started while it went: {count}")
        }
        (count, false) => format!("; running workflows left without workers: {count}"),
    };
    Ok(LifecycleResult {
        message: format!("{records}{runs}"),
    })
}
