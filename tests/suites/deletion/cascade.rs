//! `kubectl delete` of each kind.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_harness::{PodGuard, lifecycle_id, until};
use serde_json::json;

use crate::support::{QUEUE, SOON, is_open, says, settled};

async fn waits_and_goes(kind: &str) -> Result<()> {
    let (scene, process) = settled(kind, &json!({})).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    let guard = PodGuard::start(env, "l2o", QUEUE);
    let cascade = format!("--cascade={kind}");
    env.kubectl(&["delete", "process", "l2o", &cascade, "--wait=false"], "")?;
    says(env, "waiting for 1 running workflow").await?;
    // The garbage collector has had its turn by now, and the workers are there.
    env.temporal.quick(&env.apps, QUEUE, "meanwhile").await?;
    let pods = env.pods("l2o").await?;
    ensure!(
        pods.len() == 1 && pods[0].metadata.deletion_timestamp.is_none(),
        "{kind}: workers are left while it waits"
    );
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    guard.hold()?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn background() -> Result<()> {
    waits_and_goes("background").await
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground() -> Result<()> {
    waits_and_goes("foreground").await
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_with_nothing_open_goes_at_once_and_leaves_nothing() -> Result<()> {
    let (scene, process) = settled("fgidle", &json!({})).await?;
    let env = &scene.env;
    env.temporal.quick(&env.apps, QUEUE, "done").await?;
    env.kubectl(
        &[
            "delete",
            "process",
            "l2o",
            "--cascade=foreground",
            "--wait=true",
            "--timeout=60s",
        ],
        "",
    )?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orphan_leaves_workers_running_and_unowned() -> Result<()> {
    let (scene, process) = settled("orphan", &json!({ "onTimeout": "Terminate" })).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    let pods: Vec<_> = env
        .pods("l2o")
        .await?
        .iter()
        .map(kube::ResourceExt::uid)
        .collect();
    env.kubectl(
        &[
            "delete",
            "process",
            "l2o",
            "--cascade=orphan",
            "--wait=true",
            "--timeout=60s",
        ],
        "",
    )?;
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(&process), SOON)
        .await?;
    let left = env.deployments("l2o").await?;
    ensure!(
        left.len() == 1 && left[0].owner_references().is_empty(),
        "{left:?}"
    );
    let after: Vec<_> = env
        .pods("l2o")
        .await?
        .iter()
        .map(kube::ResourceExt::uid)
        .collect();
    ensure!(pods == after, "the same pods: {pods:?} {after:?}");
    is_open(env, "long").await?;
    let answer = env.temporal.quick(&env.apps, QUEUE, "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "they serve: {answer:?}");
    env.no_workflow_about(&process).await?;
    env.unguard_versions();
    env.api::<Deployment>()
        .delete(&left[0].name_any(), &DeleteParams::background())
        .await?;
    until("its pods are gone", SOON, async || {
        let pods = env.pods("l2o").await?.len();
        ensure!(pods == 0, "{pods}");
        Ok(())
    })
    .await?;
    scene.finish().await
}
