//! What people do by hand in the Temporal UI.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, condition, is_current, is_settled, lifecycle_id, until};
use serde_json::json;

use crate::support::{QUIET, SOON, Scene, rollouts, version, wait_deployment, written};

/// Waits until another run of the lifecycle is at work.
async fn started_again(env: &Env, process: &Process, runs: usize) -> Result<()> {
    let id = lifecycle_id(process);
    until("the lifecycle runs again", SOON, async || {
        let all = env
            .temporal
            .list(&env.control, &format!("WorkflowId = '{id}'"))
            .await?;
        let open = env
            .temporal
            .list(
                &env.control,
                &format!("WorkflowId = '{id}' AND ExecutionStatus = 'Running'"),
            )
            .await?;
        ensure!(
            all.len() == runs && open.len() == 1,
            "{} runs, {} open",
            all.len(),
            open.len()
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_ended_by_hand_is_started_again() -> Result<()> {
    let (scene, process) = Scene::settled("ended").await?;
    let env = &scene.env;
    let id = lifecycle_id(&process);
    env.temporal.terminate(&env.control, &id).await?;
    started_again(env, &process, 2).await?;
    env.temporal.cancel(&env.control, &id).await?;
    started_again(env, &process, 3).await?;
    env.wait_settled("l2o", "v1").await?;
    ensure!(
        rollouts(env, &process, "v1").await?.len() == 1,
        "nothing is rolled out anew"
    );
    let created = written(&scene.invariants, env, "deployments", 201)?;
    ensure!(created.len() == 1, "{created:?}");
    scene.finish().await
}

/// Ends the lifecycle in the middle of a roll.
async fn ended_in_a_roll(name: &str, end: impl AsyncFn(&Env, &str) -> Result<()>) -> Result<()> {
    let (scene, process) = Scene::settled(name).await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    // Longer than the sweep needs to notice, so that the rollout is adopted.
    env.patch("l2o", &version("v2", &[("START_DELAY_MS", "12000")]))
        .await?;
    wait_deployment(env, "v2").await?;
    until("the rollout runs", SOON, async || {
        ensure!(rollouts(env, &process, "v2").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    end(env, &lifecycle_id(&process)).await?;
    started_again(env, &process, 2).await?;
    env.wait_process("l2o", "v2 is current", SOON, |process| {
        is_current(process, "v2")
    })
    .await?;
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    let process = env.wait_settled("l2o", "v2").await?;
    let tried = rollouts(env, &process, "v2").await?;
    ensure!(
        tried.len() == 1,
        "the rollout under way was adopted: {tried:?}"
    );
    ensure!(env.deployments("l2o").await?.len() == 1, "v1 is gone");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_terminated_in_a_roll_goes_on_with_its_children() -> Result<()> {
    ended_in_a_roll("terminated", async |env, id| {
        env.temporal.terminate(&env.control, id).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_cancelled_in_a_roll_goes_on_with_its_children() -> Result<()> {
    ended_in_a_roll("cancelled", async |env, id| {
        env.temporal.cancel(&env.control, id).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_deployment_managed_by_somebody_else_is_left_alone_until_released() -> Result<()> {
    let (scene, process) = Scene::settled("managed").await?;
    let env = &scene.env;
    let name = format!("{}/l2o", env.namespace);
    let v1 = process
        .status
        .clone()
        .and_then(|status| status.current_version)
        .context("current")?
        .build_id;
    env.temporal
        .set_manager(&env.apps, &name, Some("another-operator"))
        .await?;
    env.set_tag("l2o", "v2").await?;
    let stalled = env
        .wait_process("l2o", "the other manager is named", SOON, |process| {
            condition(process, "Stalled").1 == "DeploymentOwnedElsewhere"
        })
        .await?;
    let message = condition(&stalled, "Stalled").2;
    ensure!(message.contains("another-operator"), "{message}");
    ensure!(condition(&stalled, "Ready").0 == "True", "v1 still serves");
    scene
        .invariants
        .hold(env, &[&scene.operator], QUIET)
        .await?;
    let record = env
        .temporal
        .worker_deployment(&env.apps, &name)
        .await?
        .context("record")?;
    let routed = record
        .routing_config
        .and_then(|routing| routing.current_deployment_version);
    ensure!(
        routed.is_some_and(|version| version.build_id == v1),
        "routing is left alone"
    );

    env.temporal.set_manager(&env.apps, &name, None).await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_changed_by_another_client_is_noticed_and_put_right() -> Result<()> {
    let (scene, process) = Scene::settled("routed").await?;
    let env = &scene.env;
    let name = format!("{}/l2o", env.namespace);
    let record = env
        .temporal
        .worker_deployment(&env.apps, &name)
        .await?
        .context("record")?;
    // To nobody, in the operator's own name: new workflows would wait for ever.
    env.temporal
        .set_current(&env.apps, &name, "", &record.manager_identity)
        .await?;
    until("v1 is routed to again", SOON, async || {
        let record = env
            .temporal
            .worker_deployment(&env.apps, &name)
            .await?
            .context("record")?;
        let current = record
            .routing_config
            .and_then(|routing| routing.current_deployment_version);
        ensure!(current.is_some(), "nobody");
        Ok(())
    })
    .await?;
    env.wait_process("l2o", "settled", SOON, |process| is_settled(process, "v1"))
        .await?;
    ensure!(
        rollouts(env, &process, "v1").await?.len() == 2,
        "seen in the Temporal UI as a rollout of its own"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    scene.finish().await
}

/// Ends the lifecycle, and waits until its successor has looked.
async fn succeeded(env: &Env, process: &Process, runs: usize) -> Result<Process> {
    let run = |process: &Process| {
        let workflow = process.status.as_ref()?.workflow.as_ref()?;
        workflow.run_id.clone()
    };
    let before = run(&env.api::<Process>().get("l2o").await?);
    let id = lifecycle_id(process);
    env.temporal.terminate(&env.control, &id).await?;
    started_again(env, process, runs).await?;
    env.wait_process("l2o", "another run has looked", SOON, |process| {
        run(process) != before
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_or_undone_stays_so_after_an_end_by_hand() -> Result<()> {
    let (scene, process) = Scene::settled("decided").await?;
    let env = &scene.env;
    let mut canary = version("v2", &[]);
    canary["spec"]["rollout"] =
        json!({ "strategy": "Canary", "steps": [{ "weight": 20, "pause": {} }] });
    env.patch("l2o", &canary).await?;
    env.wait_process("l2o", "the step", SOON, |process| {
        let status = process.status.as_ref();
        let rollout = status.and_then(|status| status.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.weight == 20)
    })
    .await?;
    env.grant(&process, "abort").await?;
    let aborted = env
        .wait_process("l2o", "aborted and drained", SOON, |process| {
            condition(process, "Progressing").1 == "RolloutAborted"
                && condition(process, "Draining").0 == "False"
        })
        .await?;
    let told = |process: &Process| ["Ready", "Degraded"].map(|kind| condition(process, kind));
    let found = succeeded(env, &process, 2).await?;
    ensure!(
        told(&found) == told(&aborted),
        "{:?} was {:?}",
        told(&found),
        told(&aborted)
    );
    ensure!(
        rollouts(env, &process, "v2").await?.len() == 1,
        "it was tried again"
    );
    env.grant(&process, "retry").await?;
    env.wait_process("l2o", "tried again", SOON, |process| {
        let status = process.status.as_ref();
        let rollout = status.and_then(|status| status.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.weight == 20)
    })
    .await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;

    env.grant(&process, "undo").await?;
    let undone = env
        .wait_process("l2o", "v1 is back", SOON, |process| {
            condition(process, "Degraded").1 == "Undone"
                && condition(process, "Draining").0 == "False"
                && is_current(process, "v1")
        })
        .await?;
    let found = succeeded(env, &process, 3).await?;
    ensure!(
        told(&found) == told(&undone),
        "{:?} was {:?}",
        told(&found),
        told(&undone)
    );
    env.grant(&process, "retry").await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}
