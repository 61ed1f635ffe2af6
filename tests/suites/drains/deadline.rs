//! The deadline holds, whatever happens to the operator in between.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, Scene, condition, json_payload, until,
};
use process_operator_tests::testbed::{PrivateTemporal, Testbed};
use serde_json::json;

use crate::histories::{policy_is_handed_over, since};
use crate::support::{counted, drain_id, on_v1, open, retired, to_v2};

/// How late the first of the old workflows was ended.
async fn lateness(env: &Env, deadline: Timestamp) -> Result<f64> {
    let query = "WorkflowId STARTS_WITH 'old-' AND ExecutionStatus = 'Terminated'";
    let closed = env.temporal.list(&env.apps, query).await?;
    let first = closed
        .iter()
        .filter_map(|info| info.close_time.as_ref())
        .filter_map(|at| Timestamp::new(at.seconds, at.nanos).ok())
        .min()
        .context("none was ended")?;
    Ok(first.duration_since(deadline).as_secs_f64())
}

/// Five old workflows, to be terminated when v1 has been without traffic for so long. The deadline as exactly as
/// Temporal keeps it.
async fn due(env: &Env, seconds: i64) -> Result<(Process, Timestamp)> {
    let drain = json!({ "timeoutSeconds": seconds, "onTimeout": "Terminate" });
    on_v1(env, &drain, &[]).await?;
    open(env, "old", 5, false).await?;
    let (process, version) = to_v2(env, 5).await?;
    let (told_since, told) = (
        version.since.context("since")?.0,
        version.deadline.context("a deadline")?.0,
    );
    ensure!(
        told.duration_since(told_since).as_secs() == seconds,
        "{told_since} {told}"
    );
    let deadline = since(env, &process).await? + SignedDuration::from_secs(seconds);
    ensure!(
        deadline.as_second() == told.as_second(),
        "{deadline}, not {told}"
    );
    Ok((process, deadline))
}

/// It is kept within so many seconds.
const KEPT: f64 = 2.0;
/// What ends after that is late, when all are there again.
const AT_ONCE: f64 = 5.0;

/// The end of a test whose operator is not the first.
async fn leave(env: &Env, invariants: &Invariants, operator: &Operator) -> Result<()> {
    invariants.leave(env, &[operator], "l2o").await
}

async fn until_time(at: Timestamp) {
    let left = at.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_kept_within_two_seconds() -> Result<()> {
    let scene = Scene::new("due").await?;
    let (_, deadline) = due(&scene.env, 25).await?;
    counted(&scene.env, "old", "Terminated", 5).await?;
    let late = lateness(&scene.env, deadline).await?;
    println!("{late:.2} s after the deadline");
    ensure!((0.0..KEPT).contains(&late), "{late}");
    retired(&scene.env).await?;
    scene.leave().await
}

/// F06, with a drain that had begun.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_away_acts_when_it_is_back() -> Result<()> {
    let scene = Scene::new("dueaway").await?;
    let (_, deadline) = due(&scene.env, 20).await?;
    scene.operator.kill();
    until_time(deadline + SignedDuration::from_secs(5)).await;
    let started = Timestamp::now();
    let operator = Operator::start(&scene.env, OperatorOptions::default()).await?;
    let ready = Timestamp::now();
    counted(&scene.env, "old", "Terminated", 5).await?;
    ensure!(
        lateness(&scene.env, started).await? >= 0.0,
        "nobody was there before"
    );
    let late = lateness(&scene.env, ready).await?;
    println!("{late:.2} s after the operator is ready");
    ensure!(late < AT_ONCE, "{late}");
    retired(&scene.env).await?;
    leave(&scene.env, &scene.invariants, &operator).await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_do_not_move_it() -> Result<()> {
    let scene = Scene::new("duekills").await?;
    let env = &scene.env;
    let (process, deadline) = due(&scene.env, 45).await?;
    scene.operator.kill();
    let mut killed = Timestamp::now();
    for n in 1..10 {
        let options = OperatorOptions {
            unready: true,
            ..OperatorOptions::default()
        };
        let operator = Operator::start(env, options).await?;
        // Each at another point of what it does after a start.
        tokio::time::sleep(Duration::from_millis(250 * n)).await;
        operator.kill();
        killed = Timestamp::now();
    }
    let operator = Operator::start(env, OperatorOptions::default()).await?;
    let ahead = deadline.duration_since(killed).as_secs_f64();
    println!("the last of ten kills {ahead:.1} s before the deadline");
    // What the last one had in its hands is given to another one by then.
    ensure!(ahead > 7.0, "too slow to show anything: {ahead}");
    counted(env, "old", "Terminated", 5).await?;
    let late = lateness(env, deadline).await?;
    println!("{late:.2} s after the deadline");
    ensure!((0.0..KEPT).contains(&late), "{late}");
    retired(env).await?;
    let events = env.events(&process).await?;
    for once in ["DrainStarted", "DrainTimedOut", "VersionRetired"] {
        let count = events.iter().filter(|(reason, _)| reason == once).count();
        ensure!(count == 1, "{once}: {count} times");
    }
    leave(env, &scene.invariants, &operator).await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_temporal_does_not_lose_it() -> Result<()> {
    let mut temporal =
        tokio::task::spawn_blocking(|| PrivateTemporal::start_new("duerestart")).await??;
    let (address, pods) = (temporal.address(), temporal.pod_address());
    let env = Env::on("duerestart", Testbed::current()?, address, pods).await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    let (_, deadline) = due(&env, 40).await?;
    temporal.stop()?;
    // The outage shows, and the old pods are left alone.
    env.wait_process("l2o", "the outage shows", crate::support::SOON, |process| {
        condition(process, "TemporalReachable").0 == "False"
    })
    .await?;
    ensure!(
        env.pods("l2o").await?.len() == 2,
        "both versions have their pods"
    );
    temporal.start()?;
    operator.ready().await?;
    let ready = Timestamp::now();
    counted(&env, "old", "Terminated", 5).await?;
    let late = lateness(&env, deadline).await?;
    ensure!(late >= 0.0, "early: {late}");
    let late = lateness(&env, deadline.max(ready)).await?;
    println!("{late:.2} s after the deadline, or when Temporal was back");
    ensure!(late < AT_ONCE, "{late}");
    retired(&env).await?;
    leave(&env, &invariants, &operator).await?;
    env.remove().await
}

/// F27. A long drain in little time: what would take weeks of counts is made of signals.
#[tokio::test(flavor = "multi_thread")]
async fn it_outlasts_the_run_that_set_it() -> Result<()> {
    let scene = Scene::new("duelong").await?;
    let env = &scene.env;
    let (process, deadline) = due(&scene.env, 150).await?;
    let drain = drain_id(env, &process).await?;
    let policy = |grace: u32| {
        json_payload(&json!({
            "timeoutSeconds": 150, "onTimeout": "Terminate", "cancelGraceSeconds": grace,
            "scaleDownDelaySeconds": 1, "deleteDelaySeconds": 0,
        }))
    };
    futures::stream::iter(0..1100)
        .map(|n| {
            let (env, drain) = (env, drain.as_str());
            async move {
                env.temporal
                    .signal(&env.control, drain, "policy", vec![policy(n)])
                    .await
            }
        })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    let query = format!("WorkflowId = '{drain}'");
    until(
        "it has continued as new",
        crate::support::SOON,
        async || {
            let runs = env.temporal.list(&env.control, &query).await?;
            ensure!(runs.len() > 1, "{} run", runs.len());
            for run in runs {
                ensure!(run.history_length < 3000, "{}", run.history_length);
            }
            Ok(())
        },
    )
    .await?;
    policy_is_handed_over(env, &drain).await?;
    ensure!(Timestamp::now() < deadline, "too slow to show anything");
    ensure!(crate::support::count(env, "old", "Running").await? == 5);
    until_time(deadline).await;
    counted(env, "old", "Terminated", 5).await?;
    let late = lateness(env, deadline).await?;
    println!("{late:.2} s after the deadline");
    ensure!((0.0..6.0).contains(&late), "{late}");
    retired(env).await?;
    scene.leave().await
}
