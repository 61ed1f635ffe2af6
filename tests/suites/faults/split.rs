//! F41: two replicas. The one that does all the work is stopped in the middle of a write, as by a node that
//! hangs, the other takes over and brings two more versions, and then the first goes on where it was.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, RequestMatch, RpcMatch, RuleHandle, Verb};
use process_operator_harness::{is_current, is_settled, lifecycle_id, manifest, until};

use crate::scenario::at_rest;
use crate::world::{NAME, Replica, SOON, World};

/// Until the test lets it go.
const HELD: Duration = Duration::from_secs(600);

/// The build id that new workflows go to.
async fn routed(world: &World) -> Result<String> {
    let env = &world.env;
    let name = format!("{}/{NAME}", env.namespace);
    let info = env.temporal.worker_deployment(&env.apps, &name).await?;
    let config = info
        .and_then(|info| info.routing_config)
        .context("routed")?;
    let current = config.current_deployment_version.context("a version")?;
    Ok(current.build_id)
}

/// Tag of the version that a status tells to be current.
fn current(process: &Process) -> String {
    let status = process.status.as_ref();
    let version = status.and_then(|status| status.current_version.as_ref());
    let build = version.map(|version| version.build_id.as_str());
    let tag = build.and_then(|build| build.split('-').next());
    tag.unwrap_or_default().to_owned()
}

/// The first replica has a write in its hands, the other one does what follows. What `hold` holds back
/// arrives afterwards, and then the first one wakes up. Codes that the late write may be answered with.
async fn stopped_in(
    name: &str,
    hold: impl Fn(&World, &Replica) -> RuleHandle,
    codes: &[u16],
) -> Result<()> {
    let world = World::empty(name).await?;
    let env = &world.env;
    let first = world.replica(0, |_, _| ()).await?;
    let mut idle = None;
    let second = world
        .replica(1, |_, temporal| {
            let polls = RpcMatch::any().when(|rpc| rpc.method.starts_with("Poll"));
            idle = Some(temporal.rule(polls, Action::Hang(None)));
        })
        .await?;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;

    let late = hold(&world, &first);
    env.set_tag(NAME, "v2").await?;
    late.wait_hits(1, SOON).await?;
    first.operator.signal(Signal::SIGSTOP)?;
    idle.context("prepared")?.remove();
    env.wait_process(NAME, "the other one brings v2", SOON, |process| {
        is_current(process, "v2")
    })
    .await?;
    env.set_tag(NAME, "v3").await?;
    at_rest(&world, "v3").await?;
    let build = routed(&world).await?;
    ensure!(build.starts_with("v3-"), "{build} is current");
    let seen = world.observer.states().len();

    late.remove();
    late.wait_done(1, SOON).await?;
    first.operator.signal(Signal::SIGCONT)?;
    first.operator.ready().await?;
    until("v3 alone is left", SOON, async || {
        let process = env.api::<Process>().get(NAME).await?;
        ensure!(is_settled(&process, "v3"), "{:?}", process.status);
        let deployments = env.deployments(NAME).await?;
        let names: Vec<_> = deployments.iter().map(|it| &it.metadata.name).collect();
        ensure!(names.len() == 1, "{names:?}");
        Ok(())
    })
    .await?;
    at_rest(&world, "v3").await?;

    let code = first_answer(&first, &late).context("the late write was answered")?;
    println!("{name}: the late write was answered {code}");
    ensure!(codes.contains(&code), "the late write was answered {code}");
    let after = world.observer.states().split_off(seen);
    let flapped: Vec<_> = after.iter().map(current).filter(|it| it != "v3").collect();
    ensure!(flapped.is_empty(), "status told of {flapped:?} again");
    ensure!(routed(&world).await? == build, "the routing was changed");
    let of_this = env.workflows(&lifecycle_id(&process)).await?;
    ensure!(of_this.len() == 1, "I1: {of_this:?}");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id == build, "{answer:?}");
    for replica in [&first, &second] {
        ensure!(!replica.operator.ended(), "both run to the end");
    }
    world.finish().await
}

/// What the server said to the request that was held back.
fn first_answer(replica: &Replica, held: &RuleHandle) -> Option<u16> {
    let kube = replica.kube.records(..);
    let kube = kube.iter().find(|record| record.rule == Some(held.id()));
    let temporal = replica.temporal.records(..);
    let temporal = temporal.iter().find(|it| it.rule == Some(held.id()));
    kube.map(|it| it.outcome)
        .or(temporal.map(|it| it.outcome))
        .and_then(process_operator_faultproxy::Outcome::code)
}

fn write_of(world: &World, resource: &str, subresource: &str) -> RequestMatch {
    RequestMatch::any()
        .verb(Verb::Apply)
        .namespace(&world.env.namespace)
        .resource(resource)
        .subresource(subresource)
}

/// Nothing can keep a name from being taken that is free again; it is given back.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_apply_of_a_deployment() -> Result<()> {
    let hold = |world: &World, first: &Replica| {
        let writes = write_of(world, "deployments", "").first(1);
        first.kube.rule(writes, Action::Delay(HELD))
    };
    stopped_in("f41apply", hold, &[200, 201]).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn in_the_write_of_a_status() -> Result<()> {
    let hold = |world: &World, first: &Replica| {
        let writes = write_of(world, "processes", "status").first(1);
        first.kube.rule(writes, Action::Delay(HELD))
    };
    stopped_in("f41status", hold, &[409]).await
}

/// gRPC's code for a precondition that has failed.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_change_of_routing() -> Result<()> {
    const FAILED_PRECONDITION: u16 = 9;
    let hold = |_: &World, first: &Replica| {
        let calls = RpcMatch::method("SetWorkerDeploymentCurrentVersion").first(1);
        first.temporal.rule(calls, Action::Delay(HELD))
    };
    stopped_in("f41route", hold, &[FAILED_PRECONDITION]).await
}
