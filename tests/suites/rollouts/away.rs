//! Temporal goes away in the middle of a canary, and the operator dies while it is asked for something.

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, Scene, Traffic, condition, is_current,
    manifest,
};
use process_operator_tests::testbed::{PrivateTemporal, Testbed};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, now, rollout, rollouts, told};

#[tokio::test(flavor = "multi_thread")]
async fn a_ramp_goes_on_after_temporal_was_restarted() -> Result<()> {
    let mut temporal =
        tokio::task::spawn_blocking(|| PrivateTemporal::start_new("ramp-away")).await??;
    let env = Env::on(
        "ramp-away",
        Testbed::current()?,
        temporal.address(),
        temporal.pod_address(),
    )
    .await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let steps = canary(&json!([
        { "weight": 20, "pause": { "durationSeconds": 5 } },
        { "weight": 60, "pause": { "durationSeconds": 5 } },
    ]));
    env.patch("l2o", &change("v2", &[], &steps)).await?;
    at_step(&env, 1).await?;
    // Away across the end of the first pause.
    temporal.stop()?;
    env.wait_process("l2o", "the outage shows", SOON, |process| {
        condition(process, "TemporalReachable").0 == "False"
    })
    .await?;
    ensure!(rollout(&now(&env).await?).weight == 20);
    temporal.start()?;
    at_step(&env, 2).await?;
    let settled = env.wait_settled("l2o", "v2").await?;
    let weights = told(&settled);
    let weights = weights.iter().filter(|what| *what == "WeightChanged");
    ensure!(weights.count() == 2);
    ensure!(rollouts(&env, &process, "v2").await?.len() == 1);
    operator.ready().await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}

/// Asks for something while the operator is killed, and starts it again: it is done once.
async fn killed_during(
    scene: &Scene,
    process: &process_operator_crds::Process,
    verb: &str,
) -> Result<Operator> {
    let env = &scene.env;
    let id = format!("kill-{verb}");
    let asked = env.annotate(process, &id, verb);
    let (asked, ()) = tokio::join!(asked, async {
        // Somewhere between the watch event and the answer.
        tokio::time::sleep(Duration::from_millis(60)).await;
        scene.operator.kill();
    });
    asked?;
    let operator = Operator::start(env, OperatorOptions::default()).await?;
    env.wait_process("l2o", &format!("{verb} is answered"), SOON, |process| {
        let last = process
            .status
            .as_ref()
            .and_then(|status| status.last_request.as_ref());
        last.is_some_and(|last| last.id == id && last.result == "Accepted")
    })
    .await?;
    let mut what = format!("{verb}Requested");
    what[..1].make_ascii_uppercase();
    requested(env, &what).await?;
    Ok(operator)
}

/// A canary that waits in its first step.
async fn waiting(name: &str) -> Result<(Scene, process_operator_crds::Process, Traffic)> {
    let (scene, process) = Scene::settled(name).await?;
    let traffic = Traffic::start(&scene.env, "l2o-tq", Duration::from_millis(200));
    let steps = canary(&json!([{ "weight": 20, "pause": {} }, { "weight": 60, "pause": {} }]));
    scene.env.patch("l2o", &change("v2", &[], &steps)).await?;
    at_step(&scene.env, 1).await?;
    Ok((scene, process, traffic))
}

async fn requested(env: &Env, what: &str) -> Result<()> {
    let told = told(&now(env).await?);
    let count = told.iter().filter(|one| *one == what).count();
    ensure!(count == 1, "{what} is told {count} times: {told:?}");
    Ok(())
}

async fn over(scene: Scene, operator: Operator, traffic: Traffic) -> Result<()> {
    traffic.stop().await?.all_answered()?;
    scene
        .invariants
        .hold(&scene.env, &[&operator], QUIET)
        .await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_promote_it_goes_one_step() -> Result<()> {
    let (scene, process, traffic) = waiting("kill-promote").await?;
    let operator = killed_during(&scene, &process, "promote").await?;
    at_step(&scene.env, 2).await?;
    scene.env.grant(&process, "abort").await?;
    scene
        .env
        .wait_process("l2o", "aborted", SOON, |process| {
            condition(process, "Progressing").1 == "RolloutAborted"
        })
        .await?;
    over(scene, operator, traffic).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_abort_it_is_aborted() -> Result<()> {
    let (scene, process, traffic) = waiting("kill-abort").await?;
    let operator = killed_during(&scene, &process, "abort").await?;
    scene
        .env
        .wait_process("l2o", "aborted", SOON, |process| {
            condition(process, "Progressing").1 == "RolloutAborted"
                && condition(process, "Draining").0 == "False"
        })
        .await?;
    over(scene, operator, traffic).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_pause_resume_and_retry_each_is_done_once() -> Result<()> {
    let (scene, process, traffic) = waiting("kill-pause").await?;
    let env = &scene.env;
    let operator = killed_during(&scene, &process, "pause").await?;
    ensure!(condition(&now(env).await?, "Progressing").1 == "Paused");
    let scene = Scene { operator, ..scene };
    let operator = killed_during(&scene, &process, "resume").await?;
    let scene = Scene { operator, ..scene };
    let env = &scene.env;
    ensure!(condition(&now(env).await?, "Progressing").1 != "Paused");
    env.grant(&process, "abort").await?;
    env.wait_process("l2o", "aborted", SOON, |process| {
        condition(process, "Progressing").1 == "RolloutAborted"
    })
    .await?;
    let operator = killed_during(&scene, &process, "retry").await?;
    at_step(env, 1).await?;
    ensure!(rollouts(env, &process, "v2").await?.len() == 2);
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    over(scene, operator, traffic).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_undo_and_restart_each_is_done_once() -> Result<()> {
    let (scene, process) = Scene::settled("kill-undo").await?;
    let env = &scene.env;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(200));
    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    let operator = killed_during(&scene, &process, "restart").await?;
    let scene = Scene { operator, ..scene };
    let operator = killed_during(&scene, &process, "undo").await?;
    let env = &scene.env;
    env.wait_process("l2o", "v1 is back", SOON, |process| {
        let current = process
            .status
            .as_ref()
            .and_then(|status| status.current_version.as_ref());
        current.is_some_and(|current| current.build_id.starts_with("v1-"))
            && condition(process, "Draining").0 == "False"
    })
    .await?;
    ensure!(!is_current(&now(env).await?, "v2"));
    over(scene, operator, traffic).await
}
