//! Schedules that would start workflows on the queue of a Process that goes.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::support::{PROMPT, QUEUE, SOON, says, settled};

#[tokio::test(flavor = "multi_thread")]
async fn schedules_on_the_queue_are_paused_with_a_note_and_no_others() -> Result<()> {
    let (scene, process) = settled("pauses", &json!({})).await?;
    let env = &scene.env;
    for (id, queue) in [
        ("nightly", QUEUE),
        ("hourly", QUEUE),
        ("paused", QUEUE),
        ("elsewhere", "other-tq"),
    ] {
        env.temporal.schedule(&env.apps, id, queue).await?;
    }
    env.temporal
        .pause_schedule(&env.apps, "paused", "by hand")
        .await?;
    // The index by which they are listed is behind.
    process_operator_harness::until("all are listed", SOON, async || {
        let listed = env.temporal.schedules(&env.apps).await?;
        ensure!(
            listed.len() == 4 && listed.get("paused") == Some(&true),
            "{listed:?}"
        );
        Ok(())
    })
    .await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow").await?;
    for id in ["nightly", "hourly"] {
        let (paused, note) = env.temporal.schedule_state(&env.apps, id).await?;
        let named = note.contains(&format!("Process {}/l2o", env.namespace));
        ensure!(paused && named, "{id}: {paused} {note:?}");
    }
    let (_, note) = env.temporal.schedule_state(&env.apps, "paused").await?;
    ensure!(note == "by hand", "{note:?}");
    let (paused, _) = env.temporal.schedule_state(&env.apps, "elsewhere").await?;
    ensure!(!paused, "another queue's");
    let events = env.events(&process).await?;
    let told = events
        .iter()
        .find(|(reason, _)| reason == "SchedulesPaused");
    ensure!(
        told.is_some_and(|(_, note)| note.contains("hourly, nightly")),
        "{events:?}"
    );
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_left_alone_when_told_so() -> Result<()> {
    let (scene, process) = settled("leaves", &json!({ "pauseSchedules": false })).await?;
    let env = &scene.env;
    env.temporal.schedule(&env.apps, "nightly", QUEUE).await?;
    env.delete("l2o").await?;
    env.gone_within("l2o", PROMPT).await?;
    let (paused, _) = env.temporal.schedule_state(&env.apps, "nightly").await?;
    ensure!(!paused, "left alone");
    env.nothing_is_left(&process).await?;
    scene.finish().await
}
