//! Waits until a version's pods are ready and poll on their queue.

mod late;
mod looks;

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use process_operator_crds::ErrorCategory;
use process_operator_crds::spec::Versioning;
use process_operator_workflows::contract::{ProcessKey, WaitServingInput, WaitServingOutcome};
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueType;
use tokio::time::Instant;

use super::{Pace, left, passing};
use crate::cache::Workload;
use crate::context::Context;
use crate::error::Fault;
use crate::pods;
use crate::temporal::{lifecycle, versions};
use crate::watched::workload;
use looks::{Looks, QUICK};

/// How long ready pods may go without a poller of their version before unversioned pollers on the
/// queue are taken for them.
const GRACE: Duration = Duration::from_secs(15);
/// Silence of the watch after which the API server is asked.
const MUTE: Duration = Duration::from_secs(20);
/// Time for one look at everything, however late.
const WHOLE: Duration = Duration::from_secs(12);
/// Between two looks at why pods are not ready, at first and at most.
const PODS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

pub(crate) async fn wait(
    context: &Context,
    input: &WaitServingInput,
    try_: Try<'_>,
) -> Result<WaitServingOutcome, Fault> {
    let time = time(left(input.deadline), try_.again);
    match tokio::time::timeout(time, serve(context, input, try_)).await {
        Ok(outcome) => outcome,
        Err(_) => late::late(context, input).await,
    }
}

/// How long a try may take. One that begins when the time is up, or nearly, takes what happened while nobody looked:
/// it is not given up before everything was looked at.
fn time(left: Duration, again: bool) -> Duration {
    if again || left.is_zero() {
        left.max(WHOLE)
    } else {
        left
    }
}

async fn serve(
    context: &Context,
    input: &WaitServingInput,
    try_: Try<'_>,
) -> Result<WaitServingOutcome, Fault> {
    if input.versioning == Versioning::None && input.stable.as_deref() != Some("") {
        // Its pods take a share as soon as they are there, so they come with its first weight.
        return Ok(WaitServingOutcome {
            serving: true,
            ..WaitServingOutcome::default()
        });
    }
    let mut told = Told::new(try_);
    let ready = available(context, &input.key, workload_name(input), None);
    tokio::select! {
        ready = ready => ready?,
        never = told.hindrances(context, input) => match never {},
    }
    told.nothing(context, input).await;
    if !input.versioning.is_default() {
        return polled(context, input).await;
    }
    let ready_since = Instant::now();
    // Workers begin to poll within a second of their start; what takes longer may take long, and without
    // pods it is somebody else's workers that are waited for.
    let quick_for = if replicas(context, input) == 0 {
        Duration::ZERO
    } else {
        QUICK
    };
    let mut quick = Pace::new(Duration::from_millis(50), Duration::from_millis(500));
    let mut slow = Pace::new(Duration::from_millis(500), Duration::from_secs(15));
    let (mut looks, mut asked) = (Looks::new(ready_since, quick_for), false);
    loop {
        let record = versions::record(
            context,
            &input.temporal_namespace,
            &input.key,
            &input.build_id,
        )
        .await;
        let record = passing(record)?;
        let unregistered = matches!(record, Some(None));
        if let Some(Some(record)) = record
            && record
                .queues
                .contains(&(input.task_queue.clone(), TaskQueueType::Workflow))
            && let Some(missing) = passing(missing(context, input, &record).await)?
            && missing.is_empty()
        {
            return served(context, input).await;
        }
        if unregistered && !asked && !looks.unversioned && ready_since.elapsed() > GRACE {
            let (namespace, key) = (&input.temporal_namespace, &input.key);
            let full = versions::full(context, namespace, key, &input.build_id).await;
            let full = passing(full)?;
            asked = full.is_some();
            if let Some(Some(why)) = full {
                return Ok(WaitServingOutcome {
                    category: Some(ErrorCategory::QuotaExceeded),
                    message: format!(
                        "Temporal namespace {namespace} takes no further version: {why}; delete what is not \
                         used there, or raise matching.maxVersionsInDeployment or matching.maxDeployments of \
                         the server, then request `retry`"
                    ),
                    ..WaitServingOutcome::default()
                });
            }
        }
        if looks.unversioned && ready_since.elapsed() > GRACE {
            return Ok(WaitServingOutcome {
                category: Some(ErrorCategory::WorkerNotVersioned),
                message: format!(
                    "the workers poll {} without saying their version; set deployment name and build id \
                     of the worker from TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID and turn \
                     Worker Versioning on",
                    input.task_queue
                ),
                ..WaitServingOutcome::default()
            });
        }
        let pace = if looks.expect_a_poll() {
            &mut quick
        } else {
            &mut slow
        };
        looks.rest(context, input, pace.next()).await?;
    }
}

/// Which try of the activity it is, and what all tries have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Try<'a> {
    /// Names the activity.
    pub(crate) occasion: &'a str,
    /// An earlier one may have told something.
    pub(crate) again: bool,
}

/// What the lifecycle has been told about pods that do not become ready.
struct Told<'a> {
    try_: Try<'a>,
    count: u32,
    /// The last two: a pod that ends again and again says two things in turn.
    last: [String; 2],
}

impl<'a> Told<'a> {
    fn new(try_: Try<'a>) -> Self {
        Self {
            try_,
            count: 0,
            last: Default::default(),
        }
    }

    /// Tells what keeps pods from being ready, as long as it is waited for.
    async fn hindrances(&mut self, context: &Context, input: &WaitServingInput) -> Infallible {
        let mut pace = Pace::new(PODS.0, PODS.1);
        loop {
            pace.rest().await;
            let why = pods::hindrance(context, pods_of(input)).await;
            if !why.is_empty() && !self.last.iter().any(|said| alike(said, &why)) {
                self.last.rotate_left(1);
                self.last[1].clone_from(&why);
                self.tell(context, input, &why).await;
            }
        }
    }

    /// Takes back what was told.
    async fn nothing(&mut self, context: &Context, input: &WaitServingInput) {
        if self.try_.again || self.count > 0 {
            self.tell(context, input, "").await;
        }
    }

    async fn tell(&mut self, context: &Context, input: &WaitServingInput, why: &str) {
        let Some(mut announce) = input.announce.clone() else {
            return;
        };
        self.count += 1;
        announce.progress.message = why.trim_start_matches(": ").to_owned();
        let occasion = format!("{}/{}/{why}", self.try_.occasion, self.count);
        lifecycle::announce(context, &input.key, &announce, &occasion).await;
    }
}

/// The same but for numbers, such as the seconds until a pod is started again.
fn alike(one: &str, other: &str) -> bool {
    let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    words(one) == words(other)
}

/// Waits until somebody polls the queue: without Worker Versioning a poller does not say of which
/// version it is.
async fn polled(context: &Context, input: &WaitServingInput) -> Result<WaitServingOutcome, Fault> {
    let mut pace = Pace::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let pollers =
            versions::unversioned_pollers(context, &input.temporal_namespace, &input.task_queue);
        if passing(pollers.await)?.is_some_and(|pollers| pollers > 0) {
            return Ok(WaitServingOutcome {
                serving: true,
                ..WaitServingOutcome::default()
            });
        }
        pace.rest().await;
    }
}

fn replicas(context: &Context, input: &WaitServingInput) -> i32 {
    let (namespace, name) = (&input.key.namespace, workload_name(input));
    let seen = context.cache.workload(namespace, name);
    seen.map_or(0, |seen| seen.replicas)
}

fn pods_of(input: &WaitServingInput) -> pods::Of<'_> {
    pods::Of {
        namespace: &input.key.namespace,
        process: &input.key.name,
        build_id: &input.build_id,
        deployment: workload_name(input),
    }
}

/// Name of the Deployment whose pods are waited for.
fn workload_name(input: &WaitServingInput) -> &str {
    if input.versioning == Versioning::None {
        &input.key.name
    } else {
        &input.deployment_name
    }
}

/// Task queues that the serving version polls and the new one does not: the server would refuse to
/// route to it, and tasks on them would wait for ever.
async fn missing(
    context: &Context,
    input: &WaitServingInput,
    record: &versions::Record,
) -> Result<Vec<String>, Fault> {
    let Some(stable) = input.stable.as_deref().filter(|stable| !stable.is_empty()) else {
        return Ok(Vec::new());
    };
    let stable = versions::record(context, &input.temporal_namespace, &input.key, stable).await?;
    let needed = stable.map(|stable| stable.queues).unwrap_or_default();
    Ok(needed
        .difference(&record.queues)
        .map(|(queue, kind)| format!("{queue} ({})", kind.as_str_name()))
        .collect())
}

async fn served(context: &Context, input: &WaitServingInput) -> Result<WaitServingOutcome, Fault> {
    let first = input.stable.as_deref() == Some("");
    let beside_unversioned = if first {
        let pollers =
            versions::unversioned_pollers(context, &input.temporal_namespace, &input.task_queue);
        passing(pollers.await)?.is_some_and(|pollers| pollers > 0)
    } else {
        false
    };
    Ok(WaitServingOutcome {
        serving: true,
        beside_unversioned,
        ..WaitServingOutcome::default()
    })
}

/// Waits until a Deployment of the Process is available, with pods of a version if one is named. By
/// the watcher's cache; looks for itself now and then, in case the watch has gone mute.
pub(crate) async fn available(
    context: &Context,
    key: &ProcessKey,
    name: &str,
    build_id: Option<&str>,
) -> Result<(), Fault> {
    let fits = |seen: Workload| {
        seen.available
            && seen.owner_uid == key.uid
            && build_id.is_none_or(|build_id| seen.build_id == build_id)
    };
    let api: Api<Deployment> = Api::namespaced(context.kube.clone(), &key.namespace);
    let mut changes = context.cache.subscribe();
    loop {
        changes.mark_unchanged();
        if context
            .cache
            .workload(&key.namespace, name)
            .is_some_and(fits)
        {
            return Ok(());
        }
        if let Ok(result) = tokio::time::timeout(MUTE, changes.changed()).await {
            if result.is_err() {
                return Err(Fault::new(
                    ErrorCategory::Unavailable,
                    "the watcher has stopped",
                ));
            }
            continue;
        }
        let fresh = api.get_opt(name).await.map_err(Fault::from);
        if let Some(Some(fresh)) = passing(fresh)?
            && workload(&fresh).is_some_and(fits)
        {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_that_begins_late_still_has_time_to_look() {
        let seconds = Duration::from_secs;
        for (left, again, expected) in [
            // The deadline is the user's, also a short one.
            (1, false, seconds(1)),
            (600, false, seconds(600)),
            (600, true, seconds(600)),
            (1, true, WHOLE),
            (0, true, WHOLE),
            // Nobody was there to begin it.
            (0, false, WHOLE),
        ] {
            assert_eq!(time(seconds(left), again), expected, "{left} {again}");
        }
    }

    #[test]
    fn a_longer_back_off_is_no_news() {
        let said = ": pod p CrashLoopBackOff back-off 10s restarting";
        assert!(alike(said, &said.replace("10s", "20s")));
        assert!(!alike(said, ": pod p ended with exit code 1"));
        assert!(!alike("", said));
    }
}
