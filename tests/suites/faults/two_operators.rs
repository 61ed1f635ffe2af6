//! Two operators where there should be one: a second installation in the Temporal namespace of the first does
//! not begin to work, and two that look after the same Processes from different Temporal namespaces say so.

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Operator, OperatorOptions, lifecycle_id, manifest, until};
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// A poll takes up to a minute, and the server remembers who has polled.
const FORGOTTEN: Duration = Duration::from_secs(80);

async fn metric(operator: &Operator, name: &str) -> Result<i64> {
    let (_, page) = operator.get("/metrics").await?;
    let name = format!("{name} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&name));
    Ok(value.unwrap_or("0").parse()?)
}

fn second(args: &[&str]) -> OperatorOptions {
    OperatorOptions {
        instance: Some("stranger-0".to_owned()),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        unready: true,
        ..OperatorOptions::default()
    }
}

/// Who has worked on the lifecycle.
async fn workers(world: &World, process: &Process) -> Result<Vec<String>> {
    let env = &world.env;
    let id = lifecycle_id(process);
    let history = env.temporal.history(&env.control, &id).await?;
    let started = history
        .into_iter()
        .filter_map(|event| match event.attributes? {
            Attributes::WorkflowTaskStartedEventAttributes(started) => Some(started.identity),
            _ => None,
        });
    Ok(started.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_installation_in_the_same_temporal_namespace_waits_and_says_why() -> Result<()> {
    let world = World::new("alone").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;

    // As one that was installed in another namespace, or in another cluster.
    let options = second(&["--namespace", "elsewhere"]);
    let stranger = Operator::start(env, options).await?;
    until("the second one says why it waits", SOON, async || {
        let (code, text) = stranger.get("/readyz").await?;
        let says = text.contains("another installation of the operator")
            && text.contains(&env.control)
            && text.contains("--temporal-namespace");
        ensure!(code == 503 && says, "{code} {text}");
        Ok(())
    })
    .await?;
    ensure!(metric(&stranger, "process_operator_other_installations").await? == 1);
    ensure!(stranger.get("/livez").await?.0 == 200, "it is alive");
    env.set_tag(NAME, "v2").await?;
    at_rest(&world, "v2").await?;
    let identities = workers(&world, &process).await?;
    ensure!(
        !identities.iter().any(|who| who.contains("stranger")),
        "{identities:?}"
    );
    let first = world.operator()?;
    ensure!(
        first.get("/readyz").await?.0 == 200,
        "the first is as before"
    );
    world.hold().await?;

    first.stop().await?;
    until(
        "the second one takes its place",
        FORGOTTEN + SOON,
        async || {
            let (code, text) = stranger.get("/readyz").await?;
            ensure!(code == 200, "{code} {text}");
            Ok(())
        },
    )
    .await?;
    env.set_tag(NAME, "v1").await?;
    at_rest(&world, "v1").await?;
    world.hold().await?;
    stranger.stop().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_look_after_one_process_from_two_temporal_namespaces_say_so() -> Result<()> {
    let world = World::new("contested").await?;
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let first = world.operator()?;
    ensure!(metric(&first, "process_operator_contested_processes").await? == 0);

    let other = format!("{}-other", env.namespace);
    env.temporal.create_namespace(&other).await?;
    let stranger = Operator::start(env, second(&["--temporal-namespace", &other])).await?;
    until("an Event tells of the other one", SOON, async || {
        let events = env.events(&process).await?;
        let told = events.iter().any(|(reason, note)| {
            reason == "OtherOperator" && note.contains(&other) && note.contains("--watch-namespace")
        });
        ensure!(told, "{events:?}");
        Ok(())
    })
    .await?;
    ensure!(metric(&first, "process_operator_contested_processes").await? == 1);
    // Both keep what serves.
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    ensure!(env.deployments(NAME).await?.len() == 1, "one Deployment");

    stranger.stop().await?;
    env.set_tag(NAME, "v2").await?;
    at_rest(&world, "v2").await?;
    world.finish().await
}
