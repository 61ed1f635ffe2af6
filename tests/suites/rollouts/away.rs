//! Temporal goes away in the middle of a canary, and the operator dies while it is asked for something.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, KubeProxy, KubeProxyConfig, RequestMatch};
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

/// Where the operator dies: around its first write for what was asked.
#[derive(Debug, Clone, Copy)]
enum Dies {
    /// It has taken the request in, and nothing of that can be seen.
    Before,
    /// The write is done, and the operator does not know it.
    After,
}

/// A world whose operator reaches the API server through a proxy.
async fn proxied(name: &str) -> Result<(Scene, KubeProxy)> {
    let env = Env::new(name).await?;
    let state = env.testbed.state();
    let ca = state.ca_file.as_ref().context("a certificate")?;
    let kube = KubeProxyConfig::new(&state.apiserver_url, std::fs::read(ca)?);
    let kube = KubeProxy::start(kube).await?;
    let operator = started(&env, &kube).await?;
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;
    let scene = Scene {
        env,
        operator,
        invariants,
    };
    Ok((scene, kube))
}

async fn started(env: &Env, kube: &KubeProxy) -> Result<Operator> {
    let options = OperatorOptions {
        kube_server: Some(kube.url()),
        ..OperatorOptions::default()
    };
    Operator::start(env, options).await
}

/// Asks for something; the operator is killed while it does that, and started again: it is done once.
async fn killed_during(
    (scene, kube): (&Scene, &KubeProxy),
    process: &Process,
    verb: &str,
    dies: Dies,
) -> Result<Operator> {
    let env = &scene.env;
    let id = format!("kill-{verb}");
    let pid = Pid::from_raw(scene.operator.pid);
    let kill = move || {
        let _gone = nix::sys::signal::kill(pid, Signal::SIGKILL);
    };
    let action = match dies {
        Dies::Before => Action::kill_before(kill),
        Dies::After => Action::kill_after(kill),
    };
    let write = RequestMatch::writes().namespace(&env.namespace).nth(1);
    let rule = kube.rule(write, action);
    env.annotate(process, &id, verb).await?;
    rule.wait_done(1, SOON).await?;
    rule.remove();
    scene.operator.kill();
    let operator = started(env, kube).await?;
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
async fn waiting(name: &str) -> Result<(Scene, KubeProxy, Process, Traffic)> {
    let (scene, kube) = proxied(name).await?;
    let traffic = Traffic::start(&scene.env, "l2o-tq", Duration::from_millis(200));
    let steps = canary(&json!([{ "weight": 20, "pause": {} }, { "weight": 60, "pause": {} }]));
    scene.env.patch("l2o", &change("v2", &[], &steps)).await?;
    let process = at_step(&scene.env, 1).await?;
    Ok((scene, kube, process, traffic))
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
    let (scene, kube, process, traffic) = waiting("kill-promote").await?;
    let operator = killed_during((&scene, &kube), &process, "promote", Dies::Before).await?;
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
    let (scene, kube, process, traffic) = waiting("kill-abort").await?;
    let operator = killed_during((&scene, &kube), &process, "abort", Dies::After).await?;
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
    let (scene, kube, process, traffic) = waiting("kill-pause").await?;
    let env = &scene.env;
    let operator = killed_during((&scene, &kube), &process, "pause", Dies::Before).await?;
    ensure!(condition(&now(env).await?, "Progressing").1 == "Paused");
    let scene = Scene { operator, ..scene };
    let operator = killed_during((&scene, &kube), &process, "resume", Dies::After).await?;
    let scene = Scene { operator, ..scene };
    let env = &scene.env;
    ensure!(condition(&now(env).await?, "Progressing").1 != "Paused");
    env.grant(&process, "abort").await?;
    env.wait_process("l2o", "aborted", SOON, |process| {
        condition(process, "Progressing").1 == "RolloutAborted"
    })
    .await?;
    let operator = killed_during((&scene, &kube), &process, "retry", Dies::Before).await?;
    at_step(env, 1).await?;
    ensure!(rollouts(env, &process, "v2").await?.len() == 2);
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    over(scene, operator, traffic).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_during_undo_and_restart_each_is_done_once() -> Result<()> {
    let (scene, kube) = proxied("kill-undo").await?;
    let process = now(&scene.env).await?;
    let env = &scene.env;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(200));
    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    let operator = killed_during((&scene, &kube), &process, "restart", Dies::After).await?;
    let scene = Scene { operator, ..scene };
    let operator = killed_during((&scene, &kube), &process, "undo", Dies::Before).await?;
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
