//! What drains cost while they wait, and how soon they end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_harness::{Env, Operator, is_current, manifest, until};

use crate::gauge::{memory, percentile};
use crate::{create, idle, options, pollers};

/// Old versions of one Process that drain at the same time.
const EACH: usize = 10;
/// The server takes about one change of routing a second.
const LONG: Duration = Duration::from_secs(1200);

/// How soon drains end.
pub(crate) async fn ends(env: &Env) -> Result<()> {
    to_no_pods(env, 5).await?;
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
    create::burst(env, processes).await?;
    let polls = pollers::Pollers::start(env, processes, "v1");
    idle::all_current(env, processes).await?;
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

/// Real pods: the last workflow on an old version closes, and its Deployment gets no replicas.
async fn to_no_pods(env: &Env, count: usize) -> Result<()> {
    let mut seconds = Vec::new();
    for n in 0..count {
        let name = format!("drain{n}");
        env.apply(&manifest(env, &name, "v1")).await?;
        env.wait_settled(&name, "v1").await?;
        let id = format!("{name}-long");
        env.temporal
            .start_waiting(&env.apps, &format!("{name}-tq"), &id)
            .await?;
        env.set_tag(&name, "v2").await?;
        let process = env
            .wait_process(&name, "v1 drains", LONG, |process| {
                drains(process) == 1 && is_current(process, "v2")
            })
            .await?;
        let status = process.status.context("status")?;
        let old = status
            .draining
            .first()
            .context("it drains")?
            .build_id
            .clone();
        env.temporal.finish_waiting(&env.apps, &id).await?;
        let closed = Instant::now();
        until("v1 has no pods", LONG, async || {
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
        seconds.push(closed.elapsed().as_secs_f64());
    }
    println!(
        "last workflow on an old version closed -> no replicas (no delay; the server looks every 2 s here), \
         n={count}: p50 {:.1} s, max {:.1} s",
        percentile(&mut seconds, 0.5),
        percentile(&mut seconds, 1.0),
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
    let (before, asked) = (events(env).await?, calls(env).await?);
    let started = Instant::now();
    idle::window(env, operator, &format!("{count} open drains"), window).await?;
    let days = started.elapsed().as_secs_f64() / 86_400.0;
    let grown = events(env).await? - before;
    let calls = calls(env).await? - asked;
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let (events, calls) = {
        let drains_and_days = days * count as f64;
        (grown as f64 / drains_and_days, calls / drains_and_days)
    };
    println!(
        "  of a drain per day of waiting: {events:.1} history events ({before} in all of them so far), {calls:.0} \
         reads in the workers' Temporal namespace"
    );
    Ok(())
}

/// What the operator has asked of the Temporal namespace of the workers.
async fn calls(env: &Env) -> Result<f64> {
    let mut requests = idle::temporal_requests(env, &[env.apps.as_str()]).await?;
    requests.retain(|operation, _| !operation.starts_with("Poll"));
    Ok(requests.into_values().sum())
}
