//! Versions that Temporal does not keep apart: by task queue, or not at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, Traffic, condition, is_current, manifest, until};
use serde_json::{Value, json};

use crate::support::{SOON, at_step, change, now, reason, rollout, told};

/// A Process `l2o` that has settled on v1.
async fn settled(name: &str, versioning: &str, replicas: i32) -> Result<(Scene, Process)> {
    let scene = Scene::new(name).await?;
    let mut wanted = manifest(&scene.env, "l2o", "v1");
    wanted["spec"]["rollout"] = json!({ "versioning": versioning });
    wanted["spec"]["replicas"] = replicas.into();
    scene.env.apply(&wanted).await?;
    let process = scene.env.wait_settled("l2o", "v1").await?;
    Ok((scene, process))
}

/// A policy of these steps.
fn policy(versioning: &str, steps: &Value) -> Value {
    json!({ "versioning": versioning, "strategy": "Canary", "steps": steps })
}

/// What the ConfigMap tells starters.
async fn routing(env: &Env) -> Result<BTreeMap<String, String>> {
    let map = env.api::<ConfigMap>().get("l2o-routing").await?;
    Ok(map.data.unwrap_or_default())
}

fn entry<'a>(routing: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    routing.get(name).map_or("", String::as_str)
}

/// Name, wanted pods and build id of each Deployment.
async fn deployments(env: &Env) -> Result<Vec<(String, i32, String)>> {
    let mut found: Vec<_> = env
        .deployments("l2o")
        .await?
        .iter()
        .map(|found: &Deployment| {
            let spec = found.spec.as_ref();
            let build_id = found.labels().get("ameide.io/build-id");
            let tag = build_id.and_then(|id| id.split('-').next());
            (
                found.name_any(),
                spec.and_then(|spec| spec.replicas).unwrap_or_default(),
                tag.unwrap_or_default().to_owned(),
            )
        })
        .collect();
    found.sort();
    Ok(found)
}

async fn wait_deployments(env: &Env, wanted: &[(&str, i32, &str)]) -> Result<()> {
    until(&format!("Deployments {wanted:?}"), SOON, async || {
        let found = deployments(env).await?;
        let found: Vec<(&str, i32, &str)> = found
            .iter()
            .map(|(name, replicas, tag)| (name.as_str(), *replicas, tag.as_str()))
            .collect();
        ensure!(found == wanted, "{found:?}");
        Ok(())
    })
    .await
}

/// The queue of each version, by tag, as a starter finds it.
fn queue_of(routing: &BTreeMap<String, String>, tag: &str) -> Result<String> {
    for (build, queue) in [
        ("currentBuildId", "currentTaskQueue"),
        ("rampingBuildId", "rampingTaskQueue"),
    ] {
        if entry(routing, build).starts_with(&format!("{tag}-")) {
            return Ok(entry(routing, queue).to_owned());
        }
    }
    anyhow::bail!("{tag} has no queue in {routing:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_has_its_own_queue_and_starters_share_by_the_config_map() -> Result<()> {
    let (scene, first) = settled("queues", "TaskQueuePerVersion", 1).await?;
    let env = &scene.env;
    let old = first
        .status
        .and_then(|status| status.task_queue)
        .context("no queue in status")?;
    ensure!(old.starts_with("l2o-tq-") && old.len() == 15, "{old}");
    let path = "jsonpath={.data.currentTaskQueue}";
    let text = env.kubectl(&["get", "configmap", "l2o-routing", "-o", path], "")?;
    ensure!(text == old, "{text}");
    env.temporal.start_waiting(&env.apps, &old, "long").await?;
    let traffic = Traffic::routed(env, "l2o-routing", Duration::from_millis(100));
    let mut policy = policy(
        "TaskQueuePerVersion",
        &json!([{ "weight": 50, "pause": { "durationSeconds": 3 } }]),
    );
    policy["gate"] = json!({ "workflowType": "Verify", "timeoutSeconds": 60 });
    policy["analysis"] = json!({ "minWorkflows": 3, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    at_step(env, 1).await?;
    let shared = routing(env).await?;
    ensure!(entry(&shared, "rampingPercent") == "50", "{shared:?}");
    let new = queue_of(&shared, "v2")?;
    ensure!(new != old, "{shared:?}");
    let process = env
        .wait_process("l2o", "v2 is current", SOON, |process| {
            is_current(process, "v2")
        })
        .await?;
    let queue = process.status.and_then(|status| status.task_queue);
    ensure!(queue.as_deref() == Some(new.as_str()), "{queue:?}");
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    ensure!(answers.of("v1") > 0 && answers.of("v2") > 0, "{answers:?}");
    // The old version keeps its pods for the run on its queue, and goes after it.
    ensure!(env.deployments("l2o").await?.len() == 2);
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    env.wait_settled("l2o", "v2").await?;
    ensure!(env.deployments("l2o").await?.len() == 1);
    // The way back is short.
    env.patch("l2o", &change("v1", &[], &policy)).await?;
    let back = env.wait_settled("l2o", "v1").await?;
    ensure!(
        told(&back).contains(&"RollbackStarted".to_owned()),
        "{:?}",
        told(&back)
    );
    ensure!(queue_of(&routing(env).await?, "v1")? == old);
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_queue_is_left_and_its_open_runs_end_there() -> Result<()> {
    let (scene, _) = settled("queue-fails", "TaskQueuePerVersion", 1).await?;
    let env = &scene.env;
    let mut policy = policy(
        "TaskQueuePerVersion",
        &json!([{ "weight": 50, "pause": { "durationSeconds": 60 } }]),
    );
    policy["analysis"] =
        json!({ "minWorkflows": 10, "maxFailurePercent": 10, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[("FAIL_PERCENT", "60")], &policy))
        .await?;
    at_step(env, 1).await?;
    let new = queue_of(&routing(env).await?, "v2")?;
    env.temporal.start_waiting(&env.apps, &new, "long").await?;
    let traffic = Traffic::routed(env, "l2o-routing", Duration::from_millis(100));
    reason(env, "Stalled", "AnalysisFailed").await?;
    until("nothing is sent to v2", SOON, async || {
        let routing = routing(env).await?;
        ensure!(entry(&routing, "rampingBuildId").is_empty(), "{routing:?}");
        ensure!(entry(&routing, "currentBuildId").starts_with("v1-"));
        Ok(())
    })
    .await?;
    traffic.stop().await?;
    ensure!(env.deployments("l2o").await?.len() == 2);
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v2-"), "{finished:?}");
    until("the pods of v2 are gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routing_changed_by_hand_is_held_and_one_that_is_lost_is_made_again() -> Result<()> {
    let (scene, process) = settled("map-by-hand", "TaskQueuePerVersion", 1).await?;
    let env = &scene.env;
    let maps = env.api::<ConfigMap>();
    maps.delete("l2o-routing", &DeleteParams::default()).await?;
    until("the ConfigMap is back", SOON, async || {
        let routing = routing(env).await?;
        ensure!(entry(&routing, "currentBuildId").starts_with("v1-"));
        Ok(())
    })
    .await?;
    let mut policy = policy(
        "TaskQueuePerVersion",
        &json!([{ "weight": 20, "pause": { "durationSeconds": 600 } }]),
    );
    policy["analysis"] = json!({ "minWorkflows": 0, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    at_step(env, 1).await?;
    let params = PatchParams {
        field_manager: Some("mallory".into()),
        ..PatchParams::default()
    };
    let edit = json!({ "data": { "rampingPercent": "90" } });
    maps.patch("l2o-routing", &params, &Patch::Merge(&edit))
        .await?;
    let held = reason(env, "Degraded", "RoutingChanged").await?;
    let message = condition(&held, "Degraded").2;
    ensure!(message.contains("mallory"), "{message}");
    env.grant(&process, "resume").await?;
    until("the share is as the step says", SOON, async || {
        let routing = routing(env).await?;
        ensure!(entry(&routing, "rampingPercent") == "20", "{routing:?}");
        Ok(())
    })
    .await?;
    at_step(env, 1).await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_versions_pods_are_shared_by_weight_and_runs_move_on() -> Result<()> {
    let (scene, _) = settled("none-canary", "None", 4).await?;
    let env = &scene.env;
    wait_deployments(env, &[("l2o", 4, "v1")]).await?;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    let steps = json!([
        { "weight": 25, "pause": { "durationSeconds": 3 } },
        { "weight": 50, "pause": {} },
    ]);
    env.patch("l2o", &change("v2", &[], &policy("None", &steps)))
        .await?;
    at_step(env, 1).await?;
    wait_deployments(env, &[("l2o", 3, "v1"), ("l2o-canary", 1, "v2")]).await?;
    let process = at_step(env, 2).await?;
    ensure!(rollout(&process).weight == 50);
    wait_deployments(env, &[("l2o", 2, "v1"), ("l2o-canary", 2, "v2")]).await?;
    ensure!(condition(&process, "Ready").0 == "True");
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    wait_deployments(env, &[("l2o", 4, "v2")]).await?;
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    ensure!(answers.of("v1") > 0 && answers.of("v2") > 0, "{answers:?}");
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v2-"), "{finished:?}");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_versions_a_canary_that_does_not_replay_is_taken_back() -> Result<()> {
    let (scene, process) = settled("none-abort", "None", 2).await?;
    let env = &scene.env;
    for n in 0..6 {
        env.temporal
            .start_waiting(&env.apps, "l2o-tq", &format!("long-{n}"))
            .await?;
    }
    let steps = json!([{ "weight": 50, "pause": {} }]);
    let broken = change(
        "v2",
        &[("BREAK_DETERMINISM", "true")],
        &policy("None", &steps),
    );
    env.patch("l2o", &broken).await?;
    at_step(env, 1).await?;
    wait_deployments(env, &[("l2o", 1, "v1"), ("l2o-canary", 1, "v2")]).await?;
    env.grant(&process, "abort").await?;
    wait_deployments(env, &[("l2o", 2, "v1")]).await?;
    let aborted = now(env).await?;
    ensure!(condition(&aborted, "Ready").0 == "True");
    for n in 0..6 {
        let id = format!("long-{n}");
        let finished = env.temporal.finish_waiting(&env.apps, &id).await?;
        ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    }
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_versions_pods_that_do_not_start_are_replaced_by_those_before() -> Result<()> {
    let (scene, _) = settled("none-crash", "None", 1).await?;
    let env = &scene.env;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(200));
    let policy = json!({ "versioning": "None", "progressDeadlineSeconds": 15 });
    env.patch("l2o", &change("v2", &[("CRASH_AT_START", "true")], &policy))
        .await?;
    let failed = reason(env, "Stalled", "ProgressDeadlineExceeded").await?;
    ensure!(condition(&failed, "Ready").0 == "True");
    wait_deployments(env, &[("l2o", 1, "v1")]).await?;
    let policy = json!({ "versioning": "None", "progressDeadlineSeconds": 120 });
    env.patch("l2o", &change("v3", &[], &policy)).await?;
    env.wait_settled("l2o", "v3").await?;
    wait_deployments(env, &[("l2o", 1, "v3")]).await?;
    traffic.stop().await?.all_answered()?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_versions_a_promotion_is_aborted_long_before_its_deadline() -> Result<()> {
    let (scene, process) = settled("none-recall", "None", 2).await?;
    let env = &scene.env;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(200));
    let policy = json!({ "versioning": "None", "progressDeadlineSeconds": 120 });
    env.patch("l2o", &change("v2", &[("CRASH_AT_START", "true")], &policy))
        .await?;
    wait_deployments(env, &[("l2o", 2, "v2")]).await?;
    let asked = Instant::now();
    env.grant(&process, "abort").await?;
    let aborted = reason(env, "Stalled", "RolloutAborted").await?;
    ensure!(condition(&aborted, "Progressing").1 == "RolloutAborted");
    ensure!(condition(&aborted, "Ready").0 == "True");
    wait_deployments(env, &[("l2o", 2, "v1")]).await?;
    let took = asked.elapsed();
    println!("aborted in {took:?}");
    ensure!(took < Duration::from_secs(30), "{took:?}");
    let left = routing(env).await?;
    ensure!(
        entry(&left, "currentBuildId").starts_with("v1-"),
        "{left:?}"
    );
    ensure!(entry(&left, "promotingBuildId").is_empty(), "{left:?}");
    traffic.stop().await?.all_answered()?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_versions_a_new_spec_supersedes_a_canary_and_a_promotion() -> Result<()> {
    let (scene, _) = settled("none-supersede", "None", 2).await?;
    let env = &scene.env;
    let steps = json!([{ "weight": 50, "pause": {} }]);
    env.patch("l2o", &change("v2", &[], &policy("None", &steps)))
        .await?;
    at_step(env, 1).await?;
    // In the midst of a canary, by what is promoted at once and never gets ready.
    let crashing = json!({ "versioning": "None", "strategy": "RollingUpdate", "steps": null });
    let crashing = change("v3", &[("CRASH_AT_START", "true")], &crashing);
    env.patch("l2o", &crashing).await?;
    wait_deployments(env, &[("l2o", 2, "v3")]).await?;
    ensure!(condition(&now(env).await?, "Ready").0 == "True");
    // In the midst of a promotion.
    env.patch("l2o", &change("v1", &[], &policy("None", &steps)))
        .await?;
    env.patch("l2o", &json!({ "spec": { "worker": { "env": null } } }))
        .await?;
    env.wait_settled("l2o", "v1").await?;
    wait_deployments(env, &[("l2o", 2, "v1")]).await?;
    scene.finish().await
}
