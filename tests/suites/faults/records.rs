//! How the server's records of versions and Processes go: without haste where it refuses, and with what was
//! started in the last moment.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::{
    Action, GrpcCode, GrpcError, Mark, RequestMatch, RpcMatch, RuleHandle, Verb,
};
use process_operator_harness::{Env, lifecycle_id, manifest, until};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::drains::{QUEUE, on_v1, tells};
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

/// Result of a lifecycle, in words.
async fn result(env: &Env, process: &Process) -> Result<String> {
    let id = lifecycle_id(process);
    until("its lifecycle has ended", SOON, async || {
        let history = env.temporal.history(&env.control, &id).await?;
        let last = history.last().and_then(|event| event.attributes.clone());
        let Some(Attributes::WorkflowExecutionCompletedEventAttributes(ended)) = last else {
            anyhow::bail!("it runs");
        };
        let payloads = ended.result.context("no result")?.payloads;
        let payload = payloads.first().context("no payload")?;
        let result: Value = serde_json::from_slice(&payload.data)?;
        Ok(result["message"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

/// The workers are gone and the finalizer is not yet: what is started then finds nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_started_in_the_last_moment_of_a_process_is_terminated_and_counted() -> Result<()> {
    let world = World::new("lastmoment").await?;
    let env = &world.env;
    let mut wanted = manifest(env, NAME, "v1");
    wanted["spec"]["deletion"] = json!({ "onTimeout": "Cancel" });
    let process = env.apply(&wanted).await?;
    at_rest(&world, "v1").await?;
    // The step before the finalizer is removed; the workers are told to stop before that.
    let says = RequestMatch::any()
        .verb(Verb::Apply)
        .resource("processes")
        .subresource("status")
        .namespace(&env.namespace)
        .when(|request| String::from_utf8_lossy(&request.body).contains("stopping workers"));
    let held_back = world
        .kube
        .rule(says, Action::Delay(Duration::from_secs(600)));
    env.delete(NAME).await?;
    held_back.wait_hits(1, SOON).await?;
    until("no worker is left", SOON, async || {
        let pods = env.pods(NAME).await?.len();
        ensure!(pods == 0, "{pods} pods");
        Ok(())
    })
    .await?;
    env.temporal
        .start_open(&env.apps, QUEUE, "last", false)
        .await?;
    held_back.remove();
    env.gone_within(NAME, SOON).await?;
    env.temporal.wait_closed(&env.apps, "last", SOON).await?;
    let found = env.temporal.run_status(&env.apps, "last").await?;
    ensure!(found == WorkflowExecutionStatus::Terminated, "{found:?}");
    let said = result(env, &process).await?;
    ensure!(
        said.contains("workflows terminated that were started while it went: 1"),
        "{said}"
    );
    env.nothing_is_left(&process).await?;
    world.finish().await
}
