//! Workflows that must complete on the new version first.

use anyhow::{Result, ensure};
use process_operator_harness::{Scene, condition, until};
use serde_json::{Value, json};

use crate::support::{SOON, at_step, canary, change, reason, rollout, rollouts, routed};

/// Gate workflows ever started, with their status.
async fn gates(scene: &Scene) -> Result<Vec<(String, i32)>> {
    let env = &scene.env;
    let found = env
        .temporal
        .list(&env.apps, "WorkflowId STARTS_WITH 'gate/'")
        .await?;
    Ok(found
        .into_iter()
        .map(|info| {
            let id = info.execution.map(|it| it.workflow_id).unwrap_or_default();
            (id, info.status)
        })
        .collect())
}

fn gated(gate: &Value, steps: &Value) -> Value {
    let mut rollout = canary(steps);
    rollout["gate"] = gate.clone();
    rollout
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_run_on_the_new_version_before_traffic_and_in_a_step() -> Result<()> {
    let (scene, first) = Scene::settled("gate").await?;
    let env = &scene.env;
    let policy = gated(
        &json!({ "workflowType": "Verify", "input": { "delay_ms": 4000, "message": "hello" }, "timeoutSeconds": 30 }),
        &json!([{ "weight": 30, "gate": { "workflowType": "Verify", "timeoutSeconds": 30 } }, { "weight": 60, "pause": {} }]),
    );
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    let running = reason(env, "Progressing", "GateRunning").await?;
    ensure!(rollout(&running).step == 0 && rollout(&running).weight == 0);
    let ids = rollouts(env, &first, "v2").await?;
    let [id] = ids.as_slice() else {
        anyhow::bail!("{ids:?}")
    };
    let details = env.temporal.current_details(&env.control, id).await?;
    // Its id is told by the status and by the rollout, and is that of a workflow.
    let gate = until("the gate is there", SOON, async || {
        let [(gate, _)] = gates(&scene)
            .await?
            .try_into()
            .map_err(|all| anyhow::anyhow!("{all:?}"))?;
        anyhow::Ok(gate)
    })
    .await?;
    ensure!(details.contains(&format!("`{gate}`")), "{gate}: {details}");
    let message = rollout(&running).message;
    ensure!(
        message.contains(&format!("({gate}) runs")),
        "{gate}: {message}"
    );
    let held = at_step(env, 2).await?;
    ensure!(
        rollout(&held).message.contains("completed"),
        "{:?}",
        rollout(&held)
    );
    let ended = gates(&scene).await?;
    ensure!(ended.len() == 2, "{ended:?}");
    let details = env.temporal.current_details(&env.control, id).await?;
    ensure!(details.contains(") completed"), "{details}");
    for (id, _) in &ended {
        let query = format!(
            "WorkflowId = '{id}' AND ExecutionStatus = 'Completed' \
             AND TemporalWorkerDeploymentVersion STARTS_WITH '{}/l2o:v2-'",
            env.namespace
        );
        ensure!(
            env.temporal.list(&env.apps, &query).await?.len() == 1,
            "{id} ran on v2"
        );
    }
    let process = crate::support::now(env).await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_fails_is_tried_again_and_then_gives_the_version_up() -> Result<()> {
    let (scene, process) = Scene::settled("nogate").await?;
    let env = &scene.env;
    let policy = gated(
        &json!({ "workflowType": "Verify", "attempts": 2, "timeoutSeconds": 30 }),
        &json!([{ "weight": 30 }]),
    );
    env.patch("l2o", &change("v2", &[("FAIL_VERIFY", "1")], &policy))
        .await?;
    let failed = reason(env, "Stalled", "GateFailed").await?;
    let message = condition(&failed, "Degraded").2;
    ensure!(
        message.contains("Verify") && message.contains("gate/"),
        "{message}"
    );
    ensure!(gates(&scene).await?.len() == 2);
    routed(env, "v1", "", 0.0).await?;
    until("v2 is gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    // The same build again: once more through its gate.
    env.grant(&process, "retry").await?;
    until("the gate has run again", SOON, async || {
        ensure!(gates(&scene).await?.len() == 4, "not yet");
        Ok(())
    })
    .await?;
    reason(env, "Stalled", "GateFailed").await?;
    // With the cause mended it passes.
    env.patch("l2o", &json!({ "spec": { "worker": { "env": null } } }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_takes_too_long_holds_the_rollout_if_asked_to() -> Result<()> {
    let (scene, process) = Scene::settled("slowgate").await?;
    let env = &scene.env;
    let mut policy = gated(
        &json!({ "workflowType": "Verify", "input": { "delay_ms": 60_000 }, "timeoutSeconds": 2 }),
        &json!([{ "weight": 30 }]),
    );
    policy["onFailure"] = "Pause".into();
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    let held = reason(env, "Degraded", "GateFailed").await?;
    ensure!(
        condition(&held, "Degraded").2.contains("within 2 s"),
        "{held:?}"
    );
    env.grant(&process, "retry").await?;
    until("the gate runs again", SOON, async || {
        ensure!(gates(&scene).await?.len() == 2, "not yet");
        Ok(())
    })
    .await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}
