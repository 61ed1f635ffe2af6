//! How the server's records of versions and Processes go: without haste where it refuses, and with what was
//! started in the last moment.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, GrpcCode, GrpcError, Mark, RpcMatch, RuleHandle};
use serde_json::json;

use crate::drains::{on_v1, tells};
use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

const DELETES: &str = "DeleteWorkerDeploymentVersion";

/// Calls that ask for the removal of a version's record.
fn asked(world: &World, since: Mark) -> usize {
    world
        .temporal
        .count(since.., |record| record.request.method == DELETES)
}

/// So many calls a growing interval from one second allows, with one more for an interval that has begun.
fn allowed(time: Duration) -> usize {
    let (mut calls, mut at, mut pause) = (1, 0.0, 1.0_f64);
    while at < time.as_secs_f64() {
        calls += 1;
        at += pause;
        pause = (pause * 1.5).min(30.0);
    }
    calls
}

/// A server that says for 20 s that somebody still polls for the version.
fn refuse(world: &World) -> RuleHandle {
    let refusal = GrpcError::new(
        GrpcCode::FailedPrecondition,
        "the version has active pollers",
    );
    let asks = RpcMatch::method(DELETES).lasting(Duration::from_secs(20));
    world.temporal.rule(asks, Action::Answer(refusal))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_version_is_not_asked_for_in_haste() -> Result<()> {
    let world = World::new("norush").await?;
    let env = &world.env;
    on_v1(&world, &json!({}), 0).await?;
    // As it is: pollers are remembered for 5 s here.
    let (since, began) = (world.temporal.mark(), Instant::now());
    env.set_tag(NAME, "v2").await?;
    tells(env, "VersionRetired").await?;
    let (calls, took) = (asked(&world, since), began.elapsed());
    println!("{calls} calls in {:.1} s", took.as_secs_f64());
    ensure!(calls > 0 && calls <= allowed(took), "{calls} in {took:?}");
    at_rest(&world, "v2").await?;

    // The version after that, with a server that refuses for longer.
    let (since, refused) = (world.temporal.mark(), refuse(&world));
    env.set_tag(NAME, "v3").await?;
    refused.wait_hits(1, SOON).await?;
    let began = Instant::now();
    at_rest(&world, "v3").await?;
    let (calls, took) = (asked(&world, since), began.elapsed());
    println!("{calls} calls in {:.1} s", took.as_secs_f64());
    ensure!(took > Duration::from_secs(19), "{took:?}");
    ensure!(calls <= allowed(took), "{calls} in {took:?}");

    // And the last one, when its Process is gone.
    let process = env.api::<Process>().get(NAME).await?;
    let (since, refused) = (world.temporal.mark(), refuse(&world));
    env.delete(NAME).await?;
    refused.wait_hits(1, SOON).await?;
    let began = Instant::now();
    env.nothing_is_left(&process).await?;
    let (calls, took) = (asked(&world, since), began.elapsed());
    println!("{calls} calls in {:.1} s", took.as_secs_f64());
    ensure!(calls <= allowed(took), "{calls} in {took:?}");
    world.finish().await
}
