//! Children of a lifecycle: how they are started, awaited, and found again.
//!
//! The run that starts a child awaits its result. A later run, after a continue-as-new or after the
//! lifecycle was terminated by hand, cannot; it asks the child to report by signal instead.

use std::task::Poll;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use process_operator_crds::spec::Versioning;
use temporalio_common::Priority;
use temporalio_common::data_converters::RawValue;
use temporalio_common::search_attributes::SearchAttributes;
use temporalio_workflow::{
    ChildWorkflowExecutionError, ChildWorkflowOptions, ChildWorkflowStartError, ParentClosePolicy,
    SignalWorkflowOptions, StartChildWorkflowExecutionFailedCause, WorkflowCancellationToken,
    WorkflowContext, WorkflowIdReusePolicy,
};

use super::ProcessLifecycle;
use crate::contract::{
    ChildFinished, ChildKind, ChildOutcome, KeptApart, Observation, ProcessKey, ProcessView,
    StepFailure,
};
use crate::drain::{DrainInput, ProcessDrain};
use crate::plan::Child;
use crate::rollout::{ProcessRollout, RolloutInput};
use crate::support::{self, TASK_TIMEOUT};

/// Behind lifecycles, which have the server's default of 3; an abort's change of routing has 1.
const CHILD_PRIORITY: u32 = 4;

/// The children whose results this run awaits.
#[derive(Default)]
pub(super) struct Children {
    running: Vec<(String, LocalBoxFuture<'static, ChildFinished>)>,
}

impl Children {
    /// Resolves when at least one has ended; polled in the order of their start, so that replay
    /// sees the same order.
    pub(super) async fn ended(&mut self) -> Vec<ChildFinished> {
        futures::future::poll_fn(|cx| {
            let mut reports = Vec::new();
            self.running
                .retain_mut(|(_, result)| match result.poll_unpin(cx) {
                    Poll::Ready(report) => {
                        reports.push(report);
                        false
                    }
                    Poll::Pending => true,
                });
            if reports.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(reports)
            }
        })
        .await
    }

    fn awaits(&self, id: &str) -> bool {
        self.running.iter().any(|(running, _)| running == id)
    }
}

/// A child's result as a report.
fn report(
    id: String,
    kind: ChildKind,
    build_id: String,
    result: Result<String, ChildWorkflowExecutionError>,
) -> ChildFinished {
    let (outcome, failure) = match result {
        Ok(message) => {
            let failure = StepFailure::new(ErrorCategory::Internal, message);
            (ChildOutcome::Completed, failure)
        }
        Err(error) if error.as_cancelled().is_some() => {
            let failure = StepFailure::new(ErrorCategory::Internal, String::new());
            (ChildOutcome::Canceled, failure)
        }
        Err(error) => (
            ChildOutcome::Failed,
            support::application_failure(error.cause(), &error),
        ),
    };
    ChildFinished {
        id,
        kind,
        build_id,
        outcome,
        category: failure.category.metric_label().to_owned(),
        message: failure.message,
    }
}

fn drain(
    key: &ProcessKey,
    seen: &Observation,
    process: ProcessView,
    (build_id, deployment_name): (&str, &str),
    since: Timestamp,
) -> DrainInput {
    let apart = KeptApart::of(&process);
    DrainInput {
        tells_stopping: !apart.is_default(),
        apart,
        key: key.clone(),
        build_id: build_id.to_owned(),
        deployment_name: deployment_name.to_owned(),
        temporal_namespace: process.temporal_namespace,
        scale_down_delay_seconds: seen.settings.scale_down_delay_seconds,
        keep: process.revision_history_limit,
        since: process.drain.is_some().then_some(since),
        policy: process.drain,
        memory: None,
        terse: true,
        own_timers: true,
    }
}

/// Starts a child. One that runs already, started by an earlier run of this lifecycle, is as good.
pub(super) async fn start(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &mut Children,
    key: &ProcessKey,
    seen: &Observation,
    child: &Child,
) {
    let process = seen.process.clone().unwrap_or_default();
    let indexed = seen.settings.search_attributes;
    let started = match child {
        Child::Rollout {
            id,
            build_id,
            deployment_name,
            deadline,
            stable,
            at_once,
            take_over,
        } => {
            let input = RolloutInput {
                key: key.clone(),
                build_id: build_id.clone(),
                deployment_name: deployment_name.clone(),
                temporal_namespace: process.temporal_namespace,
                task_queue: process.task_queue,
                deadline: *deadline,
                policy: process.policy.clone(),
                stable: stable.clone(),
                at_once: *at_once,
                paused: process.paused,
                take_over: *take_over,
                versioning: process.versioning,
                ready_within: (process.versioning == Versioning::None)
                    .then_some(process.progress_deadline_seconds),
                revised: true,
                own_timers: true,
            };
            let words = Words {
                summary: format!("bring {} {build_id} live", key.name),
                details: format!(
                    "Brings version `{build_id}` of Process {}/{} live. Completed: it is Current. Failed: it was \
                     given up. Canceled: a change has superseded it.\n\n`pause`, `resume`, `promote`, `abort` and \
                     `retry` are Updates and signals of its parent.",
                    key.namespace, key.name
                ),
            };
            let attributes =
                indexed.then(|| support::search_attributes(key, "RollingOut", build_id));
            ctx.start_child_workflow(ProcessRollout::run, input, options(id, words, attributes))
                .await
                .map(|started| started.result().boxed_local())
        }
        Child::Drain {
            id,
            build_id,
            deployment_name,
            since,
        } => {
            let place = (build_id.as_str(), deployment_name.as_str());
            let input = drain(key, seen, process, place, *since);
            let words = Words {
                summary: format!("retire {} {build_id}", key.name),
                details: format!(
                    "Keeps the pods of version `{build_id}` of Process {}/{} until no running workflow is pinned to \
                     it, then removes them, its Deployment and its record.\n\nSignal `forceCancelDrain` ends it sooner.",
                    key.namespace, key.name
                ),
            };
            let attributes = indexed.then(|| support::search_attributes(key, "Draining", build_id));
            ctx.start_child_workflow(ProcessDrain::run, input, options(id, words, attributes))
                .await
                .map(|started| started.result().boxed_local())
        }
    };
    let (id, kind, build_id) = match child {
        Child::Rollout { id, build_id, .. } => (id.clone(), ChildKind::Rollout, build_id.clone()),
        Child::Drain { id, build_id, .. } => (id.clone(), ChildKind::Drain, build_id.clone()),
    };
    match started {
        Ok(result) => {
            let running = id.clone();
            let ended = result.map(move |result| report(id, kind, build_id, result));
            children.running.push((running, ended.boxed_local()));
        }
        Err(ChildWorkflowStartError::StartFailed {
            cause: StartChildWorkflowExecutionFailedCause::WorkflowAlreadyExists,
            ..
        }) => {}
        Err(error) => ctx.state_mut(|s| {
            s.state.forget(&id);
            let failure = StepFailure::new(ErrorCategory::Internal, error.to_string());
            s.state.trouble = Some((failure, 1));
        }),
    }
}

/// Who is asked to report by signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// Those that this run does not await.
    Unawaited,
    /// All, before the run hands over: the next one cannot await them, and what ended in between would be
    /// told to nobody.
    All,
}

/// Asks children to report by signal. One that has ended is forgotten, unless its result is on its way: what it did is
/// found by looking.
pub(super) async fn ask(ctx: &WorkflowContext<ProcessLifecycle>, children: &Children, whom: Whom) {
    let unasked: Vec<(String, ChildKind)> = ctx.state(|s| {
        s.state
            .children()
            .filter(|(id, _)| whom == Whom::All || !children.awaits(id))
            .filter(|(id, _)| !s.asked.contains(id))
            .collect()
    });
    for (id, kind) in unasked {
        let options = SignalWorkflowOptions::builder()
            .cancellation_token(WorkflowCancellationToken::new())
            .summary("ask the child to report".to_owned())
            .build();
        let child = ctx.external_workflow(id.clone(), None);
        let input = RawValue::new(Vec::new());
        let asked = match kind {
            ChildKind::Rollout => child.signal(ProcessRollout::report, input, options).await,
            ChildKind::Drain => child.signal(ProcessDrain::report, input, options).await,
        };
        ctx.state_mut(|s| {
            if asked.is_ok() {
                s.asked.insert(id);
            } else if !children.awaits(&id) && (s.rules < 2 || !s.has_report(&id)) {
                s.state.forget(&id);
                s.dirty = true;
            }
        });
    }
}

/// A child was told something, or was not there to hear it. One that this run awaits tells its end by itself; another
/// one is forgotten, unless its report has just come.
pub(super) fn miss(
    ctx: &WorkflowContext<ProcessLifecycle>,
    children: &Children,
    id: &str,
    heard: bool,
) {
    if heard || children.awaits(id) {
        return;
    }
    ctx.state_mut(|s| {
        if s.rules > 1 && !s.has_report(id) {
            s.state.forget(id);
            s.dirty = true;
        }
    });
}

/// What the Temporal UI shows of a child, whatever becomes of it.
struct Words {
    summary: String,
    details: String,
}

fn options(
    id: &str,
    words: Words,
    attributes: Option<Vec<temporalio_common::search_attributes::SearchAttributeUpdate>>,
) -> ChildWorkflowOptions {
    ChildWorkflowOptions::builder()
        .workflow_id(id.to_owned())
        // A child outlives its parent's continue-as-new and termination.
        .parent_close_policy(ParentClosePolicy::Abandon)
        .cancellation_token(WorkflowCancellationToken::new())
        .id_reuse_policy(WorkflowIdReusePolicy::AllowDuplicate)
        .task_timeout(TASK_TIMEOUT)
        // When tasks wait for each other, those that bring Deployments come first.
        .priority(Priority::builder().priority_key(CHILD_PRIORITY).build())
        .static_summary(words.summary)
        .static_details(words.details)
        .maybe_search_attributes(attributes.map(SearchAttributes::new))
        .build()
}
