//! Rollouts whose histories are kept: all later code must replay them.

use std::time::Duration;

use anyhow::Result;
use process_operator_harness::{Scene, Traffic, condition};
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
