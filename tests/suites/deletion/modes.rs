//! The deletion of a Process whose versions Temporal does not keep apart.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use process_operator_crds::names;
use process_operator_harness::{Env, PodGuard, Scene, manifest, until};
use serde_json::json;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use crate::support::{QUEUE, SOON, ended, says};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_a_versions_queue_is_waited_for_and_then_ended() -> Result<()> {
    let scene = Scene::new("queues").await?;
    let env = &scene.env;
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["rollout"] = json!({ "versioning": "TaskQueuePerVersion" });
    wanted["spec"]["deletion"] = json!({ "timeoutSeconds": 5, "onTimeout": "Terminate" });
    env.apply(&wanted).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    env.guard_versions("l2o");
    let status = process.status.as_ref();
    let queue = status.and_then(|status| status.task_queue.clone());
    let queue = queue.context("no queue in status")?;
    env.temporal
        .start_waiting(&env.apps, &queue, "long")
        .await?;
    env.temporal
        .start_waiting(&env.apps, &queue, "done")
        .await?;
    env.delete("l2o").await?;
    says(env, "waiting for 2 running workflows until").await?;
    let finished = env.temporal.finish_waiting(&env.apps, "done").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    env.gone_within("l2o", SOON).await?;
    ended(env, "long", WorkflowExecutionStatus::Terminated).await?;
    until("nothing of it is left", SOON, async || {
        ensure!(env.deployments("l2o").await?.is_empty());
        let map = env.api::<ConfigMap>().get_opt("l2o-routing").await?;
        ensure!(map.is_none(), "the routing is left");
        Ok(())
    })
    .await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

/// Waits until the canary and the version that serves have a pod each. Until then pods of the one go for those of the
/// other, which take over what ran on them.
async fn shared(env: &Env) -> Result<()> {
    until("each version has one pod", SOON, async || {
        let pods = env.pods("l2o").await?;
        let stay = pods
            .iter()
            .all(|pod| pod.metadata.deletion_timestamp.is_none());
        let versions: BTreeSet<_> = pods
            .iter()
            .filter_map(|pod| pod.labels().get(names::label::BUILD_ID))
            .collect();
        ensure!(
            stay && pods.len() == 2 && versions.len() == 2,
            "{} pods of {versions:?}",
            pods.len()
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_versions_a_deletion_in_the_midst_of_a_canary_waits_and_leaves_nothing()
-> Result<()> {
    let scene = Scene::new("none").await?;
    let env = &scene.env;
    let mut wanted = manifest(env, "l2o", "v1");
    wanted["spec"]["replicas"] = 2.into();
    wanted["spec"]["rollout"] = json!({
        "versioning": "None", "strategy": "Canary", "steps": [{ "weight": 50, "pause": {} }],
    });
    wanted["spec"]["deletion"] = json!({ "timeoutSeconds": 60, "onTimeout": "Terminate" });
    env.apply(&wanted).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.set_tag("l2o", "v2").await?;
    shared(env).await?;
    // Nothing is pinned: none may go while anything is open on the queue.
    let guard = PodGuard::start(env, "l2o", QUEUE);
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow until").await?;
    ensure!(!env.deployments("l2o").await?.is_empty(), "workers serve");
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    until("no Deployment is left", SOON, async || {
        ensure!(env.deployments("l2o").await?.is_empty());
        Ok(())
    })
    .await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}
