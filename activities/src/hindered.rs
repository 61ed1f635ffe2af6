//! What is told when a look or a step fails again and again: no plan then comes as far as its status.

use std::time::Duration;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{EventType, ProcessKey, Step, StepFailure};

use crate::build::hash;
use crate::context::Context;
use crate::error::{Fault, Result};
use crate::events::{self, Note};
use crate::{act, status};

/// After so many failures in a row it is told: what passes within seconds is no news.
const FROM: u32 = 3;
/// With the API server away this fails as well, and keeps nothing waiting for long.
const BRIEF: Duration = Duration::from_secs(3);

/// The `tries` before it have failed too.
pub(crate) async fn look_failed(
    context: &Context,
    key: &ProcessKey,
    tries: u32,
    failure: &StepFailure,
) {
    log(key, tries, failure);
    if tries >= FROM {
        tell(context, key, failure).await;
    }
}

/// The same for a step. What is not for the API server to say, the lifecycle tells at once.
pub(crate) async fn step_failed(
    context: &Context,
    key: &ProcessKey,
    tries: u32,
    step: &Step,
    failure: &StepFailure,
) {
    log(key, tries, failure);
    if tries < FROM {
        return;
    }
    if matches!(step, Step::PublishStatus { .. }) {
        no_status(context, key, failure).await;
    } else if failure.category == ErrorCategory::Unavailable {
        tell(context, key, failure).await;
    }
}

pub(crate) fn log(key: &ProcessKey, tries: u32, failure: &StepFailure) {
    tracing::warn!(
        namespace = key.namespace,
        process = key.name,
        category = failure.category.metric_label(),
        failures = tries.saturating_add(1),
        "{}",
        failure.message
    );
}

/// In the conditions; as an Event where status cannot be written.
async fn tell(context: &Context, key: &ProcessKey, failure: &StepFailure) {
    match tokio::time::timeout(BRIEF, publish(context, key, failure)).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => no_status(context, key, &fault.into()).await,
        Err(_) => tracing::warn!(
            namespace = key.namespace,
            process = key.name,
            "what fails cannot be written into status: no answer"
        ),
    }
}

async fn publish(context: &Context, key: &ProcessKey, failure: &StepFailure) -> Result<()> {
    let found = act::read(context, key).await?;
    let uid = |found: &process_operator_crds::Process| found.metadata.uid.clone();
    let Some(process) = found.filter(|found| uid(found).as_deref() == Some(&key.uid)) else {
        return Ok(());
    };
    status::tell_failure(context, &process, key, failure, jiff::Timestamp::now()).await
}

/// Once an hour for what keeps being refused: whoever reads the Process finds an old status there, and that
/// it is old.
async fn no_status(context: &Context, key: &ProcessKey, failure: &StepFailure) {
    let text = format!(
        "the status is out of date, since it cannot be written: {}",
        failure.message
    );
    event(
        context,
        key,
        ("status", "PublishStatus"),
        (failure.category, &failure.message),
        text,
    )
    .await;
}

/// An activity that Temporal tries again has failed, for the `attempt`th time. What a wait is about is in
/// nobody's status while it fails.
pub(crate) async fn activity_failed(
    context: &Context,
    key: &ProcessKey,
    activity: &str,
    attempt: u32,
    fault: &Fault,
) {
    let category = fault.category;
    if !category.retryable() {
        return;
    }
    tracing::warn!(
        namespace = key.namespace,
        process = key.name,
        category = category.metric_label(),
        attempt,
        "{activity}: {fault}"
    );
    if attempt > FROM {
        let text = format!("{activity} has failed {attempt} times and is tried again: {fault}");
        work_fails(context, key, activity, fault, text).await;
    }
}

/// Within one try: a wait goes on, and what it looks at or changes has failed so many `times` in a row.
pub(crate) async fn wait_fails(
    context: &Context,
    key: &ProcessKey,
    activity: &str,
    times: u32,
    fault: &Fault,
) {
    let category = fault.category;
    tracing::warn!(
        namespace = key.namespace,
        process = key.name,
        category = category.metric_label(),
        failures = times,
        "{activity}: {fault}; waiting"
    );
    let text = format!("{activity} waits, since this has failed {times} times in a row: {fault}");
    work_fails(context, key, activity, fault, text).await;
}

async fn work_fails(
    context: &Context,
    key: &ProcessKey,
    activity: &str,
    fault: &Fault,
    text: String,
) {
    let category = fault.category;
    // That a server is away is told for all.
    let away = [
        ErrorCategory::Unavailable,
        ErrorCategory::TemporalUnavailable,
        ErrorCategory::RateLimited,
    ];
    if !away.contains(&category) {
        let why = fault.to_string();
        event(context, key, (activity, "Work"), (category, &why), text).await;
    }
}

/// An Event, once an hour, about something that fails: what, and the action. Each right that is missing has its own.
async fn event(
    context: &Context,
    key: &ProcessKey,
    (about, action): (&str, &str),
    (category, why): (ErrorCategory, &str),
    text: String,
) {
    let hour = jiff::Timestamp::now().as_second() / 3600;
    // Words of other failures differ from one try to the next.
    let right = match category {
        ErrorCategory::Forbidden => hash::short(why.as_bytes()),
        _ => String::new(),
    };
    let id = format!("{}/{about}/{category}/{right}/{hour}", key.uid);
    let reason = category.event_reason();
    let note = Note {
        action: action.to_owned(),
        ..Note::new(id, key.clone(), EventType::Warning, reason, text)
    };
    let created = events::create(&context.kube, &context.instance, &note);
    match tokio::time::timeout(BRIEF, created).await {
        Ok(Ok(true)) => context.meter.event(&note.reason),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::warn!(
            namespace = key.namespace,
            process = key.name,
            "neither a status nor an Event can be written: {}",
            Fault::from(error)
        ),
        Err(_) => tracing::warn!(
            namespace = key.namespace,
            process = key.name,
            "no Event can be written: no answer"
        ),
    }
}
