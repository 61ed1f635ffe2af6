//! Metrics of worker queues.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use process_operator_harness::{Env, OperatorOptions, manifest, until};
use serde_json::json;

use crate::metrics::{nothing_is_named, value};
use crate::support::{SOON, Scene};

async fn watched(name: &str, more: &[&str]) -> Result<Scene> {
    let env = Env::new(name).await?;
    let mut args = vec!["--queue-metrics-seconds".to_owned(), "1".to_owned()];
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    let options = OperatorOptions {
        args,
        ..OperatorOptions::default()
    };
    Scene::of(env, options).await
}

async fn page(scene: &Scene) -> Result<String> {
    Ok(scene.operator.get("/metrics").await?.1)
}

/// One of the gauges, of workflow tasks.
fn gauge(env: &Env, page: &str, name: &str, role: &str) -> Result<f64> {
    let namespace = &env.apps;
    let labels = format!("temporal_namespace=\"{namespace}\",kind=\"workflow\",role=\"{role}\"");
    value(page, &format!("process_worker_{name}{{{labels}}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_without_workers_shows_and_goes_when_they_come() -> Result<()> {
    let scene = watched("backlog", &[]).await?;
    let env = &scene.env;
    let mut none = manifest(env, "l2o", "v1");
    none["spec"]["replicas"] = json!(0);
    env.apply(&none).await?;
    for id in ["one", "two", "three"] {
        env.temporal
            .start_untaken(&env.apps, "l2o-tq", id, None)
            .await?;
    }
    let first = until("a backlog shows", SOON, async || {
        let page = page(&scene).await?;
        let backlog = gauge(env, &page, "backlog_tasks", "none")?;
        ensure!((backlog - 3.0).abs() < f64::EPSILON, "{backlog}");
        let added = gauge(env, &page, "tasks_added_per_second", "none")?;
        ensure!(added > 0.0, "three came: {added} a second");
        gauge(env, &page, "backlog_age_seconds", "none")
    })
    .await?;
    let seen = until("it grows older", SOON, async || {
        let page = page(&scene).await?;
        let age = gauge(env, &page, "backlog_age_seconds", "none")?;
        ensure!(age > first + 1.0, "{age}, {first} before");
        Ok(page)
    })
    .await?;
    let pollers = gauge(env, &seen, "pollers", "none")?;
    ensure!(pollers < 0.5, "{pollers} pollers");
    let unserved = gauge(env, &seen, "unserved_backlog_age_seconds", "none")?;
    ensure!(unserved > first, "nobody polls: {unserved}");
    nothing_is_named(env, &seen)?;

    env.patch("l2o", &json!({ "spec": { "replicas": 1 } }))
        .await?;
    env.wait_settled("l2o", "v1").await?;
    until("it is worked off", SOON, async || {
        let page = page(&scene).await?;
        let of = |name| gauge(env, &page, name, "current");
        ensure!(of("backlog_tasks")? < 0.5, "{page}");
        ensure!(of("unserved_backlog_age_seconds")? < 0.5, "{page}");
        ensure!(of("pollers")? > 0.5, "{page}");
        ensure!(of("tasks_dispatched_per_second")? > 0.0, "{page}");
        Ok(())
    })
    .await?;
    for id in ["one", "two", "three"] {
        env.temporal.finish_waiting(&env.apps, id).await?;
    }
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_queue_is_looked_at_more_and_more_rarely() -> Result<()> {
    let scene = watched("idlequeue", &["--queue-metrics-names"]).await?;
    let env = &scene.env;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;
    let looks = async |wanted: f64| {
        until("it is looked at", SOON, async || {
            let page = page(&scene).await?;
            let looks = value(&page, "process_operator_queue_looks_total{result=\"ok\"}")?;
            ensure!(looks >= wanted, "{looks}");
            Ok((looks, page))
        })
        .await
    };
    let named = format!(
        "process_namespace=\"{}\",process=\"l2o\",task_queue=\"l2o-tq\",build_id=\"v1-",
        env.namespace
    );
    let (before, _) = until("the version is looked at", SOON, async || {
        let found = looks(1.0).await?;
        ensure!(found.1.contains(&named), "{named} is not in {}", found.1);
        Ok(found)
    })
    .await?;
    let began = Instant::now();
    looks(before + 3.0).await?;
    // At the interval it would be three seconds; what nothing moves on waits two, four and more.
    let took = began.elapsed();
    ensure!(took > Duration::from_secs(5), "three looks in {took:?}");
    scene.finish().await
}
