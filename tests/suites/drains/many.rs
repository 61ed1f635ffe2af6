//! Many drains that wait at once: they hold nobody else up. Each version has its own queue and no pods, so
//! that neither a kubelet nor the server's changes of routing set the pace.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::names::{self, Version};
use process_operator_crds::{Process, spec::Versioning};
use process_operator_harness::{Env, Scene, complete, is_current, manifest, until};
use serde_json::{Value, json};

use crate::support::SOON;

/// Versions of each Process that drain.
const EACH: usize = 10;
/// New Processes, before the drains and beside them.
const NEW: usize = 5;
/// A new Process has its Deployment after this, whatever else is open.
const MOST: Duration = Duration::from_secs(2);
/// How much longer than without drains a new Process may take. Two cores carry other tests too.
const MORE: Duration = Duration::from_secs(3);

/// As many as two cores carry beside other tests, or what `FAULTS=complete` asks for.
fn processes() -> usize {
    if complete() { 30 } else { 6 }
}

fn without_pods(env: &Env, name: &str, tag: &str) -> Value {
    let mut wanted = manifest(env, name, tag);
    wanted["spec"]["replicas"] = json!(0);
    wanted["spec"]["rollout"] = json!({ "versioning": "TaskQueuePerVersion" });
    wanted
}

/// The queue of its version.
fn queue(wanted: &Value) -> Result<String> {
    let process: Process = serde_json::from_value(wanted.clone())?;
    let build_id = Version::of(&process)?.build_id;
    Ok(names::task_queue(
        Versioning::TaskQueuePerVersion,
        &process.spec.temporal.task_queue,
        build_id.as_str(),
    ))
}

/// One version after the other becomes current and is held by a workflow that nobody takes.
async fn supersede(env: &Env, name: &str) -> Result<()> {
    for n in 0..=EACH {
        let tag = format!("d{n}");
        let wanted = without_pods(env, name, &tag);
        let queue = queue(&wanted)?;
        let current = async {
            env.apply(&wanted).await?;
            env.wait_process(name, &format!("{tag} is current"), SOON, |process| {
                is_current(process, &tag)
            })
            .await
        };
        env.temporal
            .while_polled(&env.apps, &queue, current)
            .await?;
        if n < EACH {
            let id = format!("{name}-{n}");
            env.temporal
                .start_untaken(&env.apps, &queue, &id, None)
                .await?;
            let found = format!("WorkflowId = '{id}'");
            until("it can be counted", SOON, async || {
                let found = env.temporal.list(&env.apps, &found).await?;
                ensure!(!found.is_empty(), "not yet");
                Ok(())
            })
            .await?;
        }
    }
    env.wait_process(name, "all old versions drain", SOON, |process| {
        let status = process.status.iter();
        let drains = status.flat_map(|status| &status.draining);
        drains.filter(|it| it.open_workflows == Some(1)).count() == EACH
    })
    .await?;
    Ok(())
}

/// How long a new Process takes to its Deployment, and to its first version.
async fn created(env: &Env, name: &str) -> Result<(Duration, Duration)> {
    let wanted = without_pods(env, name, "v1");
    let queue = queue(&wanted)?;
    let config = watcher::Config::default().labels(&format!("ameide.io/process={name}"));
    let deployment = async {
        let api = env.api::<Deployment>();
        let mut changes = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
        changes.try_next().await?.context("the watch ended")?;
        anyhow::Ok(Instant::now())
    };
    let current = async {
        env.wait_process(name, "its version is current", SOON, |process| {
            is_current(process, "v1")
        })
        .await?;
        anyhow::Ok(Instant::now())
    };
    let sent = Instant::now();
    let all = async { tokio::try_join!(env.apply(&wanted), deployment, current) };
    let (_, deployment, current) = env.temporal.while_polled(&env.apps, &queue, all).await?;
    Ok((
        deployment.duration_since(sent),
        current.duration_since(sent),
    ))
}

/// The middle of several, one after the other.
async fn several(env: &Env, prefix: &str) -> Result<(Duration, Duration)> {
    let (mut deployments, mut currents) = (Vec::new(), Vec::new());
    for n in 0..NEW {
        let (deployment, current) = created(env, &format!("{prefix}{n}")).await?;
        deployments.push(deployment);
        currents.push(current);
    }
    deployments.sort();
    currents.sort();
    Ok((deployments[NEW / 2], currents[NEW / 2]))
}

#[tokio::test(flavor = "multi_thread")]
async fn open_drains_do_not_delay_a_new_process() -> Result<()> {
    let scene = Scene::new("many-drains").await?;
    let env = &scene.env;
    let (before, began) = (several(env, "before").await?, Instant::now());
    let count = processes();
    futures::stream::iter(0..count)
        .map(|n| async move { supersede(env, &format!("p{n}")).await })
        .buffer_unordered(10)
        .try_collect::<Vec<()>>()
        .await?;
    let open = "WorkflowType = 'ProcessDrain' AND ExecutionStatus = 'Running'";
    until("all drains are open", SOON, async || {
        let found = env.temporal.list(&env.control, open).await?.len();
        ensure!(found == count * EACH, "{found}");
        Ok(())
    })
    .await?;
    let opened = began.elapsed();
    let beside = several(env, "beside").await?;
    let left = env.temporal.list(&env.control, open).await?.len();
    ensure!(left == count * EACH, "{left} drains are still open");
    println!(
        "{} drains opened in {:.1} s; a new Process has its Deployment, and its version, after {:?} with none \
         and {:?} with all of them",
        count * EACH,
        opened.as_secs_f64(),
        before,
        beside,
    );
    ensure!(beside.0 < MOST, "its Deployment after {:?}", beside.0);
    ensure!(
        beside.1 < before.1 + MORE,
        "its version after {:?}, without drains after {:?}",
        beside.1,
        before.1
    );
    let all = ["before", "beside"].map(|prefix| (0..NEW).map(move |n| format!("{prefix}{n}")));
    let all: Vec<String> = (0..count)
        .map(|n| format!("p{n}"))
        .chain(all.into_iter().flatten())
        .collect();
    let began = Instant::now();
    futures::stream::iter(&all)
        .map(|name| env.leave(name))
        .buffer_unordered(10)
        .try_collect::<Vec<()>>()
        .await?;
    println!(
        "all of them left within {:.1} s",
        began.elapsed().as_secs_f64()
    );
    scene.finish().await
}
