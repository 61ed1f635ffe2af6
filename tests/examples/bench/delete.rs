//! From `kubectl delete` to a Process that is gone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, ListParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, Operator, condition, manifest, until};
use serde_json::json;

use crate::gauge::percentile;
use crate::{create, idle, pollers};

/// All of it.
pub(crate) async fn run(env: &Env, operator: &Operator, count: usize) -> Result<()> {
    with_pods(env, 5).await?;
    after_the_deadline(env, 5).await?;
    after_the_last(env, 5).await?;
    create::burst(env, operator, count).await?;
    let pollers = pollers::Pollers::start_in_calm(env, count, "v1").await?;
    idle::all_current(env, operator, count).await?;
    together(env, count).await?;
    pollers.stop();
    env.clear().await
}

async fn gone(env: &Env, name: &str) -> Result<()> {
    env.gone_within(name, Duration::from_secs(120)).await
}

fn print(what: &str, millis: &mut [f64]) {
    println!(
        "{what}, n={}: p50 {:.0} ms, max {:.0} ms",
        millis.len(),
        percentile(millis, 0.5),
        percentile(millis, 1.0)
    );
}

/// One at a time, with a running pod and nothing open.
async fn with_pods(env: &Env, count: usize) -> Result<()> {
    let mut millis = Vec::new();
    for n in 0..count {
        let name = format!("del{n}");
        env.apply(&manifest(env, &name, "v1")).await?;
        env.wait_settled(&name, "v1").await?;
        let sent = Instant::now();
        env.delete(&name).await?;
        gone(env, &name).await?;
        millis.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    print(
        "kubectl delete with a running pod and nothing open -> gone",
        &mut millis,
    );
    Ok(())
}

/// A workflow outlasts its time: from the deadline to its termination, by the server's clock.
async fn after_the_deadline(env: &Env, count: usize) -> Result<()> {
    let mut millis = Vec::new();
    for n in 0..count {
        let name = format!("due{n}");
        let mut wanted = manifest(env, &name, "v1");
        wanted["spec"]["deletion"] = json!({ "timeoutSeconds": 5, "onTimeout": "Terminate" });
        env.apply(&wanted).await?;
        env.wait_settled(&name, "v1").await?;
        let id = format!("{name}-long");
        env.temporal
            .start_waiting(&env.apps, &format!("{name}-tq"), &id)
            .await?;
        env.delete(&name).await?;
        let going = env
            .api::<Process>()
            .get_opt(&name)
            .await?
            .context("it waits")?;
        let asked = going.metadata.deletion_timestamp.context("deleting")?.0;
        gone(env, &name).await?;
        let history = env.temporal.history(&env.apps, &id).await?;
        let ended = history
            .last()
            .and_then(|event| event.event_time)
            .context("an end")?;
        let ended = jiff::Timestamp::new(ended.seconds, ended.nanos)?;
        let late = ended.duration_since(asked).as_millis_f64() - 5_000.0;
        millis.push(late);
    }
    print(
        "deadline (in whole seconds of deletionTimestamp) -> what was open is terminated",
        &mut millis,
    );
    Ok(())
}

/// The last workflow closes while a deletion waits: from there to a Process that is gone.
async fn after_the_last(env: &Env, count: usize) -> Result<()> {
    let mut millis = Vec::new();
    for n in 0..count {
        let name = format!("last{n}");
        env.apply(&manifest(env, &name, "v1")).await?;
        env.wait_settled(&name, "v1").await?;
        let id = format!("{name}-long");
        env.temporal
            .start_waiting(&env.apps, &format!("{name}-tq"), &id)
            .await?;
        env.delete(&name).await?;
        env.wait_process(&name, "it waits", Duration::from_secs(30), |process| {
            condition(process, "Ready").2.contains("waiting for 1")
        })
        .await?;
        env.temporal.finish_waiting(&env.apps, &id).await?;
        let closed = Instant::now();
        gone(env, &name).await?;
        millis.push(closed.elapsed().as_secs_f64() * 1000.0);
    }
    print(
        "last workflow closed a moment after the deletion -> gone",
        &mut millis,
    );
    Ok(())
}

/// All at once over 16 connections.
async fn together(env: &Env, count: usize) -> Result<()> {
    let api = env.api::<Process>();
    let started = Instant::now();
    futures::stream::iter(0..count)
        .map(|n| {
            let api = api.clone();
            async move {
                api.delete(&format!("p{n}"), &DeleteParams::default())
                    .await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    let sent = started.elapsed();
    until("all are gone", Duration::from_secs(300), async || {
        let left = api.list(&ListParams::default()).await?.items.len();
        ensure!(left == 0, "{left} left");
        Ok(())
    })
    .await?;
    println!(
        "{count} settled Processes deleted together (all DELETEs done in {:.2} s): first DELETE -> all gone {:.2} s",
        sent.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
