//! Rollouts whose histories are kept: all later code must replay them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, RpcMatch, TemporalProxy};
use process_operator_harness::{Env, Scene, Traffic, condition, manifest, until};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;

use crate::support::{
    SOON, at_step, canary, change, now, proxied, reason, rollout, rollouts, routed,
};

/// What a version must show when so many percent of its executions may fail.
fn judged(most: i32) -> Value {
    json!({ "minWorkflows": 3, "maxFailurePercent": most, "intervalSeconds": 1 })
}

/// Waits until the rollout was held so often.
async fn held(env: &Env, process: &Process, times: usize) -> Result<()> {
    until(&format!("it is held {times} times"), SOON, async || {
        let events = env.events(process).await?;
        let held = events.iter().filter(|(reason, _)| reason == "RolloutHeld");
        let count = held.count();
        ensure!(count == times, "{count}");
        Ok(())
    })
    .await
}

/// Types of the events in the history of a version's rollout.
pub(crate) async fn types_in_rollout(
    env: &Env,
    process: &Process,
    tag: &str,
) -> Result<Vec<EventType>> {
    let ids = rollouts(env, process, tag).await?;
    let id = ids.first().context("no rollout")?;
    let history = env.temporal.history(&env.control, id).await?;
    Ok(history.iter().map(HistoryEvent::event_type).collect())
}

/// Waits until the rollout of a version knows that its pods serve, which is the first that it waits for.
async fn serves(env: &Env, process: &Process, tag: &str) -> Result<()> {
    until(&format!("{tag} serves"), SOON, async || {
        let types = types_in_rollout(env, process, tag).await?;
        let mut served = types
            .iter()
            .skip_while(|it| **it != EventType::ActivityTaskCompleted);
        let known = served.any(|it| *it == EventType::WorkflowTaskCompleted);
        ensure!(known, "{types:?}");
        Ok(())
    })
    .await
}

/// A canary with gates and evidence, paused, resumed and promoted; one that is held and goes on; one
/// that is aborted and tried again; one that is superseded; undo, restart and a rollback.
#[tokio::test(flavor = "multi_thread")]
async fn rollouts_through_everything_they_can_meet() -> Result<()> {
    let (scene, process) = Scene::settled("canaries").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([
        { "weight": 20, "pause": { "durationSeconds": 1 } },
        { "weight": 60, "pause": {}, "gate": { "workflowType": "Verify", "timeoutSeconds": 30 } },
    ]));
    policy["gate"] = json!({ "workflowType": "Verify", "timeoutSeconds": 30, "attempts": 2 });
    policy["analysis"] =
        json!({ "minWorkflows": 2, "maxFailurePercent": 100, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    reason(env, "Progressing", "Inconclusive").await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    at_step(env, 2).await?;
    env.grant(&process, "pause").await?;
    env.grant(&process, "resume").await?;
    env.temporal
        .record_histories(&env.control, "canary")
        .await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;

    policy["onFailure"] = "Pause".into();
    env.patch("l2o", &change("v3", &[("FAIL_VERIFY", "1")], &policy))
        .await?;
    reason(env, "Degraded", "GateFailed").await?;
    env.grant(&process, "promote").await?;
    at_step(env, 2).await?;
    env.grant(&process, "abort").await?;
    reason(env, "Stalled", "RolloutAborted").await?;
    env.grant(&process, "retry").await?;
    reason(env, "Degraded", "GateFailed").await?;
    let v1 = json!({ "strategy": "Canary", "gate": null, "analysis": null });
    env.patch("l2o", &change("v1", &[], &v1)).await?;
    env.wait_settled("l2o", "v1").await?;
    env.grant(&process, "undo").await?;
    env.wait_process("l2o", "v2 is back", SOON, |process| {
        process_operator_harness::is_current(process, "v2")
            && condition(process, "Draining").0 == "False"
    })
    .await?;
    env.grant(&process, "restart").await?;
    env.annotate(&process, "recorded", "retry").await?;
    env.wait_settled("l2o", "v1").await?;
    traffic.stop().await?.no_task_failed()?;
    env.temporal.record_histories(&env.control, "verbs").await?;
    scene.finish().await
}

/// One by hand, one that its evidence ends, and one whose routing somebody else changes.
#[tokio::test(flavor = "multi_thread")]
async fn rollouts_by_hand_among_other_hands_and_given_up() -> Result<()> {
    let (scene, process) = Scene::settled("by-hand").await?;
    let env = &scene.env;
    let manual =
        json!({ "strategy": "Manual", "gate": { "workflowType": "Verify", "timeoutSeconds": 30 } });
    env.patch("l2o", &change("v2", &[], &manual)).await?;
    reason(env, "Progressing", "WaitingForPromotion").await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;

    let mut policy = canary(&json!([{ "weight": 50, "pause": { "durationSeconds": 600 } }]));
    policy["gate"] = serde_json::Value::Null;
    policy["analysis"] =
        json!({ "minWorkflows": 5, "maxFailurePercent": 10, "intervalSeconds": 1 });
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    env.patch("l2o", &change("v3", &[("FAIL_PERCENT", "60")], &policy))
        .await?;
    reason(env, "Stalled", "AnalysisFailed").await?;
    traffic.stop().await?.no_task_failed()?;

    policy["analysis"]["maxFailurePercent"] = 100.into();
    policy["analysis"]["minWorkflows"] = 0.into();
    env.patch("l2o", &change("v2", &[("FAIL_PERCENT", "0")], &policy))
        .await?;
    at_step(env, 1).await?;
    let name = format!("{}/l2o", env.namespace);
    env.temporal
        .set_manager(&env.apps, &name, Some("alice"))
        .await?;
    reason(env, "Progressing", "RoutingChanged").await?;
    env.grant(&process, "resume").await?;
    at_step(env, 1).await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    env.temporal
        .record_histories(&env.control, "by-hand")
        .await?;
    scene.finish().await
}

/// A canary, an aborted promotion and a rollback where Temporal does not keep versions apart.
#[tokio::test(flavor = "multi_thread")]
async fn rollouts_in_the_other_modes() -> Result<()> {
    for (versioning, scenario) in [("TaskQueuePerVersion", "queues"), ("None", "none")] {
        let scene = Scene::new(scenario).await?;
        let env = &scene.env;
        let mut wanted = manifest(env, "l2o", "v1");
        wanted["spec"]["rollout"] = json!({ "versioning": versioning });
        wanted["spec"]["replicas"] = 2.into();
        env.apply(&wanted).await?;
        let process = env.wait_settled("l2o", "v1").await?;
        let mut policy = canary(&json!([{ "weight": 50, "pause": {} }]));
        policy["versioning"] = versioning.into();
        env.patch("l2o", &change("v2", &[], &policy)).await?;
        at_step(env, 1).await?;
        env.grant(&process, "promote").await?;
        env.wait_settled("l2o", "v2").await?;
        let at_once = json!({ "strategy": "RollingUpdate", "steps": null });
        let crashes = [("CRASH_AT_START", "true")];
        env.patch("l2o", &change("v3", &crashes, &at_once)).await?;
        env.wait_process("l2o", "v3 is rolled out", SOON, |process| {
            let rollout = crate::support::rollout(process);
            let target = process
                .status
                .as_ref()
                .and_then(|it| it.target_version.as_ref());
            !rollout.stage.is_empty() && target.is_some_and(|it| it.build_id.starts_with("v3-"))
        })
        .await?;
        env.grant(&process, "abort").await?;
        reason(env, "Stalled", "RolloutAborted").await?;
        env.patch("l2o", &change("v1", &[], &at_once)).await?;
        env.wait_settled("l2o", "v1").await?;
        env.temporal
            .record_histories(&env.control, scenario)
            .await?;
        scene.finish().await?;
    }
    Ok(())
}

/// Each step asks for something else, and somebody leads the rollout from one to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_whose_steps_have_evidence_and_a_gate_of_their_own() -> Result<()> {
    let (scene, process) = Scene::settled("recsteps").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([
        { "weight": 30, "pause": {}, "analysis": judged(10) },
        {
            "weight": 60,
            "pause": { "durationSeconds": 1 },
            "analysis": judged(100),
            "gate": { "workflowType": "Verify", "timeoutSeconds": 30, "attempts": 2 },
        },
        { "weight": 90, "pause": {} },
    ]));
    policy["gate"] = json!({ "workflowType": "Verify", "timeoutSeconds": 30 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    at_step(env, 1).await?;
    env.grant(&process, "pause").await?;
    env.grant(&process, "resume").await?;
    // Out of the first step, without its evidence, and no further.
    env.grant(&process, "promote").await?;
    let waiting = reason(env, "Progressing", "Inconclusive").await?;
    ensure!(rollout(&waiting).step == 2, "{:?}", rollout(&waiting));
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    at_step(env, 3).await?;
    routed(env, "v1", "v2", 90.0).await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    traffic.stop().await?.all_answered()?;
    env.temporal
        .record_histories(&env.control, "canary-steps")
        .await?;
    scene.finish().await
}

/// Evidence and a gate speak against a version, and somebody passes over both before it is aborted.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_held_again_and_again_and_led_on_all_the_same() -> Result<()> {
    let (scene, process) = Scene::settled("recheld").await?;
    let env = &scene.env;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    let mut policy = canary(&json!([
        { "weight": 30, "pause": {}, "analysis": judged(10) },
        {
            "weight": 60,
            "analysis": judged(100),
            "gate": { "workflowType": "Verify", "timeoutSeconds": 30 },
        },
        { "weight": 90, "pause": {} },
    ]));
    policy["onFailure"] = "Pause".into();
    let faults = [("FAIL_PERCENT", "60"), ("FAIL_VERIFY", "1")];
    env.patch("l2o", &change("v2", &faults, &policy)).await?;
    reason(env, "Degraded", "AnalysisFailed").await?;
    held(env, &process, 1).await?;
    env.grant(&process, "promote").await?;
    reason(env, "Degraded", "GateFailed").await?;
    held(env, &process, 2).await?;
    env.grant(&process, "retry").await?;
    held(env, &process, 3).await?;
    env.grant(&process, "promote").await?;
    at_step(env, 3).await?;
    env.grant(&process, "abort").await?;
    reason(env, "Stalled", "RolloutAborted").await?;
    routed(env, "v1", "", 0.0).await?;
    traffic.stop().await?.no_task_failed()?;
    env.temporal
        .record_histories(&env.control, "canary-held")
        .await?;
    scene.finish().await
}

/// One that may go on in the end, and one that is aborted before it was ever allowed to begin.
#[tokio::test(flavor = "multi_thread")]
async fn rollouts_that_begin_paused() -> Result<()> {
    let (scene, process) = Scene::settled("recpaused").await?;
    let env = &scene.env;
    let mut policy = json!({ "strategy": "RollingUpdate", "paused": true });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    // Its pods serve, and that is all.
    serves(env, &process, "v2").await?;
    reason(env, "Progressing", "Paused").await?;
    routed(env, "v1", "", 0.0).await?;
    policy["paused"] = false.into();
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    env.wait_settled("l2o", "v2").await?;

    let mut policy = canary(&json!([{ "weight": 20, "pause": {} }]));
    policy["paused"] = true.into();
    env.patch("l2o", &change("v3", &[], &policy)).await?;
    serves(env, &process, "v3").await?;
    env.grant(&process, "abort").await?;
    let aborted = reason(env, "Stalled", "RolloutAborted").await?;
    ensure!(condition(&aborted, "Ready").0 == "True");
    routed(env, "v2", "", 0.0).await?;
    until("v3 is gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    env.temporal
        .record_histories(&env.control, "starts-paused")
        .await?;
    scene.finish().await
}

/// Holds a change of routing back until its rollout has heard that it is aborted. It gets through after that, and is
/// taken back.
async fn recalled(
    env: &Env,
    proxy: &TemporalProxy,
    (tag, policy): (&str, &Value),
    method: &'static str,
) -> Result<()> {
    let changes = proxy.rule(RpcMatch::method(method), Action::Delay(SOON));
    env.patch("l2o", &change(tag, &[], policy)).await?;
    changes.wait_hits(1, SOON).await?;
    let process = now(env).await?;
    env.grant(&process, "abort").await?;
    until("its change of routing is told to stop", SOON, async || {
        let types = types_in_rollout(env, &process, tag).await?;
        let told = types.contains(&EventType::ActivityTaskCancelRequested);
        ensure!(told, "not yet");
        Ok(())
    })
    .await?;
    changes.remove();
    let ids = rollouts(env, &process, tag).await?;
    let id = ids.first().context("no rollout")?;
    env.temporal.wait_closed(&env.control, id, SOON).await?;
    reason(env, "Stalled", "RolloutAborted").await?;
    routed(env, "v1", "", 0.0).await
}

/// A weight and a promotion that were on their way to Temporal when their rollouts were aborted.
#[tokio::test(flavor = "multi_thread")]
async fn rollouts_that_are_aborted_while_they_change_the_routing() -> Result<()> {
    let (scene, _, proxy) = proxied("recalled").await?;
    let env = &scene.env;
    // Without anything on it v1 could be retired while v3 is Current.
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "old")
        .await?;
    let steps = canary(&json!([{ "weight": 20, "pause": {} }]));
    let weigh = "SetWorkerDeploymentRampingVersion";
    recalled(env, &proxy, ("v2", &steps), weigh).await?;
    let at_once = json!({ "strategy": "RollingUpdate", "steps": null });
    let promote = "SetWorkerDeploymentCurrentVersion";
    recalled(env, &proxy, ("v3", &at_once), promote).await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    let finished = env.temporal.finish_waiting(&env.apps, "old").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    env.temporal
        .record_histories(&env.control, "recalled")
        .await?;
    scene.finish().await
}
