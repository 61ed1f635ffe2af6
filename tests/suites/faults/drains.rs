//! A drain among faults: nobody is there for all of it, and an order comes while it hands over to its
//! next run.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_crds::status::DrainingVersion;
use process_operator_faultproxy::{Action, RpcMatch};
use process_operator_harness::{Env, is_current, json_payload, manifest, until};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// The queue of the workers.
pub(crate) const QUEUE: &str = "l2o-tq";

/// A Process that has settled on v1 with this `spec.drain`, and workflows `old-<n>` that run on it. From now on
/// pods stay as long as something runs on their version.
pub(crate) async fn on_v1(world: &World, drain: &Value, open: usize) -> Result<Process> {
    let env = &world.env;
    let mut wanted = manifest(env, NAME, "v1");
    wanted["spec"]["drain"] = drain.clone();
    let process = env.apply(&wanted).await?;
    at_rest(world, "v1").await?;
    env.guard_versions(NAME);
    open_more(env, "old", open).await?;
    Ok(process)
}

/// Starts workflows `<prefix>-<n>`, each taken by a worker.
pub(crate) async fn open_more(env: &Env, prefix: &str, count: usize) -> Result<()> {
    env.open_crowd(QUEUE, prefix, count, false).await
}

/// Workflows `<prefix>-…` by their status.
pub(crate) async fn count(env: &Env, prefix: &str, status: &str) -> Result<usize> {
    env.count_crowd(prefix, status).await
}

/// Waits until so many have that status.
pub(crate) async fn counted(env: &Env, prefix: &str, status: &str, wanted: usize) -> Result<()> {
    env.wait_crowd(prefix, status, wanted, SOON).await
}

/// What status says about the version that drains.
pub(crate) fn draining(process: &Process) -> Option<DrainingVersion> {
    process.status.as_ref()?.draining.first().cloned()
}

/// Waits until v2 is current and so many workflows hold v1.
pub(crate) async fn held(env: &Env, open: i64) -> Result<DrainingVersion> {
    let what = format!("{open} hold v1");
    let process = env
        .wait_process(NAME, &what, SOON, |process| {
            is_current(process, "v2")
                && draining(process).is_some_and(|it| it.open_workflows == Some(open))
        })
        .await?;
    draining(&process).context("draining")
}

/// Reasons that status.history gives for this, oldest first.
pub(crate) fn told(process: &Process, what: &str) -> Vec<String> {
    let history = process.status.iter().flat_map(|status| &status.history);
    history
        .filter(|entry| entry.what == what)
        .map(|entry| entry.reason.clone().unwrap_or_default())
        .collect()
}

/// Waits until status.history tells this.
pub(crate) async fn tells(env: &Env, what: &str) -> Result<Vec<String>> {
    let process = env
        .wait_process(NAME, what, SOON, |process| !told(process, what).is_empty())
        .await?;
    Ok(told(&process, what))
}

/// Id of the only drain of v1.
pub(crate) async fn drain_id(env: &Env, process: &Process) -> Result<String> {
    let uid = process.uid().unwrap_or_default();
    let prefix = format!("drain/{}/{NAME}/{uid}/v1-", env.namespace);
    let ids = env.workflows(&prefix).await?;
    ids.first().cloned().context("no drain")
}

/// When Temporal saw v1 lose its traffic.
async fn left(env: &Env) -> Result<Timestamp> {
    let name = format!("{}/{NAME}", env.namespace);
    until("v1 has lost its traffic", SOON, async || {
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let versions = info.context("no record")?.version_summaries;
        let left = versions.iter().find_map(|version| {
            let named = version.deployment_version.as_ref()?;
            let at = version.last_deactivation_time.as_ref()?;
            named.build_id.starts_with("v1-").then_some(*at)
        });
        let left = left.context("not yet")?;
        anyhow::Ok(Timestamp::new(left.seconds, left.nanos)?)
    })
    .await
}

/// Waits until a deadline has passed by some seconds.
pub(crate) async fn passed(due: Timestamp) -> Result<()> {
    until("the deadline has passed", SOON, async || {
        let past = Timestamp::now().duration_since(due).as_secs();
        ensure!(past > 3, "{past} s");
        Ok(())
    })
    .await
}

/// F06: the operator dies with the change of routing, so that nobody has begun a drain when its
/// deadline passes. The time is the server's: nothing begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_nobody_saw_ends_by_its_policy_at_once() -> Result<()> {
    let world = World::new("f06").await?;
    let env = &world.env;
    let policy = json!({ "timeoutSeconds": 10, "onTimeout": "Terminate" });
    let process = on_v1(&world, &policy, 5).await?;
    let routed = RpcMatch::method("SetWorkerDeploymentCurrentVersion").first(1);
    let routed = world
        .temporal
        .rule(routed, Action::kill_after(world.killer()));
    env.set_tag(NAME, "v2").await?;
    routed.wait_done(1, SOON).await?;
    let due = left(env).await? + SignedDuration::from_secs(10);
    passed(due).await?;
    ensure!(
        count(env, "old", "Running").await? == 5,
        "nobody is there to end them"
    );

    world.start(true).await?;
    counted(env, "old", "Terminated", 5).await?;
    let reasons = tells(env, "DrainTimedOut").await?;
    ensure!(
        reasons.len() == 1 && reasons[0].starts_with("Terminate: 5 running workflows"),
        "{reasons:?}"
    );
    at_rest(&world, "v2").await?;
    let events = env.events(&process).await?;
    let told = events
        .iter()
        .filter(|(reason, _)| reason == "DrainTimedOut")
        .count();
    ensure!(told == 1, "{events:?}");
    let drain = drain_id(env, &process).await?;
    let history = env.temporal.history(&env.control, &drain).await?;
    let timers = timers(&history);
    ensure!(
        timers.iter().all(|seconds| *seconds <= MAY_LAST),
        "no time was waited for again: {timers:?}"
    );
    world.leave().await
}

/// Seconds after which a stage is told.
const MAY_LAST: i64 = 5;

/// Seconds of the timers of a workflow.
fn timers(history: &[HistoryEvent]) -> Vec<i64> {
    let timers = history.iter().filter_map(|event| match &event.attributes {
        Some(Attributes::TimerStartedEventAttributes(timer)) => timer.start_to_fire_timeout,
        _ => None,
    });
    timers.map(|time| time.seconds).collect()
}

/// What the lifecycle tells a drain; as in the spec of the test.
fn policy() -> Value {
    json!({
        "timeoutSeconds": 3600, "onTimeout": "Cancel", "cancelGraceSeconds": 600,
        "scaleDownDelaySeconds": 1, "deleteDelaySeconds": 0,
    })
}

/// F27: a person's order arrives at the very moment at which the drain continues as new: it is carried
/// out by the next run, whose deadline is the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_given_between_two_runs_of_a_drain_is_carried_out() -> Result<()> {
    let world = World::new("f27").await?;
    let env = &world.env;
    let process = on_v1(&world, &policy(), 3).await?;
    env.set_tag(NAME, "v2").await?;
    let before = held(env, 3).await?;
    open_more(env, "new", 2).await?;
    let drain = drain_id(env, &process).await?;
    // Only the command to continue as new names the type.
    let ends = RpcMatch::method("RespondWorkflowTaskCompleted").mentioning("ProcessDrain");
    let held_back = world
        .temporal
        .rule(ends.first(1), Action::Delay(Duration::from_secs(60)));
    // What would take weeks of counts is made of signals.
    let (mut sent, limit) = (0, 3000);
    while held_back.hits() == 0 && sent < limit {
        let signals = futures::stream::iter(0..20).map(|_| {
            let payloads = vec![json_payload(&policy())];
            env.temporal
                .signal(&env.control, &drain, "policy", payloads)
        });
        let mut signals = signals.buffer_unordered(4);
        while signals.try_next().await?.is_some() && held_back.hits() == 0 {}
        sent += 20;
    }
    held_back.wait_hits(1, SOON).await?;
    env.temporal
        .force_drain(&env.control, &drain, "between two runs")
        .await?;
    let still = draining(&env.api::<Process>().get(NAME).await?).context("draining")?;
    ensure!(
        still.since == before.since && still.deadline == before.deadline,
        "{before:?} {still:?}"
    );
    held_back.remove();

    counted(env, "old", "Terminated", 3).await?;
    let reasons = tells(env, "DrainForced").await?;
    ensure!(
        reasons.len() == 1 && reasons[0].contains("between two runs"),
        "{reasons:?}"
    );
    at_rest(&world, "v2").await?;
    let runs = env
        .temporal
        .list(&env.control, &format!("WorkflowId = '{drain}'"))
        .await?;
    ensure!(runs.len() == 2, "{} runs", runs.len());
    ensure!(
        count(env, "new", "Running").await? == 2,
        "others are left alone"
    );
    world.leave().await
}

/// F27: an order arrives while a run that is to be the last but one still tells how far it has come. It is
/// not taken in any more, and handed over.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_given_while_a_run_of_a_drain_tells_its_last_is_handed_over() -> Result<()> {
    let world = World::new("f27t").await?;
    let env = &world.env;
    let process = on_v1(&world, &policy(), 3).await?;
    env.set_tag(NAME, "v2").await?;
    let before = held(env, 3).await?;
    let drain = drain_id(env, &process).await?;
    // Nothing that it understands: its history grows, and it sleeps on.
    futures::stream::iter(0..1100)
        .map(|_| {
            let payloads = vec![json_payload(&json!("no policy"))];
            env.temporal
                .signal(&env.control, &drain, "policy", payloads)
        })
        .buffer_unordered(4)
        .try_collect::<()>()
        .await?;
    // What an activity cannot tell is told by a signal of the workflow, which takes another task.
    let by_activity = RpcMatch::method("SignalWorkflowExecution").mentioning("drain-progress");
    world.temporal.rule(by_activity, Action::Hang(None));
    let tells_it = RpcMatch::method("RespondWorkflowTaskCompleted").mentioning("drain-progress");
    let held_back = world
        .temporal
        .rule(tells_it.first(1), Action::Delay(Duration::from_secs(60)));
    env.temporal
        .signal(&env.control, &drain, "report", vec![])
        .await?;
    held_back.wait_hits(1, SOON).await?;
    // One that cannot be read is answered, by whichever run takes it in.
    let unreadable = vec![json_payload(&json!({ "action": "Stop" }))];
    env.temporal
        .signal(&env.control, &drain, "forceCancelDrain", unreadable)
        .await?;
    env.temporal
        .force_drain(&env.control, &drain, "late in a run")
        .await?;
    held_back.remove();

    counted(env, "old", "Terminated", 3).await?;
    let reasons = tells(env, "DrainForced").await?;
    ensure!(
        reasons.len() == 1 && reasons[0].contains("late in a run"),
        "{reasons:?}"
    );
    let history = env.temporal.history(&env.control, &drain).await?;
    let input = begun_with(&history)?;
    ensure!(
        input["memory"]["forces"][0]["reason"] == "late in a run",
        "the second run was given it: {input}"
    );
    let unreadable = &input["memory"]["unreadable"];
    ensure!(
        unreadable[0]
            .as_str()
            .is_some_and(|why| why.starts_with("action must be")),
        "{unreadable}"
    );
    let refused = tells(env, "SignalRefused").await?;
    ensure!(refused.len() == 1, "{refused:?}");
    let since: Timestamp = serde_json::from_value(input["memory"]["since"].clone())?;
    ensure!(
        before
            .since
            .as_ref()
            .is_some_and(|it| it.0.as_second() == since.as_second()),
        "{before:?} {input}"
    );
    at_rest(&world, "v2").await?;
    world.leave().await
}

/// Input of a run.
fn begun_with(history: &[HistoryEvent]) -> Result<Value> {
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) =
        history.first().and_then(|event| event.attributes.as_ref())
    else {
        anyhow::bail!("it has no beginning");
    };
    let payloads = started.input.as_ref().context("no input")?;
    let payload = payloads.payloads.first().context("no payload")?;
    Ok(serde_json::from_slice(&payload.data)?)
}
