//! What the tests of this suite share.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, Invariants, until};
pub(crate) use process_operator_harness::{QUIET, Scene, version};

/// Deadline of waits for what takes a moment; two cores carry everything.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// The Deployment of the version with this image tag, if it exists.
pub(crate) async fn deployment(env: &Env, tag: &str) -> Result<Option<Deployment>> {
    let suffix = format!(":{tag}");
    let found = env.deployments("l2o").await?;
    Ok(found
        .into_iter()
        .find(|deployment| image(deployment).ends_with(&suffix)))
}

/// Waits for the Deployment of the version with this image tag.
pub(crate) async fn wait_deployment(env: &Env, tag: &str) -> Result<Deployment> {
    until(&format!("a Deployment of {tag}"), SOON, async || {
        deployment(env, tag)
            .await?
            .ok_or_else(|| anyhow::anyhow!("none"))
    })
    .await
}

pub(crate) fn image(deployment: &Deployment) -> String {
    let template = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    template
        .and_then(|spec| spec.containers[0].image.clone())
        .unwrap_or_default()
}

/// All wanted pods of the newest template are ready.
pub(crate) fn available(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    status.observed_generation >= deployment.metadata.generation
        && status.ready_replicas == wanted
        && status.updated_replicas == wanted
        && status.replicas == wanted
}

/// Every object was created at most once, and each Deployment applied exactly as often as there was
/// something to say.
pub(crate) fn written(
    scene: &Invariants,
    env: &Env,
    resource: &str,
    code: u16,
) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for entry in scene.writes(env)? {
        let Some(object) = &entry.object_ref else {
            continue;
        };
        if object.resource == resource && object.subresource.is_empty() && entry.code() == code {
            *counts.entry(object.name.clone()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// No transition was told twice.
pub(crate) async fn events_are_single(
    env: &Env,
    process: &Process,
) -> Result<Vec<(String, String)>> {
    let events = env.events(process).await?;
    let mut counts: BTreeMap<&(String, String), usize> = BTreeMap::new();
    for event in &events {
        *counts.entry(event).or_default() += 1;
    }
    let double: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
    ensure!(
        double.is_empty(),
        "Events recorded more than once: {double:?}"
    );
    Ok(events)
}

/// Ids of all rollouts ever started for versions with this tag.
pub(crate) async fn rollouts(env: &Env, process: &Process, tag: &str) -> Result<Vec<String>> {
    let uid = process.uid().unwrap_or_default();
    env.workflows(&format!(
        "rollout/{}/{}/{uid}/{tag}-",
        env.namespace,
        process.name_any()
    ))
    .await
}
