//! F23: Temporal cannot be reached. Workers go on, the Process says so, nothing is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_harness::{complete, condition};

use crate::scenario::{at_rest, gone};
use crate::world::{NAME, SOON, World};

fn unreachable(process: &Process) -> bool {
    let (status, reason, _) = condition(process, "TemporalReachable");
    status == "False" && reason == "TemporalUnavailable"
}

/// Until the watcher itself says that Temporal is away: no workflow can.
async fn shown(world: &World) -> Result<Process> {
    let what = "TemporalReachable=False";
    world.env.wait_process(NAME, what, SOON, unreachable).await
}

/// Until a minute has passed, where all is tried: as long as it takes to be told is enough otherwise.
async fn for_a_while(since: Instant) {
    if complete() {
        // The length of the outage is what is tested.
        tokio::time::sleep(Duration::from_secs(60).saturating_sub(since.elapsed())).await;
    }
}

async fn pods(world: &World) -> Result<BTreeSet<(String, Option<i32>)>> {
    let pods = world.env.pods(NAME).await?;
    Ok(pods
        .iter()
        .map(|pod| {
            let containers = pod
                .status
                .iter()
                .flat_map(|status| status.container_statuses.iter().flatten());
            (
                pod.uid().unwrap_or_default(),
                containers.map(|container| container.restart_count).max(),
            )
        })
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn away_when_the_operator_starts() -> Result<()> {
    let world = World::empty("f23start").await?;
    world.temporal.down().await;
    let since = Instant::now();
    world.start(false).await?;
    let process = world.create().await?;
    shown(&world).await?;
    for_a_while(since).await;
    ensure!(
        world.env.deployments(NAME).await?.is_empty(),
        "nothing is deployed without a lifecycle"
    );
    world.temporal.up().await?;
    at_rest(&world, "v1").await?;
    world.hold().await?;
    let api = world.env.api::<Process>();
    api.delete(NAME, &DeleteParams::default()).await?;
    gone(&world, &process).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn away_in_the_middle_of_a_roll() -> Result<()> {
    let world = World::new("f23roll").await?;
    world.create().await?;
    at_rest(&world, "v1").await?;
    let before = pods(&world).await?;

    world.temporal.down().await;
    let since = Instant::now();
    world.env.set_tag(NAME, "v2").await?;
    shown(&world).await?;
    for_a_while(since).await;
    let process = world.env.api::<Process>().get(NAME).await?;
    let (degraded, reason, _) = condition(&process, "Degraded");
    ensure!(
        degraded == "True" && reason == "TemporalUnavailable",
        "{degraded} {reason}"
    );
    ensure!(
        condition(&process, "Ready").0 == "True",
        "the workers still serve"
    );
    ensure!(pods(&world).await? == before, "pods were touched");
    let answer = world
        .env
        .temporal
        .quick(&world.env.apps, &format!("{NAME}-tq"), "meanwhile")
        .await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");

    world.temporal.up().await?;
    at_rest(&world, "v2").await?;
    ensure!(
        world
            .env
            .temporal
            .quick(&world.env.apps, &format!("{NAME}-tq"), "after")
            .await?
            .build_id
            .starts_with("v2-")
    );
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn away_for_a_moment_in_the_middle_of_a_roll() -> Result<()> {
    let world = World::new("f23brief").await?;
    world.create().await?;
    at_rest(&world, "v1").await?;
    // As soon as the new version is on its way, and back before that is an outage.
    world.env.set_tag(NAME, "v2").await?;
    let created =
        |record: &process_operator_faultproxy::Record<process_operator_faultproxy::KubeRequest>| {
            let request = &record.request;
            request.is_write() && request.is_about("controllerrevisions")
        };
    let mark = world.kube.mark();
    world.kube.wait_for_since(mark, created, SOON).await?;
    world.temporal.down().await;
    // The length of the outage is what is tested.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.temporal.up().await?;
    at_rest(&world, "v2").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn away_during_a_deletion() -> Result<()> {
    let world = World::new("f23delete").await?;
    let process = world.create().await?;
    at_rest(&world, "v1").await?;
    let before = pods(&world).await?;

    world.temporal.down().await;
    let since = Instant::now();
    let api = world.env.api::<Process>();
    api.delete(NAME, &DeleteParams::default()).await?;
    shown(&world).await?;
    for_a_while(since).await;
    let held = api.get(NAME).await?;
    ensure!(
        held.metadata.deletion_timestamp.is_some() && !held.finalizers().is_empty(),
        "the deletion waits"
    );
    ensure!(pods(&world).await? == before, "pods were touched");

    world.temporal.up().await?;
    gone(&world, &process).await?;
    world.finish().await
}
