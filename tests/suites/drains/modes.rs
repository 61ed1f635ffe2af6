//! Versions that have task queues of their own.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Scene, manifest};
use serde_json::json;

use crate::support::{counted, held, retired, set_drain, tells};

/// The queue that starters are told.
fn queue(process: &Process) -> Result<String> {
    let status = process.status.as_ref();
    let queue = status.and_then(|status| status.task_queue.clone());
    queue.context("no queue in status")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_an_old_queue_gets_its_time_and_what_runs_on_the_new_one_is_left() -> Result<()>
{
    let scene = Scene::new("queue-drain").await?;
    let env = &scene.env;
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["rollout"] = json!({ "versioning": "TaskQueuePerVersion" });
    env.apply(&wanted).await?;
    let old = queue(&env.wait_settled("l2o", "v1").await?)?;
    env.guard_versions("l2o");
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
