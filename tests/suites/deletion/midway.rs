//! Deletion in the middle of everything else.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{PodGuard, Scene, condition, is_current, manifest, until, version};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use crate::support::{QUEUE, SOON, ended, says, settled};

/// Deletes `l2o`, waits until it is gone, and holds that nothing of it is left.
async fn goes(scene: Scene, process: &Process) -> Result<()> {
    let env = &scene.env;
    env.delete("l2o").await?;
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(process).await?;
    scene.finish().await
}

/// Where the rollout stands.
fn stage_of(process: &Process) -> String {
    let status = process.status.as_ref();
    let rollout = status.and_then(|status| status.rollout.as_ref());
    rollout.map(|it| it.stage.clone()).unwrap_or_default()
}

/// A rollout to v2 by this `spec.rollout`, deleted when it is at the stage.
async fn in_a_rollout(
    name: &str,
    rollout: &Value,
    env: &[(&str, &str)],
    stage: &str,
) -> Result<()> {
    let (scene, process) = settled(name, &json!({})).await?;
    let mut change = version("v2", env);
    change["spec"]["rollout"] = rollout.clone();
    scene.env.patch("l2o", &change).await?;
    scene
        .env
        .wait_process("l2o", stage, SOON, |process| stage_of(process) == stage)
        .await?;
    goes(scene, &process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_first_deploy() -> Result<()> {
    let scene = Scene::new("first").await?;
    let env = &scene.env;
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["worker"]["env"] = json!([{ "name": "START_DELAY_MS", "value": "60000" }]);
    let process = env.apply(&wanted).await?;
    until("its Deployment is there", SOON, async || {
        ensure!(!env.deployments("l2o").await?.is_empty(), "none");
        Ok(())
    })
    .await?;
    goes(scene, &process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_new_version_starts() -> Result<()> {
    let rollout = json!({ "strategy": "RollingUpdate" });
    in_a_rollout(
        "starts",
        &rollout,
        &[("START_DELAY_MS", "60000")],
        "Starting",
    )
    .await
}

/// A gate that waits for a signal, and is told to end when the Process goes.
async fn in_a_gate(name: &str, rollout: &Value, stage: &str) -> Result<()> {
    let deletion = json!({ "timeoutSeconds": 3, "onTimeout": "Cancel" });
    let (scene, process) = settled(name, &deletion).await?;
    let mut change = version("v2", &[]);
    change["spec"]["rollout"] = rollout.clone();
    scene.env.patch("l2o", &change).await?;
    scene
        .env
        .wait_process("l2o", "the gate runs", SOON, |process| {
            condition(process, "Progressing").1 == "GateRunning" && stage_of(process) == stage
        })
        .await?;
    goes(scene, &process).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_gate_runs() -> Result<()> {
    let gate = json!({ "workflowType": "WaitForSignal", "timeoutSeconds": 600 });
    let rollout = json!({ "strategy": "Manual", "gate": gate });
    in_a_gate("gate", &rollout, "Gate").await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_gate_of_a_step_runs() -> Result<()> {
    let gate = json!({ "workflowType": "WaitForSignal", "timeoutSeconds": 600 });
    let rollout = json!({ "strategy": "Canary", "steps": [{ "weight": 20, "gate": gate }] });
    in_a_gate("stepgate", &rollout, "StepGate").await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_for_evidence() -> Result<()> {
    let rollout = json!({
        "strategy": "Canary",
        "steps": [{ "weight": 20 }],
        "analysis": { "minWorkflows": 1000 },
    });
    in_a_rollout("analyzes", &rollout, &[], "Analyzing").await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_to_be_promoted() -> Result<()> {
    in_a_rollout(
        "promotes",
        &json!({ "strategy": "Manual" }),
        &[],
        "WaitingForPromotion",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_weight_the_share_is_taken_back_and_both_versions_serve_theirs() -> Result<()> {
    let (scene, process) = settled("weight", &json!({})).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "old").await?;
    let mut change = version("v2", &[]);
    change["spec"]["rollout"] =
        json!({ "strategy": "Canary", "steps": [{ "weight": 99, "pause": {} }] });
    env.patch("l2o", &change).await?;
    env.wait_process("l2o", "99 %", SOON, |process| {
        let rollout = process
            .status
            .as_ref()
            .and_then(|status| status.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.weight == 99)
    })
    .await?;
    // The share goes by the workflow id.
    let mut on_new = None;
    for n in 0..20 {
        let id = format!("new-{n}");
        env.temporal.start_waiting(&env.apps, QUEUE, &id).await?;
        on_new = Some(id);
    }
    let on_new = on_new.context("one of them")?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    env.delete("l2o").await?;
    says(env, "waiting for 21 running workflows").await?;
    let name = format!("{}/l2o", env.namespace);
    until("the share is taken back, v1 is current", SOON, async || {
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let routing = info
            .and_then(|info| info.routing_config)
            .context("routing")?;
        let current = routing.current_deployment_version.map(|it| it.build_id);
        ensure!(
            routing.ramping_deployment_version.is_none()
                && current.as_ref().is_some_and(|it| it.starts_with("v1-")),
            "{current:?}"
        );
        Ok(())
    })
    .await?;
    let answer = env.temporal.quick(&env.apps, QUEUE, "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    ended_by_signal(&scene, "old", "v1-").await?;
    ended_by_signal(&scene, &on_new, "v2-").await?;
    for n in 0..19 {
        env.temporal
            .finish_waiting(&env.apps, &format!("new-{n}"))
            .await?;
    }
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

async fn ended_by_signal(scene: &Scene, id: &str, version: &str) -> Result<()> {
    let env = &scene.env;
    let output = env.temporal.finish_waiting(&env.apps, id).await?;
    ensure!(
        output.completed_on.starts_with(version),
        "{id} ends where it began: {output:?}"
    );
    ended(env, id, WorkflowExecutionStatus::Completed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_old_version_drains_both_serve_theirs() -> Result<()> {
    let (scene, process) = settled("drains", &json!({})).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "old").await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v2 current, v1 draining", SOON, |process| {
        is_current(process, "v2") && condition(process, "Draining").0 == "True"
    })
    .await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "new").await?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    env.delete("l2o").await?;
    says(env, "waiting for 2 running workflows").await?;
    ended_by_signal(&scene, "old", "v1-").await?;
    says(env, "waiting for 1 running workflow").await?;
    ended_by_signal(&scene, "new", "v2-").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_rollout() -> Result<()> {
    let (scene, process) = settled("failed", &json!({})).await?;
    let mut change = version("v2", &[("CRASH_AT_START", "1")]);
    change["spec"]["rollout"] = json!({ "progressDeadlineSeconds": 3 });
    scene.env.patch("l2o", &change).await?;
    scene
        .env
        .wait_process("l2o", "stalled", SOON, |process| {
            condition(process, "Stalled").1 == "ProgressDeadlineExceeded"
        })
        .await?;
    goes(scene, &process).await
}
