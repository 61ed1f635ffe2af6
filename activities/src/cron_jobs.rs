//! The CronJobs of a Process: looked at, made, removed.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::CronJob;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use process_operator_crds::{ErrorCategory, Process, names, spec};
use process_operator_workflows::contract::{CronJobView, ProcessKey};

use crate::act::Scene;
use crate::apply::ours;
use crate::build::revision::Kept;
use crate::build::{belongs, cron_job, hash, revision};
use crate::context::Context;
use crate::error::{Fault, Result};
use crate::remove::remove;

fn api(context: &Context, key: &ProcessKey) -> Api<CronJob> {
    Api::namespaced(context.kube.clone(), &key.namespace)
}

/// What is kept of the Current version.
fn kept_current(
    key: &ProcessKey,
    current: Option<&str>,
    revisions: &[ControllerRevision],
) -> Option<Kept> {
    let current = current?;
    let ours = revisions
        .iter()
        .filter(|stored| belongs(key, &stored.metadata));
    ours.filter_map(revision::kept)
        .find(|kept| kept.build_id == current)
}

/// CronJobs that are wanted or there, by name. Nothing is asked of a Process that has none.
pub(crate) async fn look(
    context: &Context,
    key: &ProcessKey,
    process: &Process,
    (current, revisions): (Option<&str>, &[ControllerRevision]),
) -> Result<BTreeMap<String, CronJobView>> {
    let wanted = &process.spec.cron_jobs;
    let known = context.cache.jobs_of(&key.namespace, &key.uid);
    if wanted.is_empty() && known.is_empty() {
        return Ok(BTreeMap::new());
    }
    let by_label = format!("{}={}", names::label::PROCESS, key.name);
    let found = match api(context, key)
        .list(&ListParams::default().labels(&by_label))
        .await
    {
        Ok(found) => found.items,
        // Under the rights of an earlier release all else is done; what is wanted is told when it is tried.
        Err(kube::Error::Api(answer)) if answer.code == 403 => {
            tracing::warn!(
                namespace = key.namespace,
                "may not be listed: {}",
                answer.message
            );
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let current = kept_current(key, current, revisions);
    let mut seen: BTreeMap<String, CronJobView> = BTreeMap::new();
    for job in wanted {
        let desired = current
            .as_ref()
            .map(|kept| cron_job::applied(&cron_job::cron_job(key, job, kept)))
            .unwrap_or_default();
        let view = CronJobView {
            job: job.name.clone(),
            desired,
            ..CronJobView::default()
        };
        seen.insert(names::cron_job_name(&key.name, &job.name), view);
    }
    for live in found {
        if !belongs(key, &live.metadata) {
            continue;
        }
        let view = seen.entry(live.name_any()).or_default();
        view.uid = live.uid();
        view.generation = live.metadata.generation.unwrap_or(0);
        view.deleting = live.metadata.deletion_timestamp.is_some();
        view.applied = cron_job::applied(&live);
        view.fields = hash::owned_fields(live.metadata.managed_fields.as_ref());
    }
    Ok(seen)
}

/// What is asked for of one CronJob.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) job: &'a str,
    pub(crate) uid: Option<&'a str>,
    pub(crate) kept_as: &'a str,
}

/// Applies a CronJob built from the Current version. Returns the hash of the fields that we own
/// afterwards.
pub(crate) async fn apply(scene: &Scene<'_>, wanted: &Wanted<'_>) -> Result<String> {
    let Some(job) = named(&scene.process, wanted.job) else {
        return Ok(String::new());
    };
    let revisions: Api<ControllerRevision> =
        Api::namespaced(scene.context.kube.clone(), &scene.key.namespace);
    let stored = revisions.get_opt(wanted.kept_as).await?;
    let Some(kept) = stored.as_ref().and_then(revision::kept) else {
        return Err(Fault::new(
            ErrorCategory::NotFound,
            format!(
                "ControllerRevision {} is gone, so CronJob {} cannot be made from it",
                wanted.kept_as, wanted.name
            ),
        ));
    };
    let api = api(scene.context, scene.key);
    let mut built = cron_job::cron_job(scene.key, job, &kept);
    // With the uid in it an apply never lands on a re-created object.
    built.metadata.uid = match wanted.uid {
        Some(uid) => Some(uid.to_owned()),
        None => unclaimed(scene.key, api.get_opt(wanted.name).await?)?,
    };
    let params = PatchParams::apply(names::manager::OPERATOR).force();
    let applied = api
        .patch(wanted.name, &params, &Patch::Apply(&built))
        .await
        .map_err(|error| {
            let what = format!("spec.cronJobs[{}]: applying CronJob", wanted.job);
            Fault::from(error).about(&format!("{what} {}", wanted.name))
        })?;
    Ok(ours(scene.context, &applied.metadata))
}

fn named<'a>(process: &'a Process, job: &str) -> Option<&'a spec::CronJob> {
    process.spec.cron_jobs.iter().find(|it| it.name == job)
}

/// uid of a CronJob that has the name and is ours.
fn unclaimed(key: &ProcessKey, found: Option<CronJob>) -> Result<Option<String>> {
    let Some(found) = found else {
        return Ok(None);
    };
    if belongs(key, &found.metadata) {
        return Ok(found.uid());
    }
    Err(Fault::new(
        ErrorCategory::Conflict,
        format!(
            "CronJob {} exists and belongs to something else; delete it or rename the cron job in spec.cronJobs",
            found.name_any()
        ),
    ))
}

/// Deletes a CronJob with its runs.
pub(crate) async fn delete(scene: &Scene<'_>, name: &str, uid: &str) -> Result<()> {
    scene.context.cache.expect_gone(uid);
    remove(&api(scene.context, scene.key), name, uid.to_owned()).await
}
