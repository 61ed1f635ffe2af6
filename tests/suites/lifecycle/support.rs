//! What the tests of this suite share.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, Invariants, Operator, OperatorOptions, manifest, until};
use serde_json::{Value, json};

/// Deadline of waits for what takes a moment; two cores carry everything.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Nothing may happen for so long after a scenario.
pub(crate) const QUIET: Duration = Duration::from_secs(5);

/// A world of its own with an operator in it.
pub(crate) struct Scene {
    pub(crate) env: Env,
    pub(crate) operator: Operator,
    pub(crate) invariants: Invariants,
}

impl Scene {
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let env = Env::new(name).await?;
        let operator = Operator::start(&env, OperatorOptions::default()).await?;
        let invariants = Invariants::start(&env)?;
        Ok(Self {
            env,
            operator,
            invariants,
        })
    }

    /// With a Process `l2o` that has settled on v1.
    pub(crate) async fn settled(name: &str) -> Result<(Self, Process)> {
        let scene = Self::new(name).await?;
        scene.env.apply(&manifest(&scene.env, "l2o", "v1")).await?;
        let process = scene.env.wait_settled("l2o", "v1").await?;
        Ok((scene, process))
    }

    /// The end of every scenario.
    pub(crate) async fn finish(self) -> Result<()> {
        self.invariants
            .hold(&self.env, &[&self.operator], QUIET)
            .await?;
        self.env.remove().await
    }
}

/// A change to an image tag together with variables for its faults.
pub(crate) fn version(tag: &str, env: &[(&str, &str)]) -> Value {
    let env: Vec<Value> = env
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    json!({ "spec": {
        "image": format!("localhost/process-example-worker:{tag}"),
        "worker": { "env": env },
    } })
}

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
