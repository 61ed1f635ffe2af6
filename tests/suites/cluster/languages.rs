//! The example workers in Go and Python serve a Process as the one in Rust does.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::watcher;
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, is_current, manifest};
use serde_json::json;

const QUEUE: &str = "l2o-tq";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_go_rolls_and_stops_as_it_should() -> Result<()> {
    rolls_and_stops("go").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_python_rolls_and_stops_as_it_should() -> Result<()> {
    rolls_and_stops("python").await
}

async fn rolls_and_stops(language: &str) -> Result<()> {
    let scene = Scene::new(language).await?;
    let env = &scene.env;
    let image = |tag| format!("localhost/process-example-worker-{language}:{tag}");
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["image"] = json!(image("v1"));
    wanted["spec"]["worker"]["terminationGracePeriodSeconds"] = json!(20);
    env.apply(&wanted).await?;
    env.wait_settled("l2o", "v1").await?;
    let first = env.temporal.quick(&env.apps, QUEUE, "first").await?;
    ensure!(
        first.build_id.starts_with("v1-"),
        "the answer of v1: {first:?}"
    );
    ensure!(
        first.definition_id == "L2O_v3" && first.tenant_id == "t123",
        "{first:?}"
    );

    // Another image: what is open stays where it began.
    env.temporal
        .start_waiting(&env.apps, QUEUE, "stays")
        .await?;
    env.patch("l2o", &json!({ "spec": { "image": image("v2") } }))
        .await?;
    let second = current(env, "v2", &first.build_id).await?;
    let answer = env.temporal.quick(&env.apps, QUEUE, "second").await?;
    ensure!(answer.build_id == second, "the answer of v2: {answer:?}");
    let stayed = env.temporal.finish_waiting(&env.apps, "stays").await?;
    ensure!(
        stayed.started_on == first.build_id && stayed.completed_on == first.build_id,
        "it completes on its own version: {stayed:?}"
    );

    // Another environment of the same image. This one lets workflows move on.
    let moving = json!([{ "name": "VERSIONING_BEHAVIOR", "value": "AutoUpgrade" }]);
    env.patch("l2o", &json!({ "spec": { "worker": { "env": moving } } }))
        .await?;
    let third = current(env, "v2", &second).await?;
    env.temporal
        .start_waiting(&env.apps, QUEUE, "moves")
        .await?;
    env.patch("l2o", &json!({ "spec": { "image": image("v1") } }))
        .await?;
    let fourth = current(env, "v1", &third).await?;
    let moved = env.temporal.finish_waiting(&env.apps, "moves").await?;
    ensure!(
        moved.started_on == third && moved.completed_on == fourth,
        "it completes on the version after: {moved:?}"
    );

    env.wait_settled("l2o", "v1").await?;
    stops(env).await?;
    scene.finish().await
}

/// The build id of the version with this tag, once it and not `before` is Current.
async fn current(env: &Env, tag: &str, before: &str) -> Result<String> {
    let build = |process: &Process| {
        let status = process.status.as_ref()?;
        Some(status.current_version.as_ref()?.build_id.clone())
    };
    let what = format!("{tag} is Current after {before}");
    let process = env
        .wait_process("l2o", &what, Duration::from_secs(90), |process| {
            is_current(process, tag) && build(process).is_some_and(|build| build != before)
        })
        .await?;
    build(&process).context("a current version")
}

/// A pod that is deleted ends its activity and then itself.
async fn stops(env: &Env) -> Result<()> {
    env.temporal
        .start_working(&env.apps, QUEUE, "works", 5000)
        .await?;
    let mut pods = env.pods("l2o").await?;
    // One of the version before may still be on its way out.
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    ensure!(pods.len() == 1, "{} pods", pods.len());
    let name = pods
        .pop()
        .and_then(|pod| pod.metadata.name)
        .context("a pod")?;
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = std::pin::pin!(watcher(env.api::<Pod>(), config));
    let (mut deleted, mut code) = (false, None);
    let watched = async {
        while let Some(change) = changes.next().await {
            match change? {
                watcher::Event::InitDone if !deleted => {
                    env.api::<Pod>()
                        .delete(&name, &DeleteParams::default())
                        .await?;
                    deleted = true;
                }
                watcher::Event::Apply(pod) => code = code.or(exit_code(&pod)),
                watcher::Event::Delete(pod) => return Ok(code.or(exit_code(&pod))),
                _ => {}
            }
        }
        anyhow::bail!("the watch has ended")
    };
    let code = tokio::time::timeout(Duration::from_secs(60), watched).await;
    let code = code.context("the pod is not gone in time")??;
    ensure!(code == Some(0), "the worker ends with {code:?}");
    let report = env.temporal.wait_worked(&env.apps, "works").await?;
    ensure!(
        report.attempt == 1 && report.pod == name,
        "{name} had time to end its activity: {report:?}"
    );
    Ok(())
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = containers.first()?.state.as_ref()?;
    Some(state.terminated.as_ref()?.exit_code)
}
