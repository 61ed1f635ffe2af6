//! Drains whose histories are kept: all later code must replay them.

use anyhow::{Result, ensure};
use process_operator_harness::{Env, Scene, until};
use serde_json::json;
use temporalio_common::protos::coresdk::common::decode_change_marker_details;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::support::{
    SOON, count, counted, drain_id, on_v1, open, retired, set_drain, tells, to_v2,
};

/// Whether it is the marker of this change of workflow code.
fn is_marked(event: &HistoryEvent, id: &str) -> bool {
    let Some(Attributes::MarkerRecordedEventAttributes(marker)) = &event.attributes else {
        return false;
    };
    decode_change_marker_details(&marker.details).is_some_and(|(found, _)| found == id)
}

/// Waits until a drain has taken in that a Cancel under way has another time than it began with.
async fn knows_of_other_grace(env: &Env, drain: &str) -> Result<()> {
    until("the drain has taken the other grace in", SOON, async || {
        let history = env.temporal.history(&env.control, drain).await?;
        let marked = history.iter().any(|event| is_marked(event, "other-grace"));
        ensure!(marked, "{} events, and no marker", history.len());
        Ok(())
    })
    .await
}

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

/// One whose grace is changed twice while what it has asked to end goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_whose_grace_is_changed_while_it_cancels() -> Result<()> {
    let scene = Scene::new("recgrace").await?;
    let env = &scene.env;
    let policy = json!({ "onTimeout": "Cancel", "timeoutSeconds": 1, "cancelGraceSeconds": 3600 });
    on_v1(env, &policy, &[]).await?;
    open(env, "old", 1, false).await?;
    open(env, "deaf", 1, true).await?;
    let process = env.set_tag("l2o", "v2").await?;
    counted(env, "old", "Canceled", 1).await?;
    set_drain(env, &json!({ "cancelGraceSeconds": 1800 })).await?;
    knows_of_other_grace(env, &drain_id(env, &process).await?).await?;
    ensure!(
        count(env, "deaf", "Running").await? == 1,
        "it has half an hour"
    );
    set_drain(env, &json!({ "cancelGraceSeconds": 3 })).await?;
    counted(env, "deaf", "Terminated", 1).await?;
    let (reason, _) = tells(env, "DrainEscalated").await?;
    ensure!(reason.starts_with("Terminate: 1 running"), "{reason}");
    retired(env).await?;
    env.temporal
        .record_histories(&env.control, "other-grace")
        .await?;
    scene.leave().await
}
