//! The CronJobs made for Processes.

use k8s_openapi::api::batch::v1::CronJob;
use kube::ResourceExt as _;
use process_operator_activities::build::{hash, made_for};
use process_operator_activities::cache::Job;
use process_operator_workflows::contract::{ChangeKind, Changed};

use super::Shared;
use super::watch::Followed;
use crate::metrics::Metrics;

impl Followed for CronJob {
    /// Its namespace and name.
    type Id = (String, String);

    const OPTIONAL: bool = true;

    fn id(&self) -> (String, String) {
        (self.namespace().unwrap_or_default(), self.name_any())
    }

    fn cached(shared: &Shared) -> Vec<(String, (String, String))> {
        let jobs = shared.cache.all_jobs().into_iter();
        jobs.map(|id| (id.0.clone(), id)).collect()
    }

    fn seen(&self, shared: &Shared, at_start: bool) {
        Metrics::count_kind(&shared.metrics.watch_events, "CronJob");
        let now = job(self);
        let before = shared.cache.put_job(now.clone());
        if at_start {
            return;
        }
        let what = match &before {
            // Only an operator makes a CronJob that has a Process as its controller.
            None if now.generation == 1 => return,
            None => "found",
            Some(before) if before.deleting != now.deleting => "being deleted",
            Some(before) if before.generation != now.generation || before.fields != now.fields => {
                "edited"
            }
            Some(_) => return,
        };
        let expected = shared.cache.expected(&now.uid, now.generation, &now.fields);
        if !expected && !shared.cache.leaves(&now.uid) {
            tell(shared, &now, &now.resource_version, what);
        }
    }

    fn gone(shared: &Shared, (namespace, name): &(String, String), resource_version: &str) {
        Metrics::count_kind(&shared.metrics.watch_events, "CronJob");
        let known = shared.cache.job(namespace, name);
        let by_us = known.is_some_and(|job| shared.cache.leaves(&job.uid));
        let Some(gone) = shared.cache.remove_job(namespace, name) else {
            return;
        };
        if !by_us {
            tell(
                shared,
                &gone,
                &format!("{resource_version} deleted"),
                "deleted",
            );
        }
    }
}

fn job(live: &CronJob) -> Job {
    Job {
        namespace: live.namespace().unwrap_or_default(),
        name: live.name_any(),
        uid: live.uid().unwrap_or_default(),
        owner_uid: made_for(&live.metadata).unwrap_or_default().to_owned(),
        generation: live.metadata.generation.unwrap_or(0),
        deleting: live.metadata.deletion_timestamp.is_some(),
        fields: hash::owned_fields(live.metadata.managed_fields.as_ref()),
        resource_version: live.resource_version().unwrap_or_default(),
    }
}

fn tell(shared: &Shared, job: &Job, mark: &str, what: &str) {
    if let Some(process) = shared.cache.process(&job.owner_uid) {
        let changed = Changed::new(ChangeKind::CronJob, format!("CronJob {} {what}", job.name));
        shared
            .signaler
            .send(&process.key(), &job.uid, mark, changed);
    }
}
