//! A registry whose answers do not end, and one that says odd versions.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_harness::condition;

use super::World;
use super::server::Mood;
use crate::definition::{current, read, version};

/// Of a request, until the last byte of its answer.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_end_is_given_up_and_disturbs_nothing_that_runs() -> Result<()> {
    let world = World::new("hangs").await?;
    let (env, registry) = (&world.env, &world.registry);
    registry.is(Mood::Hangs);
    let began = Instant::now();
    env.apply(&world.process(&registry.url("l2o"))).await?;
    let waits = world.told("no complete answer in 10 s").await?;
    ensure!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
    let (_, reason, message) = condition(&waits, "DefinitionResolved");
    ensure!(reason == "RegistryUnavailable", "{reason} {message}");
    ensure!(
        condition(&waits, "Stalled").0 == "False",
        "it is tried again"
    );
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    registry.is(Mood::Serves);
    let settled = env.wait_settled("l2o", "v1").await?;
    let pods = pods(&world).await?;
    registry.is(Mood::Hangs);
    let told = world.told("no complete answer in 10 s").await?;
    ensure!(condition(&told, "Ready").0 == "True", "it serves");
    ensure!(
        condition(&told, "Degraded").1 == "RegistryUnavailable",
        "it is told"
    );
    ensure!(current(&told) == current(&settled), "the same version");
    ensure!(
        read(env, "meanwhile").await? == "<first/>",
        "with its own copy"
    );
    ensure!(self::pods(&world).await? == pods, "the same pods");
    registry.is(Mood::Serves);
    let back = env.wait_settled("l2o", "v1").await?;
    ensure!(
        current(&back) == current(&settled),
        "nothing was rolled out"
    );
    ensure!(self::pods(&world).await? == pods, "the same pods");
    world.finish().await
}

/// uids and restarts of the workers.
async fn pods(world: &World) -> Result<Vec<(String, i32)>> {
    let pods = world.env.pods("l2o").await?;
    let restarts = |pod: &k8s_openapi::api::core::v1::Pod| {
        let status = pod.status.iter();
        let containers = status.flat_map(|status| status.container_statuses.iter().flatten());
        containers.map(|container| container.restart_count).sum()
    };
    Ok(pods
        .iter()
        .map(|pod| (pod.uid().unwrap_or_default(), restarts(pod)))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_the_same_content_shows_and_one_beyond_all_numbers_is_said() -> Result<()>
{
    let world = World::new("renumbered").await?;
    let (env, registry) = (&world.env, &world.registry);
    registry.is(Mood::Serves);
    env.apply(&world.process(&registry.url("l2o"))).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    ensure!(version(&settled) == Some(3), "{:?}", version(&settled));
    let first = current(&settled).context("a version")?;

    registry.publish(4, "<first/>");
    let renumbered = env
        .wait_process("l2o", "version 4", super::SOON, |process| {
            version(process) == Some(4)
        })
        .await?;
    ensure!(current(&renumbered).as_ref() == Some(&first), "no rollout");

    registry.publish(i64::MAX, "<first/>");
    let odd = world
        .told("the registry says version \"9223372036854775807\"")
        .await?;
    let (resolved, _, message) = condition(&odd, "DefinitionResolved");
    ensure!(resolved == "True", "it is used: {message}");
    ensure!(message.contains("9007199254740991"), "{message}");
    ensure!(version(&odd).is_none(), "{:?}", version(&odd));
    ensure!(current(&odd).as_ref() == Some(&first), "no rollout");
    registry.publish(5, "<first/>");
    let back = env
        .wait_process("l2o", "version 5", super::SOON, |process| {
            version(process) == Some(5)
        })
        .await?;
    let message = condition(&back, "DefinitionResolved").2;
    ensure!(!message.contains("9223372036854775807"), "{message}");
    env.wait_settled("l2o", "v1").await?;
    world.finish().await
}
