//! Drains whose histories are kept: all later code must replay them.

use anyhow::Result;
use process_operator_harness::Scene;
use serde_json::json;

use crate::support::{counted, on_v1, open, retired, set_drain, tells, to_v2};

/// One with a deadline that escalates, with a changed policy.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_with_a_deadline() -> Result<()> {
    let scene = Scene::new("recdue").await?;
    let env = &scene.env;
    on_v1(
        env,
        &json!({ "timeoutSeconds": 600, "onTimeout": "Cancel" }),
        &[],
    )
    .await?;
    open(env, "old", 2, false).await?;
    open(env, "deaf", 1, true).await?;
    to_v2(env, 3).await?;
    set_drain(
        env,
        &json!({ "timeoutSeconds": 2, "cancelGraceSeconds": 15 }),
    )
    .await?;
    counted(env, "old", "Canceled", 2).await?;
    counted(env, "deaf", "Terminated", 1).await?;
    retired(env).await?;
    env.temporal
        .record_histories(&env.control, "deadline")
        .await?;
    scene.leave().await
}

/// One that is forced twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_forced() -> Result<()> {
    let scene = Scene::new("recforce").await?;
    let env = &scene.env;
    on_v1(env, &json!({}), &[]).await?;
    open(env, "old", 1, false).await?;
    open(env, "deaf", 1, true).await?;
    let (process, _) = to_v2(env, 2).await?;
    env.grant(&process, "forceCancelDrain").await?;
    counted(env, "old", "Canceled", 1).await?;
    env.grant_with(
        &process,
        "forceCancelDrain",
        &json!({ "action": "Terminate" }),
    )
    .await?;
    counted(env, "deaf", "Terminated", 1).await?;
    tells(env, "WorkflowsEnded").await?;
    retired(env).await?;
    env.temporal
        .record_histories(&env.control, "forced")
        .await?;
    scene.leave().await
}
