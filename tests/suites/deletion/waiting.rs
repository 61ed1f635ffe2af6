//! While a deletion waits: workers serve, crashes and hands do not matter.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_harness::{
    Operator, OperatorOptions, PodGuard, QUIET, condition, lifecycle_id, until,
};
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use crate::support::{QUEUE, SOON, ended, is_open, let_go, says, settled, told};

#[tokio::test(flavor = "multi_thread")]
async fn workers_serve_until_the_last_one_is_closed() -> Result<()> {
    let (scene, process) = settled("serve", &json!({})).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow").await?;
    // Started in spite of it: counted, told, served.
    env.temporal.start_waiting(&env.apps, QUEUE, "late").await?;
    says(env, "; 1 started since the deletion began").await?;
    env.temporal.quick(&env.apps, QUEUE, "quick").await?;
    env.temporal.finish_waiting(&env.apps, "long").await?;
    says(env, "waiting for 1 running workflow").await?;
    let refused = env.ask(&process, "restart", &json!({})).await?;
    ensure!(
        refused
            .as_ref()
            .is_err_and(|why| why.contains("being deleted")),
        "{refused:?}"
    );
    env.temporal.finish_waiting(&env.apps, "late").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    let events = told(env, &process).await?;
    ensure!(events.contains(&"LateStarts".to_owned()), "{events:?}");
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_is_kept_by_an_operator_that_comes_after_it() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 8, "onTimeout": "Terminate" });
    let (scene, process) = settled("kill", &policy).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    let waiting = says(env, "waiting for 1 running workflow").await?;
    scene.operator.kill();
    let asked = waiting
        .metadata
        .deletion_timestamp
        .map(|time| time.0)
        .unwrap_or_default();
    until("its time is over", SOON, async || {
        let since = jiff::Timestamp::now().duration_since(asked).as_secs();
        ensure!(since > 9, "{since} s");
        Ok(())
    })
    .await?;
    is_open(env, "long").await?;
    let again = Operator::start(env, OperatorOptions::default()).await?;
    let back = std::time::Instant::now();
    env.gone_within("l2o", SOON).await?;
    println!(
        "gone {:.1} s after the operator was back",
        back.elapsed().as_secs_f64()
    );
    ended(env, "long", WorkflowExecutionStatus::Terminated).await?;
    env.nothing_is_left(&process).await?;
    scene
        .invariants
        .hold(env, &[&scene.operator, &again], QUIET)
        .await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_terminated_in_between_goes_on_from_the_process() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 15, "onTimeout": "Terminate" });
    let (scene, process) = settled("anew", &policy).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow").await?;
    env.temporal
        .terminate(&env.control, &lifecycle_id(&process))
        .await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    ended(env, "long", WorkflowExecutionStatus::Terminated).await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_lost_in_between_are_made_again() -> Result<()> {
    let (scene, process) = settled("lost", &json!({})).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow").await?;
    // Somebody takes the workers away.
    env.unguard_versions();
    let before = env.deployments("l2o").await?.remove(0);
    env.api::<Deployment>()
        .delete(&before.name_any(), &DeleteParams::background())
        .await?;
    until("its Deployment is made again", SOON, async || {
        let now = env.deployments("l2o").await?;
        ensure!(now.len() == 1 && now[0].uid() != before.uid(), "not yet");
        Ok(())
    })
    .await?;
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(&process).await?;
    scene.operator.stop().await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_does_not_hold_a_deletion() -> Result<()> {
    let (scene, process) = settled("suspended", &json!({})).await?;
    let env = &scene.env;
    env.patch("l2o", &json!({ "spec": { "suspend": true } }))
        .await?;
    env.delete("l2o").await?;
    env.gone_within("l2o", Duration::from_secs(20)).await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn force_finalize_ends_a_wait() -> Result<()> {
    let policy = json!({ "timeoutSeconds": 3600, "onTimeout": "Terminate" });
    let (scene, process) = settled("force", &policy).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow").await?;
    env.unguard_versions();
    let_go(env)?;
    env.gone_within("l2o", Duration::from_secs(20)).await?;
    is_open(env, "long").await?;
    env.temporal.terminate(&env.apps, "long").await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

/// Killed wherever it is, an operator neither ends the wait nor takes a worker away.
#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_neither_end_a_wait_nor_stop_a_pod() -> Result<()> {
    let (scene, process) = settled("kills", &json!({ "timeoutSeconds": 3600 })).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    let before = uids(&env.pods("l2o").await?);
    env.delete("l2o").await?;
    let waiting = says(env, "waiting for 1 running workflow until").await?;
    scene.operator.kill();
    let mut killed = Vec::new();
    for n in 0..9 {
        let again = Operator::start(env, OperatorOptions::default()).await?;
        // Somewhere in what it does after a start.
        tokio::time::sleep(Duration::from_millis(150 * n)).await;
        again.kill();
        killed.push(again);
        env.temporal
            .quick(&env.apps, QUEUE, &format!("quick-{n}"))
            .await?;
        is_open(env, "long").await?;
    }
    let last = Operator::start(env, OperatorOptions::default()).await?;
    let still = says(env, "waiting for 1 running workflow until").await?;
    ensure!(
        condition(&still, "Ready").2 == condition(&waiting, "Ready").2,
        "the same deadline: {:?}",
        condition(&still, "Ready")
    );
    let now = uids(&env.pods("l2o").await?);
    ensure!(now == before, "the same pods: {before:?} {now:?}");
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    let events = told(env, &process).await?;
    for once in ["Deleting", "WaitingForWorkflows", "StoppingWorkers"] {
        let count = events.iter().filter(|it| *it == once).count();
        ensure!(count == 1, "{once}: {count} times");
    }
    env.nothing_is_left(&process).await?;
    let mut all: Vec<&Operator> = killed.iter().collect();
    all.extend([&scene.operator, &last]);
    scene.invariants.hold(env, &all, QUIET).await?;
    scene.env.remove().await
}

fn uids(pods: &[Pod]) -> Vec<Option<String>> {
    pods.iter().map(kube::ResourceExt::uid).collect()
}

/// A version whose pods were stopped by its drain has them back when a run is pinned to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_pods_gets_them_back_for_what_is_pinned_to_it() -> Result<()> {
    let (scene, process) = settled("pinned", &json!({})).await?;
    let env = &scene.env;
    let kept = json!({ "scaleDownDelaySeconds": 0, "deleteDelaySeconds": 3600 });
    env.patch("l2o", &json!({ "spec": { "drain": kept } }))
        .await?;
    let status = process.status.as_ref();
    let current = status.and_then(|status| status.current_version.clone());
    let old = current.map(|current| current.build_id).unwrap_or_default();
    let replicas = async || {
        let deployments = env.deployments("l2o").await?;
        let found = deployments
            .iter()
            .find(|it| it.labels().values().any(|value| *value == old));
        anyhow::Ok(found.and_then(|it| it.spec.as_ref()?.replicas))
    };
    env.set_tag("l2o", "v2").await?;
    until("v1 has no pods", SOON, async || {
        let replicas = replicas().await?;
        ensure!(replicas == Some(0), "{replicas:?}");
        Ok(())
    })
    .await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow until").await?;
    ensure!(replicas().await? == Some(0), "nothing is open on it");
    let deployment = format!("{}/l2o", env.namespace);
    // It completes its first task: there is a worker.
    env.temporal
        .start_waiting_as(&env.apps, QUEUE, "old", false, Some((&deployment, &old)))
        .await?;
    let output = env.temporal.finish_waiting(&env.apps, "old").await?;
    ensure!(output.completed_on == old, "{output:?}");
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}
