//! Carries out steps on Kubernetes, in order, until one fails that the rest depends on.

mod aside;
mod finalizer;
mod wanted;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use process_operator_crds::{ErrorCategory, Process, names};
use process_operator_workflows::contract::{ActInput, ActOutcome, ProcessKey, StatusView, Step};
use process_operator_workflows::plan::cron_job_mark;
use serde_json::json;

use self::aside::Aside;
use self::wanted::{current, look_again, outlived, still_wanted};
use crate::apply::{Ready, Version};
use crate::context::{Context, Recent};
use crate::error::{Fault, Result};
use crate::events::Note;
use crate::remove::delete_version;
use crate::{apply, cron_jobs, events, hindered, logged, routes, status};

/// Tries of one step for what passes within a moment. Longer back-off belongs to the lifecycle,
/// where it is durable and can be seen.
const TRIES: u32 = 4;
/// Longest wait that the API server may ask for in between.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Before a task that was given to somebody else looks again.
const BREATH: Duration = Duration::from_secs(1);

/// What the steps of one call share.
pub(crate) struct Scene<'a> {
    pub(crate) context: &'a Context,
    pub(crate) key: &'a ProcessKey,
    pub(crate) process: Arc<Process>,
    /// The same object after our own writes, or read again after a conflict: what a status write
    /// is fenced by.
    latest: Mutex<Arc<Process>>,
    /// One moment for all tries of a step: what is tried again says the same.
    now: jiff::Timestamp,
    /// What was made ready ahead of the step that needs it.
    ahead: Mutex<Option<(String, Ready)>>,
    /// When the steps were last known to be wanted.
    wanted_at: Mutex<Instant>,
    /// Nothing was made for this Process before.
    pub(crate) first: bool,
}

impl Scene<'_> {
    /// What was made ready for a version; given once, since a second try looks for itself.
    pub(crate) fn made_ready(&self, name: &str) -> Option<Ready> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.take_if(|(of, _)| of == name).map(|(_, ready)| ready)
    }
}

/// Never fails: what went wrong is part of the answer.
pub(crate) async fn act(context: &Context, input: &ActInput) -> ActOutcome {
    logged::about(&input.key);
    logged::generation(input.generation);
    let mut aside = Aside::default();
    let outcome = take_all(context, input, &mut aside).await;
    context.cache.newcomers.leave(&input.key.uid);
    aside.told(input, outcome)
}

async fn take_all(context: &Context, input: &ActInput, aside: &mut Aside) -> ActOutcome {
    let mut outcome = ActOutcome::default();
    let Recent { process, asked_at } = match current(context, input).await {
        Ok(Some(found)) if outlived(&found.process, input.decided) => {
            // What is decided next in this task is too late as well, until Temporal takes it away.
            tokio::time::sleep(BREATH).await;
            outcome.superseded = true;
            return outcome;
        }
        Ok(Some(found)) => found,
        Ok(None) => {
            outcome.superseded = true;
            return outcome;
        }
        Err(fault) => {
            outcome.failure = Some(context.count(fault.about("reading the Process")).into());
            return outcome;
        }
    };
    let scene = Scene {
        context,
        key: &input.key,
        latest: Mutex::new(process.clone()),
        process,
        now: jiff::Timestamp::now(),
        ahead: Mutex::default(),
        wanted_at: Mutex::new(asked_at),
        first: input.first,
    };
    let mut applied = false;
    for (n, step) in input.steps.iter().enumerate() {
        if aside.leaves(step) {
            continue;
        }
        match step {
            Step::ApplyVersion { .. } => applied = true,
            Step::PublishStatus { .. } | Step::Event { .. } if std::mem::take(&mut applied) => {
                context.cache.newcomers.leave(&input.key.uid);
                context.cache.newcomers.over().await;
            }
            _ => {}
        }
        let taken = Box::pin(persist(&scene, input, step, &mut outcome));
        let taken = match step {
            Step::EnsureFinalizer => tokio::join!(taken, ahead(&scene, &input.steps[n..])).0,
            _ => taken.await,
        };
        if let Err(fault) = taken {
            let failure = context.count(fault).into();
            if aside.takes(step, &failure) {
                hindered::log(&input.key, input.tries, &failure);
            } else {
                hindered::step_failed(context, &input.key, input.tries, step, &failure).await;
                outcome.failure = Some(failure);
            }
        } else if !outcome.superseded {
            aside.done(step);
        }
        if outcome.superseded || outcome.failure.is_some() {
            break;
        }
    }
    outcome
}

/// Makes ready the first version to apply, while the finalizer is written: a ControllerRevision goes
/// with its owner and need not wait for that. What fails here is tried again in its turn.
async fn ahead(scene: &Scene<'_>, steps: &[Step]) {
    let Some(wanted) = steps.iter().find_map(Version::of) else {
        return;
    };
    if let Ok(ready) = Box::pin(crate::error::within(apply::prepare(scene, &wanted))).await {
        let mut ahead = scene.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        *ahead = Some((wanted.name.to_owned(), ready));
    }
}

/// Reads the Process. One that does not fit the present schema is read as far as its metadata goes:
/// its status can be written and its finalizer removed all the same.
pub(crate) async fn read(context: &Context, key: &ProcessKey) -> Result<Option<Process>> {
    let api = context.processes(&key.namespace);
    let Some(object) = api.get_opt(&key.name).await? else {
        return Ok(None);
    };
    let metadata = object.metadata.clone();
    let status = object.data.get("status").cloned().unwrap_or_default();
    let readable = object.try_parse::<Process>().ok();
    Ok(readable.or_else(|| {
        let nothing = json!({
            "image": "-",
            "definitionRef": { "id": "-", "tenantId": "-" },
            "temporal": { "namespace": "-", "taskQueue": "-" },
        });
        let mut process = Process::new(&key.name, serde_json::from_value(nothing).ok()?);
        process.metadata = metadata;
        process.status = serde_json::from_value(status).ok();
        Some(process)
    }))
}

/// Takes a step, and again what passes within a moment, unless it is not wanted any more.
async fn persist(
    scene: &Scene<'_>,
    input: &ActInput,
    step: &Step,
    outcome: &mut ActOutcome,
) -> Result<()> {
    let mut pause = Duration::from_millis(50);
    for attempt in 1.. {
        if !still_wanted(scene, input).await? {
            outcome.superseded = true;
            return Ok(());
        }
        let Err(fault) = Box::pin(crate::error::within(take(scene, input, step, outcome))).await
        else {
            return Ok(());
        };
        let passes = matches!(
            fault.category,
            ErrorCategory::Conflict | ErrorCategory::RateLimited | ErrorCategory::Unavailable
        );
        let asked = Duration::from_secs(fault.retry_after_seconds.unwrap_or_default().into());
        if attempt >= TRIES || !passes || asked > AT_ONCE {
            return Err(fault);
        }
        tokio::time::sleep(pause.max(asked)).await;
        pause *= 3;
    }
    Ok(())
}

async fn take(
    scene: &Scene<'_>,
    input: &ActInput,
    step: &Step,
    outcome: &mut ActOutcome,
) -> Result<()> {
    match step {
        Step::EnsureFinalizer => {
            outcome.superseded |= !finalizer::add(scene).await?;
            Ok(())
        }
        Step::ApplyVersion { name, .. } => {
            if let Some(wanted) = Version::of(step) {
                let fields = Box::pin(apply::apply(scene, &wanted)).await?;
                outcome.applied.insert(name.clone(), fields);
            }
            Ok(())
        }
        Step::DeleteVersion { name, uid } => {
            delete_version(scene.context, scene.key, name, uid.as_deref()).await
        }
        Step::ApplyCronJob {
            name,
            job,
            uid,
            kept_as,
            ..
        } => {
            let wanted = cron_jobs::Wanted {
                name,
                job,
                uid: uid.as_deref(),
                kept_as,
            };
            let fields = Box::pin(cron_jobs::apply(scene, &wanted)).await?;
            outcome.applied.insert(cron_job_mark(name), fields);
            Ok(())
        }
        Step::DeleteCronJob { name, uid } => cron_jobs::delete(scene, name, uid).await,
        Step::RestoreRouting { current } => {
            let spec = &scene.process.spec;
            let scope = (spec.rollout.versioning, spec.temporal.task_queue.as_str());
            routes::restore(scene.context, scene.key, scope, current).await
        }
        Step::RestartVersion { name, uid, at } => restart(scene, name, uid, *at).await,
        Step::PublishStatus { status } => {
            match publish(scene, input, status).await? {
                Some(published) => outcome.status = Some(published),
                None => outcome.superseded = true,
            }
            Ok(())
        }
        Step::Event {
            id,
            kind,
            reason,
            action,
            note,
            build_id,
        } => {
            let note = Note {
                id: id.clone(),
                key: scene.key.clone(),
                kind: *kind,
                reason: reason.clone(),
                action: action.clone(),
                text: note.clone(),
                deployment: deployment_of(scene, build_id),
            };
            events::record(scene.context, &scene.process, &note).await
        }
        Step::RemoveFinalizer => finalizer::remove(scene, &mut outcome.let_go).await,
    }
}

/// Name and uid of the Deployment of a version, as the watcher has seen it.
fn deployment_of(scene: &Scene<'_>, build_id: &str) -> Option<(String, String)> {
    let ProcessKey {
        namespace,
        name,
        uid,
    } = scene.key;
    let mut all = scene
        .context
        .cache
        .workloads_of(namespace, name, uid)
        .into_iter();
    let found = all.find(|workload| workload.build_id == build_id)?;
    Some((found.name, found.uid))
}

/// Publishes status on the object last seen. After a conflict the next try is on a newer one, unless that shows what
/// was decided meanwhile by another replica, or a change that has not been looked at: then `None`.
async fn publish(scene: &Scene<'_>, input: &ActInput, view: &StatusView) -> Result<Option<String>> {
    let latest = {
        let latest = scene.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    };
    let published = status::publish(scene.context, &latest, scene.key, view, scene.now).await;
    let fault = match published {
        Err(fault) if fault.category == ErrorCategory::Conflict => fault,
        published => return published.map(Some),
    };
    let Some(found) = look_again(scene, input).await? else {
        return Ok(None);
    };
    *scene.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
    Err(fault)
}

/// Restarts pods as `kubectl rollout restart` does, and like that under another name: our own applies
/// do not know the annotation and leave it alone.
async fn restart(scene: &Scene<'_>, name: &str, uid: &str, at: jiff::Timestamp) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(scene.context.kube.clone(), &scene.key.namespace);
    let patch = json!({
        "metadata": { "uid": uid },
        "spec": { "template": { "metadata": { "annotations": {
            "kubectl.kubernetes.io/restartedAt": at.to_string(),
        }}}},
    });
    let params = PatchParams {
        field_manager: Some(names::manager::RESTART.into()),
        ..PatchParams::default()
    };
    match api.patch(name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let fault = Fault::from(error).about(&format!("restarting {name}"));
            let live = api.get_opt(name).await?;
            // Gone or another one by now: its pods are new anyway.
            let other = live.and_then(|live| live.uid()).as_deref() != Some(uid);
            if other { Ok(()) } else { Err(fault) }
        }
    }
}
