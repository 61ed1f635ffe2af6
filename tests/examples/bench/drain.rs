//! What drains cost while they wait, and how soon they end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_harness::{Env, Operator, is_current, manifest, until};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::EventType;

use crate::gauge::{memory, percentile};
use crate::{create, idle, options, pollers};

/// Old versions of one Process that drain at the same time.
const EACH: usize = 10;
/// Each change of routing takes the server's workflows some time.
const LONG: Duration = Duration::from_secs(1200);

/// How soon drains end.
pub(crate) async fn ends(env: &Env) -> Result<()> {
    to_no_pods(env, 5).await?;
    after_the_deadline(env, 5).await?;
    env.clear().await
}

/// `count` drains are open at once: what they cost, and what they do to a new Process. In a Temporal namespace
/// of this name the server looks after its drains as seldom as it does by default.
pub(crate) async fn open(count: usize, window: Duration) -> Result<()> {
    let env = Env::named("bench-drains", "bench-drains-apps", "bench-drains-control").await?;
    let operator = Operator::start(&env, options()).await?;
    beside(&env, &operator, count, window).await?;
    // What is open still goes with its Temporal namespace.
    operator.stop().await?;
    env.remove().await
}

async fn beside(env: &Env, operator: &Operator, count: usize, window: Duration) -> Result<()> {
    println!("with no drain open:");
    create::one_by_one(env, 20).await?;
    env.clear().await?;
    let processes = count.div_ceil(EACH);
    create::burst(env, operator, processes).await?;
    let polls = pollers::Pollers::start_in_calm(env, processes, "v1").await?;
    idle::all_current(env, operator, processes).await?;
    polls.stop();
    let before = memory(operator.pid, "RssAnon:")?;
    for round in 0..EACH {
        supersede(env, processes, round).await?;
    }
    println!(
        "anonymous memory of the operator with {processes} settled Processes {before:.1} MiB, with {} drains open \
         {:.1} MiB",
        processes * EACH,
        memory(operator.pid, "RssAnon:")?,
    );
    waiting(env, operator, processes * EACH, window).await?;
    println!("with {} drains open:", processes * EACH);
    create::one_by_one(env, 20).await
}

/// A Process that has moved to v2, with one workflow that holds v1, by its build id.
async fn held(env: &Env, name: &str, drain: Value) -> Result<(String, String)> {
    let mut wanted = manifest(env, name, "v1");
    wanted["spec"]["drain"] = drain;
    env.apply(&wanted).await?;
    env.wait_settled(name, "v1").await?;
    let id = format!("{name}-long");
    env.temporal
        .start_waiting(&env.apps, &format!("{name}-tq"), &id)
        .await?;
    env.set_tag(name, "v2").await?;
    let process = env
        .wait_process(name, "v1 drains", LONG, |process| {
            drains(process) == 1 && is_current(process, "v2")
        })
        .await?;
    let status = process.status.context("status")?;
    let old = status.draining.first().context("it drains")?;
    Ok((id, old.build_id.clone()))
}

/// Real pods: the last workflow on an old version closes, its Deployment gets no replicas, its pods go.
async fn to_no_pods(env: &Env, count: usize) -> Result<()> {
    let (mut told, mut gone) = (Vec::new(), Vec::new());
    for n in 0..count {
        let name = format!("drain{n}");
        let (id, old) = held(env, &name, json!({})).await?;
        env.temporal.finish_waiting(&env.apps, &id).await?;
        let closed = Instant::now();
        until("v1 has no replicas", LONG, async || {
            let deployments = env.deployments(&name).await?;
            let left = deployments
                .iter()
                .filter(|it| it.labels().values().any(|value| *value == old))
                .filter_map(|it| it.spec.as_ref()?.replicas)
                .sum::<i32>();
            ensure!(left == 0, "{left}");
            Ok(())
        })
        .await?;
        told.push(closed.elapsed().as_secs_f64());
        until("v1 has no pods", LONG, async || {
            let pods = env.pods(&name).await?;
            let of_old = |it: &&Pod| it.labels().values().any(|value| *value == old);
            let left = pods.iter().filter(of_old).count();
            ensure!(left == 0, "{left}");
            Ok(())
        })
        .await?;
        gone.push(closed.elapsed().as_secs_f64());
    }
    for (what, seconds) in [("no replicas", &mut told), ("no pods", &mut gone)] {
        println!(
            "last workflow on an old version closed -> {what} (no delay; the server looks every 2 s here), \
             n={count}: p50 {:.1} s, max {:.1} s",
            percentile(seconds, 0.5),
            percentile(seconds, 1.0),
        );
    }
    Ok(())
}

/// When the server accepted that a version loses its traffic, and when it had told the version. Until then the task queues
/// give it new workflows, so the time of its drain begins then.
async fn lost(env: &Env, deployment: &str, build_id: &str) -> Result<(Timestamp, Timestamp)> {
    let info = env
        .temporal
        .worker_deployment(&env.apps, deployment)
        .await?;
    let versions = info.context("a Worker Deployment")?.version_summaries;
    let stamps = versions.iter().find_map(|version| {
        let named = version.deployment_version.as_ref()?;
        let accepted = version.last_deactivation_time?;
        let told = version.drainage_info.as_ref()?.last_changed_time?;
        (named.build_id == build_id).then_some([accepted, told])
    });
    let [accepted, told] = stamps.context("it lost its traffic")?;
    let accepted = Timestamp::new(accepted.seconds, accepted.nanos)?;
    let told = Timestamp::new(told.seconds, told.nanos)?;
    Ok((accepted, told.max(accepted)))
}

/// A workflow outlasts the time of its version: from the deadline to its termination, by the server's clock.
async fn after_the_deadline(env: &Env, count: usize) -> Result<()> {
    const TIME: i64 = 5;
    let policy = json!({ "timeoutSeconds": TIME, "onTimeout": "Terminate" });
    let (mut millis, mut before) = (Vec::new(), Vec::new());
    for n in 0..count {
        let name = format!("overdue{n}");
        let (id, old) = held(env, &name, policy.clone()).await?;
        let deployment = format!("{}/{name}", env.namespace);
        let (accepted, lost) = lost(env, &deployment, &old).await?;
        before.push(lost.duration_since(accepted).as_millis_f64());
        let due = lost + SignedDuration::from_secs(TIME);
        let ended = until("it is terminated", LONG, async || {
            let history = env.temporal.history(&env.apps, &id).await?;
            let end = history.into_iter().next_back().context("no event")?;
            let over = end.event_type() == EventType::WorkflowExecutionTerminated;
            ensure!(over, "{:?}", end.event_type());
            end.event_time.context("no time")
        })
        .await?;
        let ended = Timestamp::new(ended.seconds, ended.nanos)?;
        millis.push(ended.duration_since(due).as_millis_f64());
    }
    println!(
        "deadline of a drain -> what was open is terminated, n={count}: p50 {:.0} ms, max {:.0} ms; the time began \
         p50 {:.0} ms, max {:.0} ms after the server had accepted the change of routing",
        percentile(&mut millis, 0.5),
        percentile(&mut millis, 1.0),
        percentile(&mut before, 0.5),
        percentile(&mut before, 1.0),
    );
    Ok(())
}

/// Versions of a Process that a running workflow holds.
fn drains(process: &Process) -> usize {
    let status = process.status.as_ref();
    let draining = status.into_iter().flat_map(|status| &status.draining);
    draining.filter(|it| it.open_workflows == Some(1)).count()
}

/// One more version of each Process is held by a workflow and drains. No pods: the workflow is started
/// on the version and never taken.
async fn supersede(env: &Env, processes: usize, round: usize) -> Result<()> {
    let next = format!("v{}", round + 2);
    futures::stream::iter(0..processes)
        .map(|n| {
            let next = next.as_str();
            async move {
                let name = format!("p{n}");
                let process = env.api::<Process>().get(&name).await?;
                let current = process.status.and_then(|status| status.current_version);
                let build_id = current.context("a current version")?.build_id;
                let deployment = format!("{}/{name}", env.namespace);
                let id = format!("{name}-{round}");
                let version = (deployment.as_str(), build_id.as_str());
                env.temporal
                    .start_pinned(&env.apps, &format!("{name}-tq"), &id, version)
                    .await?;
                env.set_tag(&name, next).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    let polls = pollers::Pollers::start(env, processes, &next);
    until("all old versions drain", LONG, async || {
        let all = env.api::<Process>().list(&ListParams::default()).await?;
        let held: usize = all.iter().map(drains).sum();
        let current = all.iter().filter(|it| is_current(it, &next)).count();
        ensure!(
            held == processes * (round + 1) && current == processes,
            "{held} drain, {current} are on {next}"
        );
        Ok(())
    })
    .await?;
    polls.stop();
    Ok(())
}

/// Events in the histories of all open drains.
async fn events(env: &Env) -> Result<i64> {
    let open = "WorkflowType = 'ProcessDrain' AND ExecutionStatus = 'Running'";
    let mut events = 0;
    for info in env.temporal.list(&env.control, open).await? {
        let id = info.execution.context("an id")?.workflow_id;
        events += i64::try_from(env.temporal.history(&env.control, &id).await?.len())?;
    }
    Ok(events)
}

/// Nothing happens: memory, CPU, and what is asked and written all the same.
async fn waiting(env: &Env, operator: &Operator, count: usize, window: Duration) -> Result<()> {
    let before = events(env).await?;
    let asked = idle::window(env, operator, &format!("{count} open drains"), window).await?;
    let grown = events(env).await? - before;
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let (events, days) = (grown as f64, count as f64 * window.as_secs_f64() / 86_400.0);
    let calls = |operation: &str| asked.temporal.get(operation).copied().unwrap_or(0.0) / days;
    println!(
        "  of a drain per day of waiting: {:.1} history events ({before} in all of them so far), {:.0} counts, {:.0} \
         heartbeats",
        events / days,
        calls("CountWorkflowExecutions"),
        calls("RecordActivityTaskHeartbeat"),
    );
    Ok(())
}
