//! Deletions whose histories are kept: all later code must replay them.

use anyhow::Result;
use serde_json::json;

use crate::support::{QUEUE, SOON, says, settled};

/// Schedules paused, a wait, a late start, a change of the policy, cancelling, then terminating.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_through_everything_it_can_meet() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 3600, "onTimeout": "Cancel", "cancelGraceSeconds": 3 });
    let (scene, process) = settled("leaving", &policy).await?;
    let env = &scene.env;
    env.temporal.schedule(&env.apps, "nightly", QUEUE).await?;
    env.temporal
        .start_open(&env.apps, QUEUE, "deaf", true)
        .await?;
    env.temporal.wait_taken(&env.apps, "deaf").await?;
    env.temporal
        .start_waiting(&env.apps, QUEUE, "listens")
        .await?;
    env.delete("l2o").await?;
    says(env, "waiting for 2 running workflows").await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "late").await?;
    says(env, "waiting for 3 running workflows").await?;
    env.patch(
        "l2o",
        &json!({ "spec": { "deletion": { "timeoutSeconds": 1 } } }),
    )
    .await?;
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(&process).await?;
    env.temporal
        .record_histories(&env.control, "leaving")
        .await?;
    scene.finish().await
}
