//! A Process is deleted at those moments of a rollout that are over at once otherwise: while a change of
//! routing is on its way to Temporal, or has been made and nobody knows it yet.

use std::time::Duration;

use anyhow::{Context as _, Result};
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, RpcMatch, RuleHandle};
use process_operator_harness::{manifest, version};
use serde_json::{Value, json};

use crate::drains::open_more;
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Longer than a deletion takes.
const HELD: Duration = Duration::from_secs(600);
const RAMP: &str = "SetWorkerDeploymentRampingVersion";
const CURRENT: &str = "SetWorkerDeploymentCurrentVersion";

/// When the change of routing is held.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// It does not reach the server.
    Before,
    /// It has reached the server, and the answer does not come.
    After,
}

impl Held {
    fn next(self, world: &World, method: &str) -> RuleHandle {
        let action = match self {
            Self::Before => Action::Delay(HELD),
            Self::After => Action::DelayAnswer(HELD),
        };
        world
            .temporal
            .rule(RpcMatch::method(method).first(1), action)
    }
}

/// v1 serves and runs a workflow.
async fn serving(name: &str) -> Result<World> {
    let world = World::new(name).await?;
    let env = &world.env;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    env.guard_versions(NAME);
    open_more(env, "old", 1).await?;
    Ok(world)
}

/// Changes to v2 by this `spec.rollout`.
async fn change(world: &World, rollout: &Value) -> Result<()> {
    let mut change = version("v2", &[]);
    change["spec"]["rollout"] = rollout.clone();
    world.env.patch(NAME, &change).await?;
    Ok(())
}

/// Deletes it when the change of routing is held: it goes, and nothing of it is left.
async fn goes(world: World, held: RuleHandle) -> Result<()> {
    held.wait_hits(1, SOON).await?;
    world.env.leave(NAME).await?;
    held.remove();
    world.finish().await
}

/// Each stage, with the change held before and after it is made.
async fn both(stage: impl AsyncFn(Held) -> Result<()>) -> Result<()> {
    let run = async |held| stage(held).await.with_context(|| format!("held {held:?}"));
    tokio::try_join!(run(Held::Before), run(Held::After))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_while_a_weight_is_set() -> Result<()> {
    both(async |held| {
        let world = serving("mid-weight").await?;
        let rule = held.next(&world, RAMP);
        let steps = json!([{ "weight": 20, "pause": {} }]);
        change(&world, &json!({ "strategy": "Canary", "steps": steps })).await?;
        goes(world, rule).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_while_a_version_is_promoted() -> Result<()> {
    both(async |held| {
        let world = serving("mid-promote").await?;
        let rule = held.next(&world, CURRENT);
        change(&world, &json!({ "strategy": "RollingUpdate" })).await?;
        goes(world, rule).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn deleted_while_a_weight_is_taken_back() -> Result<()> {
    both(async |held| {
        let world = serving("mid-unwind").await?;
        let steps = json!([{ "weight": 20, "pause": {} }]);
        change(&world, &json!({ "strategy": "Canary", "steps": steps })).await?;
        let at = |process: &Process| {
            let rollout = process.status.as_ref()?.rollout.as_ref()?;
            Some((rollout.weight, rollout.stage.clone()))
        };
        world
            .env
            .wait_process(NAME, "20 %", SOON, |process| {
                at(process).is_some_and(|at| at == (20, "Pausing".to_owned()))
            })
            .await?;
        let rule = held.next(&world, RAMP);
        // Somebody wants the old version back.
        world.env.set_tag(NAME, "v1").await?;
        goes(world, rule).await
    })
    .await
}
