//! F26: a person cancels a rollout, or a drain, in the Temporal UI while no operator runs, and its timer goes off
//! meanwhile: both come in one workflow task.

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Env, lifecycle_id, until, version};
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;

use crate::drains::{counted, drain_id, held, on_v1};
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Number of the first event of a type; `None` when there is none.
fn first(history: &[HistoryEvent], kind: EventType) -> Option<i64> {
    let mut events = history.iter();
    let event = events.find(|event| event.event_type() == kind)?;
    Some(event.event_id)
}

/// Waits until so many have been started; the one that was last.
async fn latest(env: &Env, prefix: &str, count: usize) -> Result<String> {
    until(&format!("{count} of {prefix}"), SOON, async || {
        let mut ids = env.workflows(prefix).await?;
        ensure!(ids.len() == count, "{ids:?}");
        ids.sort();
        ids.pop().context("none")
    })
    .await
}

/// Waits until a timer of it runs, cancels it when its operator is gone, and starts another operator when
/// the timer has gone off.
async fn cancelled_as_its_timer_goes_off(world: &World, id: &str) -> Result<()> {
    let env = &world.env;
    until("a timer runs", SOON, async || {
        let history = env.temporal.history(&env.control, id).await?;
        let started = first(&history, EventType::TimerStarted);
        started.context("no timer")
    })
    .await?;
    world.crew.kill();
    env.temporal.cancel(&env.control, id).await?;
    until("its timer goes off", SOON, async || {
        let history = env.temporal.history(&env.control, id).await?;
        let fired = first(&history, EventType::TimerFired).context("not yet")?;
        let asked = first(&history, EventType::WorkflowExecutionCancelRequested);
        ensure!(
            asked.is_some_and(|asked| asked < fired),
            "{asked:?} {fired}"
        );
        let taken = history.iter().any(|event| {
            event.event_type() == EventType::WorkflowTaskCompleted && Some(event.event_id) > asked
        });
        ensure!(!taken, "somebody has worked on it in between");
        Ok(())
    })
    .await?;
    world.start(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_cancelled_as_its_pause_ends_gives_the_weight_back_and_is_started_again()
-> Result<()> {
    let world = World::new("f26pause").await?;
    let env = &world.env;
    let process = world.create().await?;
    at_rest(&world, "v1").await?;
    let mut change = version("v2", &[]);
    change["spec"]["rollout"] = json!({
        "strategy": "Canary",
        "steps": [{ "weight": 20, "pause": { "durationSeconds": 15 } }],
    });
    env.patch(NAME, &change).await?;
    let rollouts = lifecycle_id(&process).replacen("process/", "rollout/", 1) + "/v2-";
    let id = latest(env, &rollouts, 1).await?;
    cancelled_as_its_timer_goes_off(&world, &id).await?;
    env.temporal.wait_closed(&env.control, &id, SOON).await?;
    latest(env, &rollouts, 2).await?;
    at_rest(&world, "v2").await?;
    env.temporal
        .record_histories(&env.control, "cancelled-pause")
        .await?;
    world.finish().await
}

/// Its deadline has passed by then: what is started again acts by the policy at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_cancelled_at_its_deadline_is_started_again() -> Result<()> {
    let world = World::new("f26alarm").await?;
    let env = &world.env;
    let policy = json!({ "timeoutSeconds": 30, "onTimeout": "Terminate" });
    let process = on_v1(&world, &policy, 2).await?;
    env.set_tag(NAME, "v2").await?;
    held(env, 2).await?;
    let id = drain_id(env, &process).await?;
    cancelled_as_its_timer_goes_off(&world, &id).await?;
    env.temporal.wait_closed(&env.control, &id, SOON).await?;
    let drains = lifecycle_id(&process).replacen("process/", "drain/", 1) + "/v1-";
    latest(env, &drains, 2).await?;
    counted(env, "old", "Terminated", 2).await?;
    at_rest(&world, "v2").await?;
    env.temporal
        .record_histories(&env.control, "cancelled-drain")
        .await?;
    world.finish().await
}
