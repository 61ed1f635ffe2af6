//! What a worker is told by variables, and says that it goes by.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_harness::{Env, SOON, Scene, manifest, until};
use serde_json::json;

/// What the only worker serves as metrics, read through the API server.
async fn metrics(env: &Env, port: u16) -> Result<String> {
    let pods = env.pods("l2o").await?;
    let pod = pods.first().context("no pod")?.name_any();
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}:{port}/proxy/metrics",
        env.namespace
    );
    env.kubectl(&["get", "--raw", &path], "")
}

/// Activities that the worker would take in addition, by its series with these labels.
fn free(page: &str, tags: &[&str]) -> Result<f64> {
    let found = page.lines().find(|line| {
        line.starts_with("temporal_worker_task_slots_available{")
            && line.contains("worker_type=\"ActivityWorker\"")
            && tags.iter().all(|tag| line.contains(tag))
    });
    let line = found.with_context(|| format!("none with {tags:?} in {page}"))?;
    let value = line.rsplit(' ').next().unwrap_or_default();
    Ok(value.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_metrics_and_the_most_at_once_are_what_the_worker_goes_by() -> Result<()> {
    let scene = Scene::new("told").await?;
    let env = &scene.env;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["rollout"] = json!({ "maxConcurrencyPerTenant": 3 });
    process["spec"]["observability"] =
        json!({ "metricsPort": 9464, "metricsTags": { "team": "orders", "region": "eu" } });
    env.apply(&process).await?;
    env.wait_settled("l2o", "v1").await?;
    let reports = async |activities: f64, tags: &[&str]| {
        until("the worker reports it", SOON, async || {
            let free = free(&metrics(env, 9464).await?, tags)?;
            ensure!((free - activities).abs() < f64::EPSILON, "{free}");
            Ok(())
        })
        .await
    };
    reports(3.0, &["team=\"orders\"", "region=\"eu\""]).await?;
    // One that is under way takes a place.
    env.temporal
        .start_working(&env.apps, "l2o-tq", "busy", 20_000)
        .await?;
    reports(2.0, &["team=\"orders\"", "region=\"eu\""]).await?;
    env.temporal.wait_worked(&env.apps, "busy").await?;

    let change = json!({ "spec": {
        "rollout": { "maxConcurrencyPerTenant": 5 },
        "observability": { "metricsTags": { "team": "billing" } },
    } });
    env.patch("l2o", &change).await?;
    env.wait_process("l2o", "seen", SOON, |process| {
        let status = process.status.as_ref();
        status.and_then(|it| it.observed_generation) == process.metadata.generation
    })
    .await?;
    env.wait_settled("l2o", "v1").await?;
    reports(5.0, &["team=\"billing\"", "region=\"eu\""]).await?;
    scene.finish().await
}
