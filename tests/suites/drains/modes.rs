//! Versions that have task queues of their own.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, QUIET, Scene, condition, manifest, until};
use serde_json::{Value, json};

use crate::support::{SOON, counted, draining, held, replicas, retired, set_drain, tells};

/// The queue that starters are told.
fn queue(process: &Process) -> Result<String> {
    let status = process.status.as_ref();
    let queue = status.and_then(|status| status.task_queue.clone());
    queue.context("no queue in status")
}

/// A Process on v1 whose versions have queues of their own, with this `spec.drain`. From now on pods stay as long as
/// something runs on their version.
async fn on_v1(env: &Env, drain: &Value) -> Result<Process> {
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["rollout"] = json!({ "versioning": "TaskQueuePerVersion" });
    wanted["spec"]["drain"] = drain.clone();
    env.apply(&wanted).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    env.guard_versions("l2o");
    Ok(process)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_an_old_queue_gets_its_time_and_what_runs_on_the_new_one_is_left() -> Result<()>
{
    let scene = Scene::new("queue-drain").await?;
    let env = &scene.env;
    let old = queue(&on_v1(env, &json!({})).await?)?;
    for n in 0..5 {
        env.temporal
            .start_waiting(&env.apps, &old, &format!("old-{n}"))
            .await?;
    }
    env.set_tag("l2o", "v2").await?;
    let (process, version) = held(env, 5).await?;
    ensure!(version.deadline.is_none(), "the default is to wait");
    let new = queue(&process)?;
    ensure!(new != old, "{new}");
    for n in 0..3 {
        env.temporal
            .start_waiting(&env.apps, &new, &format!("new-{n}"))
            .await?;
    }
    set_drain(
        env,
        &json!({ "onTimeout": "Cancel", "timeoutSeconds": 1, "scaleDownDelaySeconds": 0, "deleteDelaySeconds": 0 }),
    )
    .await?;
    counted(env, "old", "Canceled", 5).await?;
    tells(env, "WorkflowsEnded").await?;
    retired(env).await?;
    counted(env, "new", "Running", 3).await?;
    scene.leave().await
}

/// Nobody but its drain says that such a version needs no pods: looks at the Process do not start them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_version_is_kept_without_pods_and_gets_them_back_with_its_work() -> Result<()> {
    let scene = Scene::new("queue-kept").await?;
    let env = &scene.env;
    let delays = json!({ "scaleDownDelaySeconds": 0, "deleteDelaySeconds": 600 });
    let process = on_v1(env, &delays).await?;
    let old = queue(&process)?;
    env.temporal.start_waiting(&env.apps, &old, "old-0").await?;
    env.set_tag("l2o", "v2").await?;
    let (process, version) = held(env, 1).await?;
    let build_id = version.build_id.as_str();

    let move_them = json!({ "buildId": build_id, "action": "MoveToCurrent" });
    let answer = env.ask(&process, "forceCancelDrain", &move_them).await?;
    let why = answer.err().context("refused")?;
    ensure!(why.contains("cannot move to the task queue"), "{why}");

    let kept = async || {
        env.wait_process("l2o", "nothing drains", SOON, |process| {
            condition(process, "Draining").0 == "False"
        })
        .await?;
        let left = replicas(env, build_id).await?;
        ensure!(left == Some(0), "{left:?}");
        anyhow::Ok(())
    };
    let output = env.temporal.finish_waiting(&env.apps, "old-0").await?;
    ensure!(output.completed_on == build_id, "{output:?}");
    kept().await?;
    // A look that changes something.
    env.patch("l2o", &json!({ "spec": { "replicas": 2 } }))
        .await?;
    until("the current version has two", SOON, async || {
        let process = env.api::<Process>().get("l2o").await?;
        let status = process.status.context("status")?;
        let current = status.current_version.context("current")?;
        let wanted = replicas(env, &current.build_id).await?;
        ensure!(wanted == Some(2), "{wanted:?}");
        Ok(())
    })
    .await?;
    kept().await?;
    scene
        .invariants
        .hold(env, &[&scene.operator], QUIET)
        .await?;
    kept().await?;

    // It completes its first task: there is a worker again.
    env.temporal
        .start_waiting(&env.apps, &old, "late-0")
        .await?;
    tells(env, "DrainResumed").await?;
    let output = env.temporal.finish_waiting(&env.apps, "late-0").await?;
    ensure!(output.completed_on == build_id, "{output:?}");
    kept().await?;
    set_drain(env, &json!({ "deleteDelaySeconds": 0 })).await?;
    retired(env).await?;
    scene.leave().await
}

/// Who stops acting for a while, and who begins again, counts from when the traffic went.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_counts_from_the_loss_of_traffic_whoever_begins_the_drain() -> Result<()> {
    let scene = Scene::new("queue-since").await?;
    let env = &scene.env;
    let drain = json!({ "timeoutSeconds": 3600, "onTimeout": "Terminate" });
    let old = queue(&on_v1(env, &drain).await?)?;
    env.temporal.start_waiting(&env.apps, &old, "old-0").await?;
    env.set_tag("l2o", "v2").await?;
    let (_, before) = held(env, 1).await?;
    env.patch("l2o", &json!({ "spec": { "suspend": true } }))
        .await?;
    env.wait_process("l2o", "it is suspended", SOON, |process| {
        draining(process).is_none()
    })
    .await?;
    env.patch("l2o", &json!({ "spec": { "suspend": false } }))
        .await?;
    let (_, after) = held(env, 1).await?;
    ensure!(
        before.since == after.since && before.deadline == after.deadline,
        "{before:?} {after:?}"
    );
    env.temporal.finish_waiting(&env.apps, "old-0").await?;
    tells(env, "VersionRetired").await?;
    scene.leave().await
}
