//! Rollouts whose histories are kept: all later code must replay them.

use std::time::Duration;

use anyhow::Result;
use process_operator_harness::{Scene, Traffic, condition, manifest};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, reason};

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
    traffic.stop().await?;
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
    traffic.stop().await?;

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
