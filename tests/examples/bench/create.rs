//! From a Process to its Deployment, to its Current version, and what that leaves in histories.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::Process;
use process_operator_harness::{Env, Operator, counts, is_current, lifecycle_id, manifest};
use serde_json::Value;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;

use crate::gauge::{Spent, percentile};
use crate::rollout::{children, of_change};
use crate::way::{self, Ends, Served};

/// A Process without pods, as the peer was measured.
fn without_pods(env: &Env, name: &str) -> Value {
    let mut manifest = manifest(env, name, "v1");
    manifest["spec"]["replicas"] = 0.into();
    manifest
}

/// When the Deployment of each Process was seen by a watch of our own.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<HashMap<String, Instant>>>);

impl Seen {
    fn watch(env: &Env) -> Self {
        let seen = Self::default();
        let api = env.api::<Deployment>();
        let store = seen.clone();
        tokio::spawn(async move {
            let changes = watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects();
            let mut changes = std::pin::pin!(changes);
            while let Ok(Some(deployment)) = changes.try_next().await {
                let now = Instant::now();
                if let Some(process) = deployment.labels().get("ameide.io/process")
                    && let Ok(mut seen) = store.0.lock()
                {
                    seen.entry(process.clone()).or_insert(now);
                }
            }
        });
        seen
    }

    fn get(&self, name: &str) -> Option<Instant> {
        self.0.lock().ok()?.get(name).copied()
    }

    async fn wait(&self, name: &str) -> Result<Instant> {
        process_operator_harness::until(name, Duration::from_secs(60), async || {
            self.get(name).context("no Deployment yet")
        })
        .await
    }
}

async fn create(env: &Env, manifest: &Value) -> Result<Instant> {
    let process: Process = serde_json::from_value(manifest.clone())?;
    let sent = Instant::now();
    env.api::<Process>()
        .create(&PostParams::default(), &process)
        .await?;
    Ok(sent)
}

/// One Process at a time: POST sent to watch event of its Deployment.
pub(crate) async fn one_by_one(env: &Env, count: usize) -> Result<()> {
    let seen = Seen::watch(env);
    let mark = env.audit.mark()?;
    let mut millis = Vec::new();
    let mut ends = Vec::new();
    // One ahead of the measurement, so that connections are open.
    for n in 0..=count {
        let name = format!("one{n}");
        let at = Timestamp::now();
        let sent = create(env, &without_pods(env, &name)).await?;
        let arrived = seen.wait(&name).await?;
        if n > 0 {
            let took = arrived.duration_since(sent);
            millis.push(took.as_secs_f64() * 1000.0);
            ends.push(Ends {
                name,
                sent: at,
                arrived: at + took,
            });
        }
        // Apart from each other, as people create them: the next starts on an idle system.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    println!(
        "create -> Deployment exists, one at a time, n={count}: p50 {:.0} ms, p95 {:.0} ms, max {:.0} ms",
        percentile(&mut millis, 0.5),
        percentile(&mut millis, 0.95),
        percentile(&mut millis, 1.0),
    );
    way::print(env, mark, &ends).await
}

/// All at once over 16 connections, as the peer was measured. What was passed by each, in the order in which their
/// Deployments were seen.
pub(crate) async fn burst(env: &Env, operator: &Operator, count: usize) -> Result<Vec<Ends>> {
    let seen = Seen::watch(env);
    let before = Spent::by(env, operator)?;
    let (started, began) = (Instant::now(), Timestamp::now());
    let sent: Vec<(String, Instant)> = {
        use futures::StreamExt as _;
        futures::stream::iter(0..count)
            .map(|n| async move {
                let name = format!("p{n}");
                let sent = create(env, &without_pods(env, &name)).await?;
                anyhow::Ok((name, sent))
            })
            .buffer_unordered(16)
            .try_collect()
            .await?
    };
    let posted = started.elapsed();
    let mut millis = Vec::new();
    let mut ends = Vec::new();
    let mut last = started;
    for (name, sent) in sent {
        let arrived = seen.wait(&name).await?;
        last = last.max(arrived);
        millis.push(arrived.duration_since(sent).as_secs_f64() * 1000.0);
        ends.push(Ends {
            name,
            sent: began + sent.duration_since(started),
            arrived: began + arrived.duration_since(started),
        });
    }
    println!(
        "burst of {count} (16 clients, all POSTs done in {:.2} s): p50 {:.0} ms, p95 {:.0} ms, max {:.0} ms; \
         first POST -> all Deployments exist: {:.2} s",
        posted.as_secs_f64(),
        percentile(&mut millis, 0.5),
        percentile(&mut millis, 0.95),
        percentile(&mut millis, 1.0),
        last.duration_since(started).as_secs_f64(),
    );
    let cpu = before.since(env, operator)?;
    println!("  CPU seconds until then: {cpu:.2?}");
    ends.sort_by_key(|end| end.arrived);
    Ok(ends)
}

/// The same, with where the time went, for the slowest tenth apart.
pub(crate) async fn burst_and_way(env: &Env, operator: &Operator, count: usize) -> Result<()> {
    let mark = env.audit.mark()?;
    let ends = burst(env, operator, count).await?;
    let (first, slowest) = ends.split_at(count - count.div_ceil(10));
    for (what, some) in [("the others", first), ("the slowest tenth", slowest)] {
        println!("  {what}:");
        way::print(env, mark, some).await?;
    }
    Ok(())
}

/// Real pods: create -> pod ready -> version Current.
pub(crate) async fn to_current(env: &Env, count: usize) -> Result<()> {
    let mut totals = Vec::new();
    let mut after_ready = Vec::new();
    let mut served = Vec::new();
    for n in 0..count {
        let name = format!("cur{n}");
        let at = Timestamp::now();
        let sent = create(env, &manifest(env, &name, "v1")).await?;
        let ready = async {
            let api = env.api::<Deployment>();
            let config = watcher::Config::default().labels(&format!("ameide.io/process={name}"));
            let mut changes =
                std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
            while let Some(deployment) = changes.try_next().await? {
                if deployment
                    .status
                    .and_then(|status| status.ready_replicas)
                    .unwrap_or(0)
                    > 0
                {
                    return Ok(Instant::now());
                }
            }
            anyhow::bail!("the watch ended")
        };
        let current = async {
            env.wait_process(&name, "current", Duration::from_secs(60), |process| {
                is_current(process, "v1")
            })
            .await?;
            Ok(Instant::now())
        };
        let (ready, current) = tokio::try_join!(ready, current)?;
        totals.push(current.duration_since(sent).as_secs_f64());
        after_ready.push(current.duration_since(ready).as_secs_f64());
        served.push(Served {
            name,
            sent: at,
            ready: at + ready.duration_since(sent),
            current: at + current.duration_since(sent),
        });
    }
    println!(
        "create -> version Current (real pods), n={count}: p50 {:.2} s, max {:.2} s; \
         of it after the pod was ready: p50 {:.2} s, max {:.2} s",
        percentile(&mut totals, 0.5),
        percentile(&mut totals, 1.0),
        percentile(&mut after_ready, 0.5),
        percentile(&mut after_ready, 1.0),
    );
    way::print_served(env, &served).await
}

/// The history of a workflow that has no more to do.
async fn at_rest(env: &Env, id: &str) -> Result<Vec<HistoryEvent>> {
    let mut history = env.temporal.history(&env.control, id).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let now = env.temporal.history(&env.control, id).await?;
        if now.len() == history.len() {
            return Ok(now);
        }
        history = now;
    }
}

/// History events of one create and one change of image, in the lifecycle and with its children.
pub(crate) async fn events(env: &Env) -> Result<()> {
    let name = "hist";
    let process = env.apply(&manifest(env, name, "v1")).await?;
    let id = lifecycle_id(&process);
    env.wait_settled(name, "v1").await?;
    let created = at_rest(env, &id).await?;
    env.set_tag(name, "v2").await?;
    env.wait_settled(name, "v2").await?;
    let changed = at_rest(env, &id).await?;
    let since = &changed[created.len()..];
    println!(
        "history events: create: {} in the lifecycle, {:?}; image change: {}",
        created.len(),
        children(env, name, &[("rollout", "v1")]).await?,
        of_change(env, name, since).await?,
    );
    println!("  lifecycle by type after both: {:?}", counts(&changed));
    Ok(())
}
