//! Small things that the workflows share.

use std::time::Duration;

use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use serde::Serialize;
use serde::de::DeserializeOwned;
use temporalio_common::SignalDefinition;
use temporalio_common::data_converters::RawValue;
use temporalio_common::error::{ApplicationFailure, IncomingError};
use temporalio_common::protos::temporal::api::common::v1::Payload;
use temporalio_common::search_attributes::{SearchAttributeKey, SearchAttributeUpdate};
use temporalio_workflow::{
    ActivityExecutionError, ActivityOptions, LocalActivityOptions, RetryPolicy,
    SignalWorkflowOptions, TimerOptions, WorkflowCancellationToken, WorkflowContext,
    WorkflowResult, WorkflowTermination,
};

use crate::contract::{
    ChildFinished, ChildKind, ChildOutcome, ProcessKey, QUEUE_WAITS, SA_BUILD_ID, SA_NAME,
    SA_NAMESPACE, SA_PHASE, StepFailure,
};
use crate::lifecycle::ProcessLifecycle;

/// Longest time a workflow task may take before another worker is given it: after a kill, the next
/// step is late by at most this and the sticky timeout.
pub(crate) const TASK_TIMEOUT: Duration = Duration::from_secs(5);

const KEY_NAME: SearchAttributeKey<String> = SearchAttributeKey::keyword(SA_NAME);
const KEY_NAMESPACE: SearchAttributeKey<String> = SearchAttributeKey::keyword(SA_NAMESPACE);
const KEY_PHASE: SearchAttributeKey<String> = SearchAttributeKey::keyword(SA_PHASE);
const KEY_BUILD_ID: SearchAttributeKey<String> = SearchAttributeKey::keyword(SA_BUILD_ID);

/// Search attributes of one workflow.
pub(crate) fn search_attributes(
    key: &ProcessKey,
    phase: &str,
    build_id: &str,
) -> Vec<SearchAttributeUpdate> {
    vec![
        KEY_NAME.value_set(key.name.clone()),
        KEY_NAMESPACE.value_set(key.namespace.clone()),
        KEY_PHASE.value_set(phase.to_owned()),
        KEY_BUILD_ID.value_set(build_id.to_owned()),
    ]
}

/// Workflow time. Only before the first activation is there none.
pub(crate) fn timestamp(time: Option<std::time::SystemTime>) -> Timestamp {
    time.and_then(|time| Timestamp::try_from(time).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Options of a local activity: one try here, since retries belong to the lifecycle, which can show them.
pub(crate) fn local(summary: String) -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .start_to_close_timeout(Duration::from_secs(60))
        .schedule_to_close_timeout(Duration::from_secs(120))
        .retry_policy(RetryPolicy::builder().maximum_attempts(2).build())
        .summary(summary)
        .build()
}

/// Options of a local activity that is tried once, and not for long: what follows a failure takes longer.
pub(crate) fn quick(summary: String, token: WorkflowCancellationToken) -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .start_to_close_timeout(Duration::from_secs(3))
        .schedule_to_close_timeout(Duration::from_secs(3))
        .retry_policy(RetryPolicy::builder().maximum_attempts(1).build())
        .cancellation_token(token)
        .summary(summary)
        .build()
}

/// Options of a heartbeating wait. It may take weeks; a worker that dies is noticed by its heartbeat.
/// Without a token of its own it ends with the workflow's cancellation.
pub(crate) fn wait(summary: String, token: Option<WorkflowCancellationToken>) -> ActivityOptions {
    waiting(summary, token, Duration::from_secs(5))
}

/// The same for a wait of days that only looks: there may be hundreds, each heartbeat is a write on the server,
/// and nobody minds if it goes on half a minute after its worker has died. The SDK sends a heartbeat each
/// time that four fifths of the time-out have passed.
pub(crate) fn long_wait(
    summary: String,
    token: Option<WorkflowCancellationToken>,
) -> ActivityOptions {
    waiting(summary, token, Duration::from_secs(30))
}

fn waiting(
    summary: String,
    token: Option<WorkflowCancellationToken>,
    heartbeat: Duration,
) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout(Duration::from_secs(400 * 24 * 3600))
        .task_queue(QUEUE_WAITS)
        .heartbeat_timeout(heartbeat)
        .retry_policy(retry())
        .maybe_cancellation_token(token)
        .summary(summary)
        .build()
}

/// A durable timer for what is left until then; none when that has passed.
pub(crate) async fn until<W>(
    ctx: &WorkflowContext<W>,
    due: Timestamp,
    summary: String,
    token: WorkflowCancellationToken,
) {
    let left = due.duration_since(timestamp(ctx.workflow_time()));
    let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
    if !left.is_zero() {
        let options = TimerOptions::builder(left)
            .summary(summary)
            .cancellation_token(token)
            .build();
        ctx.timer(options).await;
    }
}

/// Decodes exactly one JSON payload. The message is for people and repeats nothing of the input,
/// which may hold anything.
pub(crate) fn decode<T: DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
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

/// Decodes the arguments of a verb. None at all is as good as ones without fields: the verb says most.
pub(crate) fn arguments<T: DeserializeOwned + Default>(raw: &RawValue) -> Result<T, String> {
    if raw.payloads.is_empty() || raw.payloads.iter().all(|payload| payload.data.is_empty()) {
        return Ok(T::default());
    }
    decode(raw)
}

/// Retry for ever, quickly at first: what must not be retried says so itself.
pub(crate) fn retry() -> RetryPolicy {
    RetryPolicy::builder()
        .initial_interval(Duration::from_millis(200))
        .backoff_coefficient(2.0)
        .maximum_interval(Duration::from_secs(30))
        .build()
}

/// What went wrong in an activity, with the category its implementation gave it.
pub(crate) fn failure(error: &ActivityExecutionError) -> StepFailure {
    let failure = application_failure(error.cause(), error);
    if error.as_timeout().is_some() {
        return StepFailure {
            category: ErrorCategory::Unavailable,
            ..failure
        };
    }
    failure
}

/// Category and message of a failure that crossed a workflow or activity boundary.
pub(crate) fn application_failure(
    cause: Option<&IncomingError>,
    whole: &dyn std::error::Error,
) -> StepFailure {
    match cause {
        Some(IncomingError::Application(application)) => StepFailure::new(
            crate::plan::category_of(application.type_name().unwrap_or_default()),
            application
                .failure()
                .map(|failure| failure.message.clone())
                .unwrap_or_default(),
        ),
        _ => StepFailure::new(ErrorCategory::Internal, whole.to_string()),
    }
}

/// `None` when the activity was cancelled because the workflow was told to stop.
#[allow(clippy::needless_pass_by_value)] // the shape that map_err wants
pub(crate) fn unless_cancelled(error: ActivityExecutionError) -> Option<StepFailure> {
    error.as_cancelled().is_none().then(|| failure(&error))
}

/// Ends the execution as Failed, with the category as type.
fn failed(failure: StepFailure) -> WorkflowTermination {
    ApplicationFailure::builder(failure.message)
        .type_name(failure.category.metric_label().to_owned())
        .non_retryable(true)
        .build()
        .into()
}

/// Ends a child: reports to the lifecycle when it was asked to, and gives the execution the status
/// that fits. `Err(None)` is a child that was told to stop.
pub(crate) async fn conclude<W>(
    ctx: &WorkflowContext<W>,
    key: &ProcessKey,
    kind: ChildKind,
    build_id: &str,
    asked: bool,
    result: Result<String, Option<StepFailure>>,
) -> WorkflowResult<String> {
    if asked {
        let (outcome, category, message) = match &result {
            Ok(message) => (ChildOutcome::Completed, "", message.as_str()),
            Err(None) => (ChildOutcome::Canceled, "", ""),
            Err(Some(failure)) => (
                ChildOutcome::Failed,
                failure.category.metric_label(),
                failure.message.as_str(),
            ),
        };
        let finished = ChildFinished {
            id: ctx.workflow_id().to_owned(),
            kind,
            build_id: build_id.to_owned(),
            outcome,
            category: category.to_owned(),
            message: message.to_owned(),
        };
        report(ctx, key, finished).await;
    }
    result.map_err(|stopped| match stopped {
        None => WorkflowTermination::cancelled(),
        Some(failure) => failed(failure),
    })
}

/// Tells the lifecycle how a child ended.
async fn report<W>(ctx: &WorkflowContext<W>, key: &ProcessKey, finished: ChildFinished) {
    let finish = ProcessLifecycle::child_finished;
    signal_lifecycle(ctx, key, finish, &finished, "report to the lifecycle").await;
}

/// Signals the lifecycle. Detached from cancellation, since a cancelled child reports too. A
/// lifecycle that is gone needs no report: its successor looks for itself.
pub(crate) async fn signal_lifecycle<W, S>(
    ctx: &WorkflowContext<W>,
    key: &ProcessKey,
    signal: S,
    message: &impl Serialize,
    summary: &str,
) where
    S: SignalDefinition<Input = RawValue> + 'static,
{
    let Ok(payload) = payload(message) else {
        return;
    };
    let options = SignalWorkflowOptions::builder()
        .cancellation_token(WorkflowCancellationToken::new())
        .summary(summary.to_owned())
        .build();
    let _ = ctx
        .external_workflow(key.lifecycle().to_string(), None)
        .signal(signal, RawValue::new(vec![payload]), options)
        .await;
}

/// A message as one JSON payload.
pub(crate) fn payload(message: &impl Serialize) -> Result<Payload, serde_json::Error> {
    Ok(Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
        data: serde_json::to_vec(message)?,
        ..Payload::default()
    })
}
