//! F15: an API server that is there and says nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, EventMatch, RequestMatch, Verb, WatchAction};
use process_operator_harness::{
    Foreign, ForeignAccount, OperatorOptions, condition, lifecycle_id, manifest, until,
};
use serde_json::json;

use crate::scenario::{at_rest, gone};
use crate::signals::signal;
use crate::world::{NAME, SOON, World};

/// Sweeps made by the operator so far.
async fn sweeps(world: &World) -> Result<u64> {
    let (_, text) = world.operator()?.get("/metrics").await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("process_operator_sweeps_total{result=\"ok\"} "));
    Ok(line.context("no sweep yet")?.trim().parse()?)
}

async fn more_sweeps(world: &World, more: u64) -> Result<()> {
    let before = sweeps(world).await?;
    until("more sweeps", SOON, async || {
        let now = sweeps(world).await?;
        ensure!(now >= before + more, "{before} -> {now}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_stays_open_and_mute_is_made_up_for_by_a_new_list() -> Result<()> {
    let world = World::empty("f15").await?;
    world.start_with(true, &["--resync-seconds", "8"]).await?;
    let process = world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let mute = world
        .kube
        .watch_rule(EventMatch::events(), WatchAction::Drop);
    world.env.set_tag(NAME, "v2").await?;
    at_rest(&world, "v2").await?;
    ensure!(mute.hits() > 0, "nothing was kept back");
    world.hold().await?;
    let api = world.env.api::<Process>();
    api.delete(NAME, &DeleteParams::default()).await?;
    gone(&world, &process).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_an_outdated_view_says_is_not_told_at_every_sweep() -> Result<()> {
    let world = World::new("f15s").await?;
    let process = world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let mute = world
        .kube
        .watch_rule(EventMatch::events(), WatchAction::Drop);
    world.env.set_tag(NAME, "v2").await?;
    // The lifecycle hears of it another way, so that only the watcher is behind.
    signal(&world, &process, "by-hand", "generation 2").await?;
    at_rest(&world, "v2").await?;
    ensure!(mute.hits() > 0, "nothing was kept back");
    // In the first of them the view is put right.
    more_sweeps(&world, 2).await?;
    at_rest(&world, "v2").await?;
    let (env, id) = (&world.env, lifecycle_id(&process));
    let before = env.temporal.history(&env.control, &id).await?.len();
    more_sweeps(&world, 3).await?;
    let after = env.temporal.history(&env.control, &id).await?.len();
    ensure!(after == before, "{before} events -> {after}");
    world.finish().await
}

/// Takes as long as a silent connection is put up with.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes; part of FAULTS=complete"]
async fn a_list_that_is_never_answered_is_asked_for_again() -> Result<()> {
    let world = World::empty("f15h").await?;
    let pages = RequestMatch::any()
        .verb(Verb::List)
        .resource("processes")
        .when(|request| request.param("limit").is_some_and(|limit| limit != "1"))
        .first(1);
    let hang = world.kube.rule(pages, Action::Hang(None));
    world.start(false).await?;
    let operator = world.operator()?;
    until("ready all the same", Duration::from_secs(150), async || {
        let (code, text) = operator.get("/readyz").await?;
        ensure!(code == 200, "{text}");
        Ok(())
    })
    .await?;
    ensure!(hang.hits() == 1, "{} lists hung", hang.hits());
    world.env.apply(&manifest(&world.env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_of_which_no_event_arrives_is_noticed_by_a_new_list() -> Result<()> {
    let world = World::empty("f15d").await?;
    let env = &world.env;
    let customers = Foreign::new(env, &format!("{}.example", env.namespace), "Customer");
    let account = ForeignAccount::new(env)?;
    account.may(env, &["get", "list", "watch"], &[&customers])?;
    customers.install().await?;
    customers.ready("sales").await?;
    let options = OperatorOptions {
        account: Some(account.account()),
        args: vec![
            "--resync-seconds".into(),
            "8".into(),
            "--domain-kind".into(),
            customers.flag(),
        ],
        ..OperatorOptions::default()
    };
    world.start_as(options).await?;
    let mut process = manifest(env, NAME, "v1");
    process["spec"]["dependencies"] = json!({ "domains": [{ "name": "sales" }] });
    env.apply(&process).await?;
    at_rest(&world, "v1").await?;
    let events = EventMatch::events().resource(&customers.plural());
    let mute = world.kube.watch_rule(events, WatchAction::Drop);
    let told = |words: &'static str| {
        env.wait_process(NAME, words, SOON, move |process| {
            condition(process, "DependenciesReady").2.contains(words)
        })
    };
    customers.unready("sales", "Moving").await?;
    let lost = told("Customer sales is not Ready (Moving)").await?;
    ensure!(
        condition(&lost, "Degraded").1 == "DependencyNotReady",
        "it is told"
    );
    customers.delete("sales").await?;
    told("Customer sales does not exist").await?;
    customers.ready("sales").await?;
    told("1 of 1 are ready").await?;
    ensure!(mute.hits() > 0, "nothing was kept back");
    at_rest(&world, "v1").await?;
    world.hold().await?;
    customers.remove().await?;
    account.remove(env)?;
    world.finish().await
}
