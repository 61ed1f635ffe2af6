//! The operator dies in the middle of a rollout, or Temporal does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use nix::sys::signal::Signal;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, Scene, Traffic, manifest, timers_fired,
};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, rollout, rollouts, routed};

/// Seconds that a step itself takes on a busy machine.
const SLACK: f64 = 4.0;

/// Kills the operator `before` the pause of a step ends and starts it at once. The pause ends when it
/// was to end, by the server's clock; how soon the step follows is measured by the benchmark.
async fn killed(name: &str, before: f64) -> Result<()> {
    let scene = Scene::new(name).await?;
    let env = &scene.env;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(200));
    let steps = canary(&json!([
        { "weight": 20, "pause": { "durationSeconds": 12 } },
        { "weight": 60, "pause": { "durationSeconds": 2 } },
    ]));
    env.patch("l2o", &change("v2", &[], &steps)).await?;
    let due = rollout(&at_step(env, 1).await?)
        .next_step_time
        .context("a due time")?;
    let left = due.0.duration_since(jiff::Timestamp::now()).as_secs_f64() - before;
    tokio::time::sleep(Duration::from_secs_f64(left.max(0.0))).await;
    scene.operator.kill();
    let operator = Operator::start(env, OperatorOptions::default()).await?;
    let up = jiff::Timestamp::now().duration_since(due.0).as_secs_f64();
    routed(env, "v1", "v2", 60.0).await?;
    let info = env
        .temporal
        .worker_deployment(&env.apps, &format!("{}/l2o", env.namespace))
        .await?;
    let at = info
        .and_then(|info| info.routing_config?.ramping_version_percentage_changed_time)
        .context("no ramp")?;
    let at = jiff::Timestamp::new(at.seconds, at.nanos)?;
    let late = at.duration_since(due.0).as_secs_f64();
    println!("killed {before} s before the step was due: {late:.2} s late");
    ensure!(late > -0.2, "{late} s early");
    // What the dead one had in its hands is given to another: the queue it alone listened to is left after 1 s,
    // and a task that it was given is given up after 5 s.
    let most = up.max(0.0) + 1.0 + 5.0 + SLACK;
    ensure!(late < most, "{late} s late, at most {most} s may be");
    env.wait_settled("l2o", "v2").await?;
    let ids = rollouts(env, &process, "v2").await?;
    ensure!(ids.len() == 1, "one rollout: {ids:?}");
    let history = env.temporal.history(&env.control, &ids[0]).await?;
    let fired = timers_fired(&history)
        .first()
        .map(|at| at.duration_since(due.0).as_secs_f64())
        .context("no timer went off")?;
    ensure!(
        (-0.5..2.0).contains(&fired),
        "the pause ended {fired} s after it was due"
    );
    traffic.stop().await?.all_answered()?;
    scene.invariants.hold(env, &[&operator], QUIET).await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_long_before_the_step_does_not_delay_it() -> Result<()> {
    killed("killearly", 8.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_just_before_the_step_is_made_up_for() -> Result<()> {
    killed("killlate", 0.2).await
}

/// Kills and starts it again every now and then, all the way.
#[tokio::test(flavor = "multi_thread")]
async fn kills_all_along_a_rollout_with_gate_and_evidence_change_nothing() -> Result<()> {
    let scene = Scene::new("killall").await?;
    let env = &scene.env;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(200));
    let mut policy = canary(&json!([
        { "weight": 20, "pause": { "durationSeconds": 1 } },
        { "weight": 60, "gate": { "workflowType": "Verify", "timeoutSeconds": 60 } },
    ]));
    policy["gate"] = json!({ "workflowType": "Verify", "timeoutSeconds": 60 });
    policy["analysis"] = json!({ "minWorkflows": 3, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    let (started, mut kills) = (Instant::now(), 0_u32);
    scene.operator.kill();
    loop {
        let operator = Operator::start(env, OperatorOptions::default()).await?;
        // Longer each time, so that it dies at other points and gets through in the end.
        let life = Duration::from_millis(1_500 + 500 * u64::from(kills));
        let done = tokio::time::timeout(life, async {
            env.wait_process("l2o", "v2 is current", SOON, |process| {
                process_operator_harness::is_settled(process, "v2")
            })
            .await
        })
        .await;
        if let Ok(done) = done {
            done?;
            traffic.stop().await?.all_answered()?;
            ensure!(
                rollouts(env, &process, "v2").await?.len() == 1,
                "one rollout"
            );
            let gates = env
                .temporal
                .list(&env.apps, "WorkflowId STARTS_WITH 'gate/'")
                .await?;
            ensure!(gates.len() == 2, "each gate once: {}", gates.len());
            scene.invariants.hold(env, &[&operator], QUIET).await?;
            println!("{kills} kills in {:.0} s", started.elapsed().as_secs_f64());
            break;
        }
        operator.kill();
        kills += 1;
        ensure!(kills < 25, "not through after {kills} kills");
    }
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_take_each_step_once() -> Result<()> {
    let env = Env::new("two").await?;
    let invariants = Invariants::start(&env)?;
    let named = |name: &str| OperatorOptions {
        instance: Some(name.into()),
        ..OperatorOptions::default()
    };
    let one = Operator::start(&env, named("operator-0")).await?;
    let two = Operator::start(&env, named("operator-1")).await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let steps = canary(&json!([
        { "weight": 20, "pause": { "durationSeconds": 3 } },
        { "weight": 60, "pause": {} },
    ]));
    env.patch("l2o", &change("v2", &[], &steps)).await?;
    at_step(&env, 1).await?;
    // One of them is stopped in the way of a node that hangs, and comes back in the middle. The lifecycle's task may be
    // in its hands, and then nobody tells of a step until the server gives that up after ten seconds: the second one
    // lasts until somebody says so.
    one.signal(Signal::SIGSTOP)?;
    at_step(&env, 2).await?;
    one.signal(Signal::SIGCONT)?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    ensure!(rollouts(&env, &process, "v2").await?.len() == 1);
    let uid = process.uid().unwrap_or_default();
    ensure!(!uid.is_empty());
    let events = env.events(&process).await?;
    let weights = events
        .iter()
        .filter(|(reason, _)| reason == "WeightChanged")
        .count();
    ensure!(weights == 2, "{events:?}");
    invariants.hold(&env, &[&one, &two], QUIET).await?;
    env.remove().await
}
