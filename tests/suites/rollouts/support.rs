//! What the tests of this suite share.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_crds::status::RolloutStatus;
use process_operator_faultproxy::{TemporalProxy, TemporalProxyConfig};
use process_operator_harness::{Env, OperatorOptions, Scene, condition, manifest, until};
use serde_json::{Value, json};

/// Deadline of waits for what takes a moment; two cores carry everything.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// A change to an image tag by the given `spec.rollout`.
pub(crate) fn change(tag: &str, env: &[(&str, &str)], rollout: &Value) -> Value {
    let mut change = process_operator_harness::version(tag, env);
    change["spec"]["rollout"] = rollout.clone();
    change
}

/// A canary by steps.
pub(crate) fn canary(steps: &Value) -> Value {
    json!({ "strategy": "Canary", "steps": steps })
}

/// What status says about the rollout.
pub(crate) fn rollout(process: &Process) -> RolloutStatus {
    process
        .status
        .as_ref()
        .and_then(|status| status.rollout.clone())
        .unwrap_or_default()
}

/// A Process `l2o` has settled on v1, by an operator that reaches Temporal through a proxy.
pub(crate) async fn proxied(name: &str) -> Result<(Scene, Process, TemporalProxy)> {
    let env = Env::new(name).await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    let options = OperatorOptions {
        temporal_address: Some(proxy.addr().to_string()),
        ..OperatorOptions::default()
    };
    let scene = Scene::of(env, options).await?;
    scene.env.apply(&manifest(&scene.env, "l2o", "v1")).await?;
    let process = scene.env.wait_settled("l2o", "v1").await?;
    Ok((scene, process, proxy))
}

/// Waits until status shows a rollout in this step, held by a pause or by somebody.
pub(crate) async fn at_step(env: &Env, step: i32) -> Result<Process> {
    env.wait_process("l2o", &format!("step {step}"), SOON, |process| {
        let rollout = rollout(process);
        rollout.step == step && rollout.stage == "Pausing"
    })
    .await
}

/// Waits until a condition has a reason.
pub(crate) async fn reason(env: &Env, kind: &str, reason: &str) -> Result<Process> {
    env.wait_process("l2o", &format!("{kind} {reason}"), SOON, |process| {
        condition(process, kind).1 == reason
    })
    .await
}

/// What Temporal says: Current, Ramping (both by tag) and the percentage.
pub(crate) async fn shares(env: &Env) -> Result<(String, String, f32)> {
    let name = format!("{}/l2o", env.namespace);
    let info = env.temporal.worker_deployment(&env.apps, &name).await?;
    let routing = info
        .and_then(|info| info.routing_config)
        .context("no routing")?;
    let tag = |version: Option<_>| {
        let version: Option<
            temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion,
        > = version;
        let build_id = version.map(|version| version.build_id).unwrap_or_default();
        build_id.split('-').next().unwrap_or_default().to_owned()
    };
    Ok((
        tag(routing.current_deployment_version),
        tag(routing.ramping_deployment_version),
        routing.ramping_version_percentage,
    ))
}

/// Waits until Temporal routes so.
pub(crate) async fn routed(env: &Env, current: &str, ramping: &str, percent: f32) -> Result<()> {
    let wanted = (current.to_owned(), ramping.to_owned(), percent);
    until(&format!("routing {wanted:?}"), SOON, async || {
        let found = shares(env).await?;
        ensure!(found == wanted, "{found:?}");
        Ok(())
    })
    .await
}

/// What status.history tells, oldest first.
pub(crate) fn told(process: &Process) -> Vec<String> {
    let history = process.status.iter().flat_map(|status| &status.history);
    history.map(|entry| entry.what.clone()).collect()
}

/// The Process as it is now.
pub(crate) async fn now(env: &Env) -> Result<Process> {
    Ok(env.api::<Process>().get("l2o").await?)
}

/// Ids of the rollouts ever started for versions with this tag.
pub(crate) async fn rollouts(env: &Env, process: &Process, tag: &str) -> Result<Vec<String>> {
    let uid = process.uid().unwrap_or_default();
    env.workflows(&format!("rollout/{}/l2o/{uid}/{tag}-", env.namespace))
        .await
}

/// Asks by update for a verb, which `full` may follow: `Ok` with the answer, or `Err` with why it was refused.
pub(crate) async fn ask(
    env: &Env,
    process: &Process,
    verb: &str,
) -> Result<std::result::Result<String, String>> {
    let (verb, full) = match verb.strip_suffix(" full") {
        Some(verb) => (verb, true),
        None => (verb, false),
    };
    let args = json!({ "actor": "ada@example.com", "reason": "a test", "full": full });
    env.ask(process, verb, &args).await
}
