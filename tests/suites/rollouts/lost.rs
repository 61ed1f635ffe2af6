//! Somebody deletes the Deployment of a version that takes a share of the workflows.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_harness::{Env, Scene, Traffic, until};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, now, rollout, rollouts, routed};

/// The Deployment of the version with this tag.
async fn deployment(env: &Env, tag: &str) -> Result<Deployment> {
    let prefix = format!("{tag}-");
    let all = env.deployments("l2o").await?;
    let mut of_it = all.into_iter().filter(|found| {
        let build_id = found.labels().get("ameide.io/build-id");
        build_id.is_some_and(|it| it.starts_with(&prefix))
    });
    of_it.next().context("no Deployment")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_deleted_in_a_step_is_made_again_and_the_share_stays() -> Result<()> {
    let (scene, process) = Scene::settled("lostramp").await?;
    let env = &scene.env;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(200));
    let mut policy = canary(&json!([{ "weight": 50, "pause": {} }]));
    // Pods that are missing for a moment do not speak against it.
    policy["analysis"] = json!({ "minWorkflows": 0, "maxFailurePercent": 0, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    at_step(env, 1).await?;
    routed(env, "v1", "v2", 50.0).await?;
    let before = deployment(env, "v2").await?;
    env.api::<Deployment>()
        .delete(&before.name_any(), &DeleteParams::background())
        .await?;
    until("another Deployment of v2 is ready", SOON, async || {
        let found = deployment(env, "v2").await?;
        let ready = found.status.as_ref().and_then(|it| it.ready_replicas);
        ensure!(found.uid() != before.uid(), "it is the one before");
        ensure!(ready == Some(1), "{ready:?}");
        Ok(())
    })
    .await?;
    routed(env, "v1", "v2", 50.0).await?;
    let seen = rollout(&now(env).await?);
    ensure!(seen.step == 1 && seen.weight == 50, "{seen:?}");
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    ensure!(answers.of("v1") > 0 && answers.of("v2") > 0, "{answers:?}");
    let ids = rollouts(env, &process, "v2").await?;
    ensure!(ids.len() == 1, "one rollout: {ids:?}");
    scene.finish().await
}
