//! What follows when nothing holds a version any more.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, condition, until, written_at};
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::EventType;

use crate::support::{
    QUEUE, SOON, Stops, drain_id, on_v1, open, replicas, retired, set_drain, tells, to_v2,
};

/// Waits until v1 is kept without pods.
async fn without_pods(env: &Env, build_id: &str) -> Result<Process> {
    until("v1 has no pods", SOON, async || {
        ensure!(replicas(env, build_id).await? == Some(0));
        Ok(())
    })
    .await?;
    env.wait_process("l2o", "nothing drains", SOON, |process| {
        condition(process, "Draining").0 == "False"
    })
    .await
}

/// v2 is current, and `old-0` holds v1, which is to be kept for long. Its build id.
async fn held_by_one(env: &Env) -> Result<String> {
    let delays = json!({ "scaleDownDelaySeconds": 0, "deleteDelaySeconds": 600 });
    on_v1(env, &delays, &[]).await?;
    open(env, "old", 1, false).await?;
    let (_, version) = to_v2(env, 1).await?;
    ensure!(replicas(env, &version.build_id).await? == Some(1));
    Ok(version.build_id)
}

/// v2 is current, and v1 is kept without pods: what it ran has ended. Its build id.
async fn kept(env: &Env) -> Result<String> {
    let build_id = held_by_one(env).await?;
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    without_pods(env, &build_id).await?;
    Ok(build_id)
}

/// Waits until v1 has its pods again and drains.
async fn resumed(env: &Env, build_id: &str) -> Result<()> {
    until("its pods are back", SOON, async || {
        let found = replicas(env, build_id).await?;
        ensure!(found == Some(1), "{found:?}");
        Ok(())
    })
    .await?;
    tells(env, "DrainResumed").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_pods_gets_them_back_with_its_work() -> Result<()> {
    let scene = Scene::new("again").await?;
    let env = &scene.env;
    let build_id = kept(env).await?;
    let deployment = format!("{}/l2o", env.namespace);
    // It completes its first task: there is a worker again.
    let version = Some((deployment.as_str(), build_id.as_str()));
    env.temporal
        .start_waiting_as(&env.apps, QUEUE, "late-0", false, version)
        .await?;
    ensure!(
        replicas(env, &build_id).await? == Some(1),
        "its pods are back"
    );
    tells(env, "DrainResumed").await?;
    let output = env.temporal.finish_waiting(&env.apps, "late-0").await?;
    ensure!(output.completed_on == build_id, "{output:?}");
    without_pods(env, &build_id).await?;
    // Told while it is kept, it does not wait for the ten minutes.
    set_drain(env, &json!({ "deleteDelaySeconds": 0 })).await?;
    retired(env).await?;
    let info = env
        .temporal
        .worker_deployment(&env.apps, &deployment)
        .await?;
    let versions = info.map(|info| info.version_summaries).unwrap_or_default();
    ensure!(versions.len() == 1, "the record of v1 is gone");
    scene.leave().await
}

/// The server goes on calling the version drained.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_pods_gets_them_back_for_a_workflow_that_is_reset() -> Result<()> {
    let scene = Scene::new("reset").await?;
    let env = &scene.env;
    let build_id = held_by_one(env).await?;
    // A second task: what is reset to the first one has not run on any version.
    env.temporal
        .signal(&env.apps, "old-0", "poke", Vec::new())
        .await?;
    let done = async || {
        let history = env.temporal.history(&env.apps, "old-0").await?;
        let done = history
            .iter()
            .filter(|event| event.event_type() == EventType::WorkflowTaskCompleted);
        anyhow::Ok(done.count())
    };
    until("the second task is done", SOON, async || {
        ensure!(done().await? == 2, "not yet");
        Ok(())
    })
    .await?;
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    without_pods(env, &build_id).await?;
    env.temporal.reset(&env.apps, "old-0", 2).await?;
    resumed(env, &build_id).await?;
    until("it goes on", SOON, async || {
        ensure!(done().await? == 2, "not yet");
        Ok(())
    })
    .await?;
    let output = env.temporal.finish_waiting(&env.apps, "old-0").await?;
    ensure!(
        output.started_on == build_id && output.completed_on == build_id,
        "{output:?}"
    );
    without_pods(env, &build_id).await?;
    scene.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_pods_gets_them_back_for_a_workflow_that_is_moved_to_it() -> Result<()> {
    let scene = Scene::new("moved").await?;
    let env = &scene.env;
    let build_id = kept(env).await?;
    open(env, "new", 2, false).await?;
    let deployment = format!("{}/l2o", env.namespace);
    let version = (deployment.as_str(), build_id.as_str());
    env.temporal.move_to(&env.apps, "new-0", version).await?;
    resumed(env, &build_id).await?;
    let output = env.temporal.finish_waiting(&env.apps, "new-0").await?;
    ensure!(
        output.started_on.starts_with("v2-") && output.completed_on == build_id,
        "{output:?}"
    );
    without_pods(env, &build_id).await?;
    let output = env.temporal.finish_waiting(&env.apps, "new-1").await?;
    ensure!(output.completed_on.starts_with("v2-"), "{output:?}");
    scene.leave().await
}

/// When the drain was told that nothing holds the version, by the server's clock.
async fn let_go(env: &Env, process: &Process) -> Result<Timestamp> {
    let drain = drain_id(env, process).await?;
    let history = env.temporal.history(&env.control, &drain).await?;
    // The wait is the first activity that a worker is given; counts are done within workflow tasks.
    let waited = history
        .iter()
        .filter(|event| event.event_type() == EventType::ActivityTaskCompleted);
    let times: Vec<Timestamp> = waited.filter_map(written_at).collect();
    // The first one after the last workflow of the version had closed.
    let closed = env.temporal.list(&env.apps, "WorkflowId = 'old-0'").await?;
    let closed = closed.first().and_then(|info| info.close_time);
    let closed = closed.context("it has ended")?;
    let closed = Timestamp::new(closed.seconds, closed.nanos)?;
    let after = times.into_iter().find(|at| *at > closed);
    after.context("the wait did not end")
}

/// Activities that still run can end.
#[tokio::test(flavor = "multi_thread")]
async fn pods_stay_for_a_while_after_the_last_workflow() -> Result<()> {
    let scene = Scene::new("linger").await?;
    let env = &scene.env;
    on_v1(env, &json!({ "scaleDownDelaySeconds": 5 }), &[]).await?;
    open(env, "old", 1, false).await?;
    let stops = Stops::watch(env);
    let (process, version) = to_v2(env, 1).await?;
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    retired(env).await?;
    let stopped = stops.of(&version.build_id)?;
    let stayed = stopped.duration_since(let_go(env, &process).await?);
    println!("its pods stayed for {stayed:#}");
    ensure!(
        (5.0..15.0).contains(&stayed.as_secs_f64()),
        "its pods stayed for {stayed:#}"
    );
    scene.leave().await
}
