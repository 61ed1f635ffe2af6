//! Carries out steps on Kubernetes, in order, until one fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use process_operator_crds::{ErrorCategory, Process, names};
use process_operator_workflows::contract::{ActInput, ActOutcome, ProcessKey, StatusView, Step};
use serde_json::json;

use crate::build::{controls, deployment, hash, revision, template};
use crate::context::Context;
use crate::error::{Fault, Result};
use crate::remove::delete_version;
use crate::watched::orphaned;
use crate::{events, status};

/// Tries of one step for what passes within a moment. Longer back-off belongs to the lifecycle,
/// where it is durable and can be seen.
const TRIES: u32 = 4;

/// What the steps of one call share.
struct Scene<'a> {
    context: &'a Context,
    key: &'a ProcessKey,
    process: Arc<Process>,
    /// The same object after our own writes, or read again after a conflict: what a status write
    /// is fenced by.
    latest: Mutex<Arc<Process>>,
    /// One moment for all tries of a step: what is tried again says the same.
    now: jiff::Timestamp,
}

/// Never fails: what went wrong is part of the answer.
pub(crate) async fn act(context: &Context, input: &ActInput) -> ActOutcome {
    let mut outcome = ActOutcome::default();
    let process = match current(context, input).await {
        Ok(Some(process)) => process,
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
    };
    for step in &input.steps {
        if let Err(fault) = Box::pin(persist(&scene, step, &mut outcome)).await {
            outcome.failure = Some(context.count(fault).into());
            break;
        }
    }
    outcome
}

/// The Process that the steps were planned for: as just observed by this process, or read again.
/// `None` when it has changed since.
async fn current(context: &Context, input: &ActInput) -> Result<Option<Arc<Process>>> {
    let fits = |process: &Process| {
        process.metadata.uid.as_deref() == Some(input.key.uid.as_str())
            && process.metadata.generation.unwrap_or(0) == input.generation
    };
    if let Some(recent) = context.recall(&input.key.uid)
        && fits(&recent)
    {
        return Ok(Some(recent));
    }
    let found = read(context, &input.key).await?;
    Ok(found.filter(fits).map(Arc::new))
}

/// Reads the Process. One that does not fit the present schema is read as far as its metadata goes:
/// its status can be written and its finalizer removed all the same.
async fn read(context: &Context, key: &ProcessKey) -> Result<Option<Process>> {
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

async fn persist(scene: &Scene<'_>, step: &Step, outcome: &mut ActOutcome) -> Result<()> {
    let mut pause = Duration::from_millis(50);
    for attempt in 1.. {
        let Err(fault) = Box::pin(crate::error::within(take(scene, step, outcome))).await else {
            return Ok(());
        };
        let passes = matches!(
            fault.category,
            ErrorCategory::Conflict | ErrorCategory::RateLimited | ErrorCategory::Unavailable
        );
        if attempt >= TRIES || !passes {
            return Err(fault);
        }
        tokio::time::sleep(pause).await;
        pause *= 3;
    }
    Ok(())
}

async fn take(scene: &Scene<'_>, step: &Step, outcome: &mut ActOutcome) -> Result<()> {
    match step {
        Step::EnsureFinalizer => add_finalizer(scene).await,
        Step::ApplyVersion {
            build_id,
            name,
            uid,
            revision,
            replicas,
        } => {
            let wanted = Version {
                build_id,
                name,
                uid: uid.as_deref(),
                revision: *revision,
                replicas: *replicas,
            };
            let fields = apply_version(scene, &wanted).await?;
            outcome.applied.insert(name.clone(), fields);
            Ok(())
        }
        Step::DeleteVersion { name, uid } => {
            delete_version(scene.context, scene.key, name, uid.as_deref()).await
        }
        Step::RestartVersion { name, uid, at } => restart(scene, name, uid, *at).await,
        Step::PublishStatus { status } => {
            outcome.status = Some(publish(scene, status).await?);
            Ok(())
        }
        Step::Event {
            id,
            kind,
            reason,
            action,
            note,
        } => {
            events::record(
                scene.context,
                &scene.process,
                id,
                *kind,
                reason,
                action,
                note,
            )
            .await
        }
        Step::RemoveFinalizer => remove_finalizer(scene).await,
    }
}

/// Publishes status on the object last seen. After a conflict the next try is on a newer one.
async fn publish(scene: &Scene<'_>, view: &StatusView) -> Result<String> {
    let latest = {
        let latest = scene.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    };
    let published = status::publish(scene.context, &latest, scene.key, view, scene.now).await;
    let Err(fault) = &published else {
        return published;
    };
    if fault.category == ErrorCategory::Conflict {
        let found = read(scene.context, scene.key).await?;
        let Some(found) = found.filter(|found| found.uid().as_ref() == Some(&scene.key.uid)) else {
            // Nobody is left to read it.
            return Ok(String::new());
        };
        *scene.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
    }
    published
}

/// JSON patch with a test of the uid, so that a successor of the same name is never written to.
async fn patch_finalizers(scene: &Scene<'_>, present: &Process, wanted: &[String]) -> Result<()> {
    let before = present.finalizers();
    let change = if before.is_empty() {
        json!([{ "op": "add", "path": "/metadata/finalizers", "value": wanted }])
    } else {
        json!([
            { "op": "test", "path": "/metadata/finalizers", "value": before },
            { "op": "replace", "path": "/metadata/finalizers", "value": wanted },
        ])
    };
    let mut operations =
        vec![json!({ "op": "test", "path": "/metadata/uid", "value": scene.key.uid })];
    operations.extend(change.as_array().into_iter().flatten().cloned());
    let patch: Patch<DynamicObject> = Patch::Json(
        serde_json::from_value(operations.into())
            .map_err(|error| Fault::new(ErrorCategory::Internal, error.to_string()))?,
    );
    let params = PatchParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PatchParams::default()
    };
    match scene
        .context
        .processes(&scene.key.namespace)
        .patch(&scene.key.name, &params, &patch)
        .await
    {
        Ok(patched) => {
            let mut latest = scene.latest.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut latest).metadata = patched.metadata;
            Ok(())
        }
        Err(error) => {
            let fault = Fault::from(error).about("patching the finalizer");
            match fault.category {
                // A failed test of the patch is answered with 422: somebody was faster.
                ErrorCategory::InvalidSpec => {
                    Err(Fault::new(ErrorCategory::Conflict, fault.message))
                }
                ErrorCategory::NotFound => Ok(()),
                _ => Err(fault),
            }
        }
    }
}

async fn add_finalizer(scene: &Scene<'_>) -> Result<()> {
    let Some(present) = fresh(scene).await? else {
        return Ok(());
    };
    let mut wanted = present.finalizers().to_vec();
    if wanted.iter().any(|name| name == names::finalizer::PROCESS) {
        return Ok(());
    }
    wanted.push(names::finalizer::PROCESS.into());
    patch_finalizers(scene, &present, &wanted).await
}

async fn remove_finalizer(scene: &Scene<'_>) -> Result<()> {
    let Some(present) = read(scene.context, scene.key).await? else {
        return Ok(());
    };
    if present.uid().as_deref() != Some(scene.key.uid.as_str()) {
        return Ok(());
    }
    let wanted: Vec<String> = present
        .finalizers()
        .iter()
        .filter(|name| *name != names::finalizer::PROCESS)
        .cloned()
        .collect();
    if wanted.len() == present.finalizers().len() {
        return Ok(());
    }
    patch_finalizers(scene, &present, &wanted).await
}

/// The first try works on the object just observed; after a conflict it is read again.
async fn fresh(scene: &Scene<'_>) -> Result<Option<Process>> {
    if scene.process.finalizers().is_empty() {
        return Ok(Some((*scene.process).clone()));
    }
    let found = read(scene.context, scene.key).await?;
    Ok(found.filter(|found| found.uid().as_deref() == Some(scene.key.uid.as_str())))
}

/// A version to apply.
struct Version<'a> {
    build_id: &'a str,
    name: &'a str,
    uid: Option<&'a str>,
    revision: bool,
    replicas: i32,
}

/// Keeps the ControllerRevision, then applies the Deployment built from it. Returns the hash of the
/// fields that we own afterwards.
async fn apply_version(scene: &Scene<'_>, wanted: &Version<'_>) -> Result<String> {
    let kept = keep_revision(scene, wanted).await?;
    let api: Api<Deployment> = Api::namespaced(scene.context.kube.clone(), &scene.key.namespace);
    let mut built = deployment::deployment(scene.key, wanted.name, &kept, wanted.replicas);
    let mut owned = wanted.uid.map(str::to_owned);
    if owned.is_none() {
        // Unseen by its label; taken for ours only if it says so.
        owned = match api.get_opt(wanted.name).await? {
            Some(found) if orphaned(&found) => found.uid(),
            Some(found) => Some(claim(&found, scene.key)?),
            None => None,
        };
    }
    // With the uid in it an apply never lands on a re-created object.
    built.metadata.uid = owned;
    let params = PatchParams::apply(names::manager::OPERATOR).force();
    let applied = api
        .patch(wanted.name, &params, &Patch::Apply(&built))
        .await
        .map_err(|error| {
            Fault::from(error).about(&format!("applying Deployment {}", wanted.name))
        })?;
    let fields = hash::owned_fields(applied.metadata.managed_fields.as_ref());
    scene.context.cache.expect(
        applied.metadata.uid.as_deref().unwrap_or_default(),
        applied.metadata.generation.unwrap_or(0),
        &fields,
    );
    Ok(fields)
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
        // Gone or another one by now: its pods are new anyway.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
        Err(error) => Err(Fault::from(error).about(&format!("restarting {name}"))),
    }
}

pub(crate) fn claim(found: &Deployment, key: &ProcessKey) -> Result<String> {
    if controls(key, found.owner_references()) {
        return Ok(found.uid().unwrap_or_default());
    }
    Err(Fault::new(
        ErrorCategory::Conflict,
        format!(
            "Deployment {} exists and belongs to something else; delete or rename it",
            found.name_any()
        ),
    ))
}

async fn keep_revision(scene: &Scene<'_>, wanted: &Version<'_>) -> Result<revision::Kept> {
    let api: Api<ControllerRevision> =
        Api::namespaced(scene.context.kube.clone(), &scene.key.namespace);
    if wanted.revision {
        let stored = api.get_opt(wanted.name).await?;
        if let Some(kept) = stored.as_ref().and_then(revision::kept) {
            return Ok(kept);
        }
    }
    let asked = names::Version::of(&scene.process).map(|version| version.build_id);
    if !asked.is_ok_and(|asked| asked.as_str() == wanted.build_id) {
        return Err(Fault::new(
            ErrorCategory::NotFound,
            format!(
                "ControllerRevision {} is gone, so its version cannot be made again",
                wanted.name
            ),
        ));
    }
    let kept = revision::Kept {
        build_id: wanted.build_id.to_owned(),
        template: template::template(
            &scene.process,
            scene.key,
            wanted.build_id,
            &scene.context.workers,
        ),
    };
    let number = scene.process.metadata.generation.unwrap_or(1);
    let built = revision::revision(scene.key, wanted.name, number, &kept);
    let params = PostParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PostParams::default()
    };
    match api.create(&params, &built).await {
        Ok(_) => Ok(kept),
        // Left by a try that was cut off after the API server had committed.
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            let stored = api.get_opt(wanted.name).await?;
            let ours = stored.filter(|stored| {
                let owners = stored.owner_references();
                owners.iter().any(|owner| owner.uid == scene.key.uid)
            });
            // Of a predecessor it may be gone by now: the next try creates it.
            ours.as_ref().and_then(revision::kept).ok_or_else(|| {
                Fault::new(
                    ErrorCategory::Conflict,
                    format!(
                        "ControllerRevision {} belongs to something else",
                        wanted.name
                    ),
                )
            })
        }
        Err(error) => {
            Err(Fault::from(error).about(&format!("creating ControllerRevision {}", wanted.name)))
        }
    }
}
