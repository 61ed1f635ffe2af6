//! The operator sees less than there is, or the past.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{
    EventMatch, EventType, RequestMatch, Snapshot, Verb, WatchAction, WatchEnd,
};
use process_operator_harness::{lifecycle_id, manifest, until};

use crate::scenario::{at_rest, gone};
use crate::world::{NAME, SOON, World};

const WATCHED: [&str; 2] = ["processes", "deployments"];

/// Ends all watches, as the server does after some minutes: what was lost before is lost until then.
fn expire(world: &World) {
    for resource in WATCHED {
        let watches = RequestMatch::watches().resource(resource);
        world.kube.end_watches(&watches, WatchEnd::Gone);
    }
}

async fn settled(name: &str) -> Result<World> {
    let world = World::new(name).await?;
    world.create().await?;
    at_rest(&world, "v1").await?;
    Ok(world)
}

/// F08: each stream loses every second event.
#[tokio::test(flavor = "multi_thread")]
async fn every_second_watch_event_is_lost_and_the_process_still_rolls() -> Result<()> {
    let world = World::new("f08").await?;
    let rules = WATCHED.map(|resource| {
        let events = EventMatch::events().resource(resource).every(2);
        world.kube.watch_rule(events, WatchAction::Drop)
    });
    let process = world.create().await?;
    at_rest(&world, "v1").await?;
    world.env.set_tag(NAME, "v2").await?;
    until("both kinds have lost events", SOON, async || {
        let lost = rules
            .each_ref()
            .map(process_operator_faultproxy::RuleHandle::hits);
        ensure!(lost.iter().all(|lost| *lost > 0), "lost so far: {lost:?}");
        Ok(())
    })
    .await?;
    expire(&world);
    at_rest(&world, "v2").await?;
    // Of an outdated view the sweep complains for as long as it lasts.
    rules
        .iter()
        .for_each(process_operator_faultproxy::RuleHandle::remove);
    expire(&world);
    world.hold().await?;
    let rules = WATCHED.map(|resource| {
        let events = EventMatch::events().resource(resource).every(2);
        world.kube.watch_rule(events, WatchAction::Drop)
    });
    let api = world.env.api::<Process>();
    api.delete(NAME, &DeleteParams::default()).await?;
    // The deletion may be what is lost.
    expire(&world);
    gone(&world, &process).await?;
    rules
        .iter()
        .for_each(process_operator_faultproxy::RuleHandle::remove);
    expire(&world);
    world.finish().await
}

/// F08: what happened between two generations was never seen; the latest spec wins.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_nobody_saw_leaves_no_trace() -> Result<()> {
    let world = settled("f08gap").await?;
    let unseen = EventMatch::events()
        .resource("processes")
        .name(NAME)
        .generations(2..=2);
    let unseen = world.kube.watch_rule(unseen, WatchAction::ToBookmark);
    world.env.set_tag(NAME, "v2").await?;
    unseen.wait_hits(1, SOON).await?;
    world.env.set_tag(NAME, "v3").await?;
    at_rest(&world, "v3").await?;
    let uid = lifecycle_id(&world.env.api::<Process>().get(NAME).await?);
    let rollouts = uid.replacen("process/", "rollout/", 1);
    let tried = world.env.workflows(&format!("{rollouts}/")).await?;
    ensure!(
        tried.len() == 2 && !tried.iter().any(|id| id.contains("/v2-")),
        "no rollout of v2: {tried:?}"
    );
    world.finish().await
}

/// F08: the watch is too old in the middle of a roll, and the list that follows says it all.
#[tokio::test(flavor = "multi_thread")]
async fn watches_that_are_gone_during_a_roll_are_opened_anew_and_nothing_is_missed() -> Result<()> {
    let world = settled("f08gone").await?;
    // Nothing gets through until the watches are opened again.
    let mute = world
        .kube
        .watch_rule(EventMatch::events(), WatchAction::Drop);
    world.env.set_tag(NAME, "v2").await?;
    mute.wait_hits(1, SOON).await?;
    let mark = world.kube.mark();
    mute.remove();
    expire(&world);
    for resource in WATCHED {
        let listed = |record: &process_operator_faultproxy::Record<_>| {
            let request: &process_operator_faultproxy::KubeRequest = &record.request;
            request.verb == Verb::List && request.is_about(resource)
        };
        world.kube.wait_for_since(mark, listed, SOON).await?;
    }
    // Once more, now by an event, as soon as the new Deployment is seen.
    let first = EventMatch::events()
        .resource("deployments")
        .event_type(EventType::Modified)
        .first(1);
    world.kube.watch_rule(first, WatchAction::Gone);
    at_rest(&world, "v2").await?;
    world.finish().await
}

/// F09: after delete and create under the same name the operator is shown the old object, which is
/// being deleted. What belongs to the new one survives.
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_is_safe_from_the_frozen_view_of_its_predecessor() -> Result<()> {
    let world = settled("f09").await?;
    let env = &world.env;
    let api = env.api::<Process>();
    // The old one as it is while it waits for an operator that is down.
    world.crew.kill();
    let old = api
        .delete(NAME, &DeleteParams::default())
        .await?
        .left()
        .context("a finalizer holds it")?;
    let all = world.kube.snapshot("processes").await?;
    // Other tests have Processes too.
    let here = all
        .objects()
        .iter()
        .filter(|object| object["metadata"]["namespace"] == *env.namespace);
    let past = here.fold(
        Snapshot::new("ameide.io/v1", "Process", "processes"),
        |view, object| view.object(object.clone()),
    );
    ensure!(past.objects().len() == 1, "{past:?}");
    ensure!(past.objects()[0]["metadata"]["deletionTimestamp"].is_string());
    world.start(true).await?;
    gone(&world, &old).await?;
    let new = env.apply(&manifest(env, NAME, "v1")).await?;
    ensure!(new.uid() != old.uid(), "another one");
    at_rest(&world, "v1").await?;
    let children = || async {
        let mut all: Vec<_> = env
            .api::<Deployment>()
            .list(&kube::api::ListParams::default())
            .await?
            .iter()
            .map(|deployment| {
                (
                    deployment.name_any(),
                    deployment.uid(),
                    deployment.metadata.generation,
                )
            })
            .collect();
        all.extend(
            env.pods(NAME)
                .await?
                .iter()
                .map(|pod| (pod.name_any(), pod.uid(), None)),
        );
        anyhow::Ok(all)
    };
    let before = children().await?;

    world.crew.kill();
    world.kube.freeze_at(past);
    let mark = world.kube.mark();
    world.start(true).await?;
    // It acts on what it sees: it takes its finalizer off the object it believes to be there.
    let acted =
        |record: &process_operator_faultproxy::Record<process_operator_faultproxy::KubeRequest>| {
            let request = &record.request;
            request.is_write() && request.is_about("processes") && record.outcome.code().is_some()
        };
    let write = world.kube.wait_for_since(mark, acted, SOON).await?;
    ensure!(
        write.outcome.code().is_some_and(|code| code >= 400),
        "the write was fenced: {write:?}"
    );
    // A window in which nothing may happen: more than a sweep and the first back-offs.
    tokio::time::sleep(Duration::from_secs(8)).await;
    ensure!(
        children().await? == before,
        "I2: {before:?} -> {:?}",
        children().await?
    );
    let writes = world.kube.writes(mark..);
    let harm: Vec<_> = writes
        .writes
        .iter()
        .filter(|write| {
            write.namespace == env.namespace && write.code.is_some_and(|code| code < 400)
        })
        .filter(|write| !write.kind.resource.starts_with("events"))
        .collect();
    ensure!(harm.is_empty(), "I2: written meanwhile: {harm:?}");

    world.kube.thaw("processes");
    at_rest(&world, "v1").await?;
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(&old), SOON)
        .await?;
    ensure!(
        children().await? == before,
        "I2: {before:?} -> {:?}",
        children().await?
    );
    env.temporal
        .quick(&env.apps, &format!("{NAME}-tq"), "after")
        .await?;
    world.finish().await
}
