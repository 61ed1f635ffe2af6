//! Tags that are expected to move.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, condition, manifest, until};
use serde_json::json;

use crate::support::{SOON, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_may_move_is_told_and_no_longer_when_it_is_held() -> Result<()> {
    let (scene, settled) = Scene::settled("tags").await?;
    let env = &scene.env;
    let (status, reason, _) = condition(&settled, "MutableTag");
    ensure!(
        status == "False" && reason == "AsExpected",
        "{status} {reason}"
    );

    let policy = |policy: &str| json!({ "spec": { "imagePullPolicy": policy } });
    env.patch("l2o", &policy("Always")).await?;
    let told = env
        .wait_process("l2o", "told", SOON, |process| {
            condition(process, "MutableTag").0 == "True"
        })
        .await?;
    let (_, reason, message) = condition(&told, "MutableTag");
    ensure!(reason == "TagMayMove", "{reason}");
    for part in [
        "process-example-worker:v1",
        "spec.image by digest (name@sha256:",
        "IfNotPresent",
        // Why.
        "pods of one version would differ",
        "open workflows fail when other code replays them",
    ] {
        ensure!(message.contains(part), "{message}");
    }
    ensure!(condition(&told, "Ready").0 == "True", "v1 serves");

    env.patch("l2o", &policy("IfNotPresent")).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    ensure!(condition(&settled, "MutableTag").0 == "False", "held again");
    scene.finish().await
}

/// The pods of the Process, each with what its image was when it started.
async fn running(env: &Env) -> Result<Vec<(String, String)>> {
    let pods = env.pods("l2o").await?.into_iter();
    let pods = pods.map(|pod| {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|it| it.container_statuses.as_ref());
        let image = statuses
            .and_then(|it| it.first())
            .map(|it| it.image_id.clone());
        (pod.uid().unwrap_or_default(), image.unwrap_or_default())
    });
    Ok(pods.collect())
}

fn build_id(process: &Process) -> Option<String> {
    let current = process.status.as_ref()?.current_version.as_ref()?;
    Some(current.build_id.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_runs_what_a_tag_names_by_then_as_the_same_version() -> Result<()> {
    const MOVING: &str = "localhost/process-example-moving:latest";
    let scene = Scene::new("moved").await?;
    let env = &scene.env;
    let means = |tag: &str| {
        let image = format!("localhost/process-example-worker:{tag}");
        env.testbed.image_tag(&image, MOVING)
    };
    if !means("v1")? {
        // Nobody here knows the way to the images of that cluster.
        return scene.finish().await;
    }
    let mut first = manifest(env, "l2o", "v1");
    first["spec"]["image"] = MOVING.into();
    env.apply(&first).await?;
    let process = env.wait_settled("l2o", "latest").await?;
    ensure!(condition(&process, "MutableTag").0 == "True", "it may move");
    let first = running(env).await?;
    let [(before, code)] = &first[..] else {
        anyhow::bail!("one pod: {first:?}");
    };

    means("v2")?;
    ensure!(running(env).await? == first, "it goes on as it was");
    env.grant(&process, "restart").await?;
    until("another pod with other code", SOON, async || {
        let pods = running(env).await?;
        let [(pod, now)] = &pods[..] else {
            anyhow::bail!("{pods:?}");
        };
        ensure!(pod != before && !now.is_empty() && now != code, "{pods:?}");
        Ok(())
    })
    .await?;
    let after = env.wait_settled("l2o", "latest").await?;
    let version = build_id(&process).context("a version")?;
    ensure!(
        build_id(&after).as_ref() == Some(&version),
        "no version of its own"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id == version, "{answer:?}");
    let history = after.status.iter().flat_map(|status| &status.history);
    let rollouts = history.filter(|entry| entry.what == "RolloutStarted");
    ensure!(rollouts.count() == 1, "that is no rollout");
    scene.finish().await
}
