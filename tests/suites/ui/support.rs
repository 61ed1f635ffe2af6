//! What the tests of this suite share.

use anyhow::{Context as _, Result};
use process_operator_crds::Process;
use process_operator_harness::{Env, SOON, is_current, manifest};
use serde_json::{Value, json};

/// Height of the window: all of a page that matters.
pub(crate) const HEIGHT: u32 = 1200;
/// The queue of the workers.
pub(crate) const QUEUE: &str = "l2o-tq";

/// A Process that has settled on v1, with this `spec.drain`.
pub(crate) async fn on_v1(env: &Env, drain: &Value) -> Result<Process> {
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["drain"] = drain.clone();
    env.apply(&process).await?;
    env.wait_settled("l2o", "v1").await
}

/// Rolls to v2, and waits until so many workflows hold v1.
pub(crate) async fn to_v2(env: &Env, open: i64) -> Result<Process> {
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", &format!("{open} hold v1"), SOON, |process| {
        let draining = process.status.iter().flat_map(|status| &status.draining);
        is_current(process, "v2")
            && draining
                .into_iter()
                .any(|version| version.open_workflows == Some(open))
    })
    .await
}

/// A change to v2 by a canary that holds its first step for long.
pub(crate) fn slow_canary() -> Value {
    let mut change = process_operator_harness::version("v2", &[]);
    change["spec"]["rollout"] = json!({ "strategy": "Canary", "steps": [
        { "weight": 10, "pause": { "durationSeconds": 3600 } },
        { "weight": 50, "pause": {} },
    ]});
    change
}

/// Waits until the first step of a canary is held.
pub(crate) async fn at_first_step(env: &Env) -> Result<Process> {
    env.wait_process("l2o", "step 1", SOON, |process| {
        let status = process.status.as_ref();
        let rollout = status.and_then(|status| status.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.step == 1 && rollout.stage == "Pausing")
    })
    .await
}

/// Build ids of the version that serves and of the one that is wanted.
pub(crate) fn versions(process: &Process) -> Result<(String, String)> {
    let status = process.status.as_ref().context("a status")?;
    let current = status.current_version.as_ref().context("a current one")?;
    let target = status.target_version.as_ref().context("a target")?;
    Ok((current.build_id.clone(), target.build_id.clone()))
}

/// Id of the only child of a Process with this kind and tag.
pub(crate) async fn child(env: &Env, process: &Process, kind: &str, tag: &str) -> Result<String> {
    let uid = process.metadata.uid.clone().unwrap_or_default();
    let ids = env
        .workflows(&format!("{kind}/{}/l2o/{uid}/{tag}-", env.namespace))
        .await?;
    ids.into_iter()
        .next()
        .with_context(|| format!("no {kind} of {tag}"))
}
