//! F18, F16: what is done for a Process is refused for ever, while the API server is there for everything else.
//! It says why, and for how long nothing can be written that an Event tells.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, Answer, RequestMatch, Verb};
use process_operator_harness::{Env, condition, is_current, manifest, until};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// No other message has it.
const WORDS: &str = "etcdserver: told by a test";

fn internal() -> Action<Answer> {
    Action::Answer(Answer::status(500).reason("InternalError").message(WORDS))
}

/// Errors of a category as counted so far.
async fn errors(world: &World, category: &str) -> Result<f64> {
    let (_, page) = world.operator()?.get("/metrics").await?;
    let name = format!("process_operator_errors_total{{category=\"{category}\"}}");
    let line = page.lines().find(|line| line.starts_with(&name));
    let value = line.and_then(|line| line.rsplit_once(' '));
    Ok(value.context("no such metric")?.1.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_always_fails_is_told_in_the_conditions_while_the_old_version_serves() -> Result<()> {
    let world = World::new("f18w").await?;
    let env = &world.env;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let reads = RequestMatch::any().verb(Verb::List).resource("deployments");
    let reads = reads.when(|request| {
        let labels = request.param("labelSelector");
        labels.is_some_and(|labels| labels.ends_with(NAME))
    });
    for (tag, about, doing) in [
        ("v2", world.writes().resource("deployments"), "applying"),
        ("v3", reads, "looking"),
    ] {
        let rule = world.kube.rule(about, internal());
        env.set_tag(NAME, tag).await?;
        let told = env
            .wait_process(NAME, "it says why it does not go on", SOON, |process| {
                let (degraded, reason, message) = condition(process, "Degraded");
                degraded == "True" && reason == "Unavailable" && message.contains(WORDS)
            })
            .await?;
        let message = condition(&told, "Degraded").2;
        ensure!(message.contains(doing), "{message}");
        for (kind, status) in [
            ("Ready", "True"),
            ("Reconciling", "True"),
            ("Stalled", "False"),
        ] {
            let (found, why, message) = condition(&told, kind);
            ensure!(found == status, "{kind} is {found}, {why} {message}");
        }
        ensure!(env.kstatus(&told)?.0 == "InProgress", "{told:?}");
        ensure!(errors(&world, "unavailable").await? >= 4.0, "it is counted");
        let log = world.operator()?.log_text();
        ensure!(log.contains(WORDS), "it is in the log");
        ensure!(rule.hits() <= 60, "{} tries", rule.hits());
        rule.remove();
        at_rest(&world, tag).await?;
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_look_that_always_fails_is_told_too() -> Result<()> {
    let world = World::new("f18n").await?;
    let env = &world.env;
    let reads = RequestMatch::any()
        .verb(Verb::List)
        .resource("controllerrevisions");
    let rule = world.kube.rule(reads, internal());
    env.apply(&manifest(env, NAME, "v1")).await?;
    let told = env
        .wait_process(NAME, "it says why", SOON, |process| {
            let (degraded, reason, message) = condition(process, "Degraded");
            degraded == "True" && reason == "Unavailable" && message.contains(WORDS)
        })
        .await?;
    ensure!(condition(&told, "Ready").0 == "False", "{told:?}");
    ensure!(env.kstatus(&told)?.0 == "InProgress", "{told:?}");
    rule.remove();
    at_rest(&world, "v1").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_cannot_be_written_is_told_by_an_event_and_all_else_is_done() -> Result<()> {
    let world = World::new("f16s").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let statuses = world.writes().subresource("status");
    let rule = world
        .kube
        .rule(statuses, Action::Answer(Answer::conflict()));
    env.set_tag(NAME, "v2").await?;
    until("an Event tells it", SOON, async || {
        let events = env.events(&process).await?;
        let told = events.iter().filter(|(reason, note)| {
            reason == "Conflict" && note.starts_with("the status is out of date")
        });
        ensure!(told.count() == 1, "{events:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let found = env.api::<Deployment>().list(&ListParams::default()).await?;
    ensure!(found.items.len() == 2, "v2 has its Deployment");
    let old = env.api::<Process>().get(NAME).await?;
    let generation = old.status.and_then(|status| status.observed_generation);
    ensure!(
        generation < old.metadata.generation,
        "it shows that it is old"
    );
    ensure!(errors(&world, "conflict").await? >= 4.0, "it is counted");
    rule.remove();
    at_rest(&world, "v2").await?;
    world.finish().await
}

/// What an Event tells of is in nobody's memory but the lifecycle's once it has happened.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_the_status_is_told_once_after_it() -> Result<()> {
    let world = World::new("f16e").await?;
    let env = &world.env;
    let process = env.apply(&by_hand(env, "v1")).await?;
    at_rest(&world, "v1").await?;
    env.apply(&by_hand(env, "v2")).await?;
    env.wait_process(NAME, "v2 waits", SOON, |process| {
        condition(process, "Progressing").1 == "WaitingForPromotion"
    })
    .await?;
    let statuses = world.writes().subresource("status");
    let rule = world
        .kube
        .rule(statuses, Action::Answer(Answer::conflict()));
    env.grant(&process, "promote").await?;
    let name = format!("{}/{NAME}", env.namespace);
    until("v2 takes new workflows", SOON, async || {
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let routing = info.and_then(|info| info.routing_config);
        let current = routing.and_then(|routing| routing.current_deployment_version);
        ensure!(
            current
                .as_ref()
                .is_some_and(|it| it.build_id.starts_with("v2-")),
            "{current:?}"
        );
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let refused = rule.hits();
    until("a status with that is refused", SOON, async || {
        ensure!(rule.hits() > refused + 20, "{} so far", rule.hits());
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let told = async || {
        let events = env.events(&process).await?;
        let current = events
            .into_iter()
            .filter(|(reason, note)| reason == "VersionCurrent" && note.starts_with("v2-"));
        anyhow::Ok(current.map(|(_, note)| note).collect::<Vec<_>>())
    };
    let before = told().await?;
    ensure!(before.is_empty(), "the status comes first: {before:?}");
    rule.remove();
    at_rest(&world, "v2").await?;
    let after = told().await?;
    ensure!(after.len() == 1, "{after:?}");
    world.finish().await
}

/// Events are for information: while none can be recorded everything else is done, and they are told later.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_cannot_be_recorded_hold_nothing_up_and_are_told_later() -> Result<()> {
    let world = World::new("f16v").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let events = RequestMatch::any().verb(Verb::Create).resource("events");
    let rule = world.kube.rule(events, internal());
    env.set_tag(NAME, "v2").await?;
    let serves = env
        .wait_process(NAME, "v2 serves", SOON, |process| is_current(process, "v2"))
        .await?;
    ensure!(condition(&serves, "Degraded").0 == "False", "{serves:?}");
    rule.wait_hits(5, SOON).await?;
    rule.remove();
    at_rest(&world, "v2").await?;
    until("what has happened is told, once", SOON, async || {
        let events = env.events(&process).await?;
        for what in ["RolloutStarted", "VersionCurrent", "VersionRetired"] {
            let count = |tag: &str| {
                let told = events
                    .iter()
                    .filter(|(reason, note)| reason == what && note.starts_with(tag));
                told.count()
            };
            let tag = if what == "VersionRetired" {
                "v1-"
            } else {
                "v2-"
            };
            ensure!(count(tag) == 1, "{what}: {events:?}");
        }
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    world.finish().await
}

/// Nothing but a person takes the last step.
fn by_hand(env: &Env, tag: &str) -> serde_json::Value {
    let mut wanted = manifest(env, NAME, tag);
    wanted["spec"]["rollout"]["strategy"] = "Manual".into();
    wanted
}
