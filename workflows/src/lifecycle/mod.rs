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

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt as _;
use process_operator_crds::ErrorCategory;
use serde::de::DeserializeOwned;
use temporalio_common::data_converters::RawValue;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_workflow::{
    ContinueAsNewOptions, MemoValue, SyncWorkflowContext, TimerOptions, WorkflowCancellationToken,
    WorkflowContext, WorkflowContextView, WorkflowResult, WorkflowTermination,
};

use self::children::Children;
use crate::contract::{
    Act, ActInput, ActOutcome, ChangeKind, Changed, ChildFinished, CleanRecords, CleanRecordsInput,
    EventType, LifecycleInput, MEMO_DIGEST, Observation, Observe, ObserveInput, ProcessKey, State,
    Step, StepFailure,
};
use crate::plan::{Plan, failing_status, plan};
use crate::support;

/// Above this many events the run continues as new: replays stay short, far from the server's
/// warning at 10 240 events.
const HISTORY_LIMIT: u32 = 2_000;

/// The lifecycle of one Process.
#[workflow]
pub struct ProcessLifecycle {
    key: ProcessKey,
    state: State,
    dirty: bool,
    reports: Vec<ChildFinished>,
    refused: Vec<String>,
    /// Children of earlier runs that were asked to report by signal.
    asked: BTreeSet<String>,
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
        // Looks once in any case: whatever was signalled before a continue-as-new is covered by that.
        Self {
            key: input.key,
            state: input.state.unwrap_or_default(),
            dirty: true,
            reports: Vec::new(),
            refused: Vec::new(),
            asked: BTreeSet::new(),
        }
    }

    /// The loop.
    #[run(name = "ProcessLifecycle")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<LifecycleResult> {
        let mut children = Children::default();
        loop {
            wait(ctx, &mut children).await?;
            let done = ctx.state(|s| !s.dirty && s.state.trouble.is_none());
            if done && (ctx.continue_as_new_suggested() || ctx.history_length() > HISTORY_LIMIT) {
                let input = ctx.state(|s| LifecycleInput {
                    key: s.key.clone(),
                    state: Some(s.state.clone()),
                });
                ctx.continue_as_new(input, ContinueAsNewOptions::default())?;
            }
            if let Some(result) = turn(ctx, &mut children).await? {
                return Ok(result);
            }
        }
    }

    /// Something may have changed. Takes anything; see [`Changed`].
    #[signal(name = "changed")]
    pub fn changed(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        match decode::<Changed>(&raw) {
            Ok(changed) => {
                let known = changed.kind.parse::<ChangeKind>().is_ok();
                if !known && self.state.unknown.len() < State::UNKNOWN {
                    self.state.unknown.push(changed);
                }
            }
            Err(why) => self.refused.push(format!("signal changed ignored: {why}")),
        }
        self.dirty = true;
    }

    /// A child ended. Takes anything; see [`ChildFinished`].
    #[signal(name = "child-finished")]
    pub fn child_finished(&mut self, _ctx: &mut SyncWorkflowContext<Self>, raw: RawValue) {
        match decode::<ChildFinished>(&raw) {
            Ok(report) => self.reports.push(report),
            Err(why) => self
                .refused
                .push(format!("signal child-finished ignored: {why}")),
        }
        self.dirty = true;
    }
}

/// Decodes exactly one JSON payload. The message is for people and repeats nothing of the input,
/// which may hold anything.
fn decode<T: DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
    let [payload] = raw.payloads.as_slice() else {
        return Err(format!(
            "one JSON object is expected, {} payloads were sent",
            raw.payloads.len()
        ));
    };
    match serde_json::from_slice::<serde_json::Value>(&payload.data) {
        Ok(value @ serde_json::Value::Object(_)) => {
            serde_json::from_value(value).map_err(|_| "its fields have the wrong type".to_owned())
        }
        Ok(_) => Err("the JSON is not an object".to_owned()),
        Err(_) => Err("the payload is not JSON".to_owned()),
    }
}

/// Sleeps until there is something to do; while a failure is being retried, not longer than its back-off.
async fn wait(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &mut Children,
) -> Result<(), WorkflowTermination> {
    let over = ctx.history_length() > HISTORY_LIMIT || ctx.continue_as_new_suggested();
    let retry = ctx.state(|s| s.state.trouble.clone());
    if over && retry.is_none() {
        return Ok(());
    }
    let token = WorkflowCancellationToken::new();
    let mut timer = std::pin::pin!(
        async {
            match &retry {
                Some((failure, tries)) => {
                    let options = TimerOptions::builder(back_off(failure, *tries))
                        .summary(format!(
                            "retry after {}: {}",
                            failure.category, failure.message
                        ))
                        .cancellation_token(token.clone())
                        .build();
                    ctx.timer(options).await;
                }
                None => std::future::pending().await,
            }
        }
        .fuse()
    );
    let mut change = std::pin::pin!(ctx.wait_condition(|s| s.dirty));
    let mut ended = std::pin::pin!(children.ended().fuse());
    temporalio_workflow::workflows::select! {
        changed = change => changed.map_err(|_| WorkflowTermination::cancelled())?,
        reports = ended => ctx.state_mut(|s| s.reports.extend(reports)),
        () = timer => (),
    }
    token.cancel();
    Ok(())
}

/// Back-off of a failure: quick for what passes by itself, slow for what a person has to change
/// (whose correction arrives as a signal anyway).
fn back_off(failure: &StepFailure, tries: u32) -> Duration {
    let (first, most) = if failure.category.retryable() {
        (500, 30_000)
    } else {
        (10_000, 300_000)
    };
    Duration::from_millis((first << tries.saturating_sub(1).min(10)).min(most))
}

/// One look, one decision, its effects.
async fn turn(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &mut Children,
) -> Result<Option<LifecycleResult>, WorkflowTermination> {
    let (key, adopt, reports, refused, trouble) = ctx.state_mut(|s| {
        s.dirty = false;
        (
            s.key.clone(),
            !s.state.adopted,
            std::mem::take(&mut s.reports),
            std::mem::take(&mut s.refused),
            s.state.trouble.take(),
        )
    });
    let tries = trouble.map_or(0, |(_, tries)| tries);
    let seen = observe(ctx, &key, adopt).await?;
    if let Some(failure) = seen.failure {
        ctx.set_current_details(format!("**Cannot look**: {}", failure.message));
        ctx.state_mut(|s| {
            // What the children said is not lost: it is read with the next look.
            s.reports.splice(0..0, reports);
            s.refused.splice(0..0, refused);
            s.state.trouble = Some((failure, tries + 1));
        });
        return Ok(None);
    }
    let now = support::timestamp(ctx.workflow_time());
    let run_id = ctx.run_id().to_owned();
    let mut plan = ctx.state_mut(|s| plan(&mut s.state, &key, &run_id, &seen, &reports, now));
    for why in &refused {
        let id = ctx.state_mut(|s| s.state.event_id(&key.uid, &run_id, "refused"));
        plan.steps.push(Step::Event {
            id,
            kind: EventType::Warning,
            reason: "SignalRefused".into(),
            action: "Signal".into(),
            note: why.clone(),
        });
    }
    ctx.set_current_details(plan.details.clone());
    for id in &plan.cancel {
        // A child that has ended meanwhile needs no cancelling.
        let _ = ctx
            .external_workflow(id.clone(), None)
            .cancel(Some("superseded".into()))
            .await;
    }
    if !act(ctx, &key, &run_id, &seen, &plan, tries).await? && !plan.finish {
        return Ok(None);
    }
    for child in &plan.start {
        children::start(ctx, children, &key, &seen, child).await;
    }
    children::ask(ctx, children).await;
    publish_visibility(ctx, &key, &seen, &plan);
    if plan.finish && ctx.state(|s| s.state.trouble.is_none() && !s.dirty) {
        return finish(ctx, &key).await.map(Some);
    }
    Ok(None)
}

async fn observe(
    ctx: &WorkflowContext<ProcessLifecycle>,
    key: &ProcessKey,
    adopt: bool,
) -> Result<Observation, WorkflowTermination> {
    let input = ObserveInput {
        key: key.clone(),
        adopt,
    };
    let options = support::local(format!("look at {}", key.worker_deployment()));
    match ctx.execute_local_activity(Observe, input, options).await {
        Ok(seen) => Ok(seen),
        Err(error) if error.as_cancelled().is_some() => Err(WorkflowTermination::cancelled()),
        Err(error) => Ok(Observation {
            failure: Some(support::failure(&error)),
            ..Observation::default()
        }),
    }
}

/// Carries out the steps. A failure is remembered, shown in status, and retried after a back-off.
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
    let outcome = run_steps(ctx, key, seen, plan.steps.clone()).await?;
    let failed = outcome.failure.clone();
    ctx.state_mut(|s| {
        if let (Some(view), Some(mark)) = (&plan.status, outcome.status) {
            s.state.published = Some((view.clone(), mark));
        }
        s.state.applied.extend(outcome.applied);
        s.dirty |= outcome.superseded;
        if let Some(failure) = failed.clone() {
            s.state.trouble = Some((failure, tries + 1));
        }
    });
    let Some(failure) = failed else {
        return Ok(!outcome.superseded);
    };
    // With the API server away a status cannot be written either.
    if failure.category != ErrorCategory::Unavailable {
        let status = ctx.state(|s| failing_status(&s.state, key, run_id, seen));
        if let Some(step) = status {
            run_steps(ctx, key, seen, vec![step]).await?;
        }
    }
    Ok(false)
}

async fn run_steps(
    ctx: &WorkflowContext<ProcessLifecycle>,
    key: &ProcessKey,
    seen: &Observation,
    steps: Vec<Step>,
) -> Result<ActOutcome, WorkflowTermination> {
    let summary = summary(&steps);
    let input = ActInput {
        key: key.clone(),
        generation: seen
            .process
            .as_ref()
            .map_or(0, |process| process.generation),
        steps,
    };
    match ctx
        .execute_local_activity(Act, input, support::local(summary))
        .await
    {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.as_cancelled().is_some() => Err(WorkflowTermination::cancelled()),
        Err(error) => Ok(ActOutcome {
            failure: Some(support::failure(&error)),
            ..ActOutcome::default()
        }),
    }
}

/// The steps in words, for the Temporal UI.
fn summary(steps: &[Step]) -> String {
    let words: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::EnsureFinalizer => Some("add finalizer".to_owned()),
            Step::ApplyVersion { name, .. } => Some(format!("apply Deployment {name}")),
            Step::DeleteVersion { name, .. } => Some(format!("delete Deployment {name}")),
            Step::PublishStatus { .. } => Some("publish status".to_owned()),
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
    if temporal_namespace.is_empty() {
        return Ok(LifecycleResult {
            message: "the Process was gone before anything was done for it".into(),
        });
    }
    let input = CleanRecordsInput {
        key: key.clone(),
        temporal_namespace,
    };
    let options = support::wait(format!("clean the records of {}", key.worker_deployment()));
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
    Ok(LifecycleResult {
        message: if outcome.claimed {
            "a successor has claimed the Worker Deployment".into()
        } else if left.is_empty() {
            "all records are gone".into()
        } else {
            format!("records left: {}", left.join(", "))
        },
    })
}
