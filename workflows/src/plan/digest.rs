//! The digest by which the sweep tells whether a lifecycle has seen the present state.
//!
//! It covers identity, generation and ready flags of the observed objects, never the operator's
//! own status, so that publishing a status is not a change.

use std::fmt::Write as _;

use crate::contract::{Observation, ProcessView};

/// What the digest covers of one Deployment, or of a CronJob.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeploymentMark {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Wanted and ready pods are equal and the controller has seen the spec.
    pub available: bool,
    /// At least one pod is ready.
    pub any_ready: bool,
}

/// How a CronJob is called among Deployments.
pub fn cron_job_mark(name: &str) -> String {
    format!("cronjob/{name}")
}

/// Digest of a Process and its Deployments. Deterministic across releases.
///
/// `request` is the fingerprint of the annotation `ameide.io/request`, empty without one.
pub fn digest(
    generation: i64,
    deleting: bool,
    request: &str,
    mut deployments: Vec<DeploymentMark>,
) -> String {
    deployments.sort();
    let mut text = format!("v1 {generation} {deleting}");
    if !request.is_empty() {
        text = format!("{text} request {request}");
    }
    for mark in deployments {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "|{} {} {} {} {}",
            mark.name, mark.uid, mark.generation, mark.available, mark.any_ready
        );
    }
    fnv1a(&text)
}

/// A short mark of a text: another text has another one.
pub fn fingerprint(text: &str) -> String {
    fnv1a(text)
}

/// FNV-1a, 64 bits: a change detector that needs no dependency and never changes.
pub(super) fn fnv1a(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

pub(super) fn of(process: &ProcessView, seen: &Observation) -> String {
    let routing = (!seen.routing.mark.is_empty()).then(|| DeploymentMark {
        name: seen.routing.mark.clone(),
        ..DeploymentMark::default()
    });
    let marks = seen
        .versions
        .values()
        .filter_map(|version| {
            let deployment = version
                .deployment
                .as_ref()
                .filter(|deployment| !deployment.foreign)?;
            Some(DeploymentMark {
                name: version.deployment_name().to_owned(),
                uid: deployment.uid.clone(),
                generation: deployment.generation,
                available: deployment.available,
                any_ready: deployment.ready_replicas > 0,
            })
        })
        .chain(routing)
        .chain(seen.cron_jobs.iter().filter_map(|(name, job)| {
            Some(DeploymentMark {
                name: cron_job_mark(name),
                uid: job.uid.clone()?,
                generation: job.generation,
                ..DeploymentMark::default()
            })
        }))
        .collect();
    digest(
        process.generation,
        process.deleting,
        &process.request_mark,
        marks,
    )
}
