//! The spec changes while a version is on its way, and back again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, Traffic, is_current, lifecycle_id, until};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, now, rollout, rollouts, routed, told};

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_spec_supersedes_in_every_step() -> Result<()> {
    let (scene, process) = Scene::settled("supersede").await?;
    let env = &scene.env;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(150));
    let steps = canary(&json!([{ "weight": 20, "pause": {} }, { "weight": 60, "pause": {} }]));
    // While its pods start.
    let slow = [("START_DELAY_MS", "60000")];
    env.patch("l2o", &change("v2", &slow, &steps)).await?;
    until("v2 is being rolled out", SOON, async || {
        ensure!(rollouts(env, &process, "v2").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    // In the first step, and in the second.
    env.patch("l2o", &change("v3", &[], &steps)).await?;
    at_step(env, 1).await?;
    routed(env, "v1", "v3", 20.0).await?;
    env.patch("l2o", &change("v2", &[], &steps)).await?;
    env.wait_process("l2o", "v2 in its first step", SOON, |process| {
        let target = process
            .status
            .as_ref()
            .and_then(|it| it.target_version.as_ref());
        target.is_some_and(|it| it.build_id.starts_with("v2-"))
            && rollout(process).stage == "Pausing"
    })
    .await?;
    routed(env, "v1", "v2", 20.0).await?;
    env.grant(&process, "promote").await?;
    at_step(env, 2).await?;
    env.patch(
        "l2o",
        &change(
            "v3",
            &[],
            &json!({ "strategy": "RollingUpdate", "steps": null }),
        ),
    )
    .await?;
    env.wait_settled("l2o", "v3").await?;
    traffic.stop().await?.all_answered()?;
    ensure!(env.deployments("l2o").await?.len() == 1, "no residue");
    let each = ["0 % of new workflows", "20 % of", "60 % of"];
    superseded(env, &process, &each).await?;
    scene.finish().await
}

/// An Event for each rollout that gave way to a newer spec, in this order.
async fn superseded(env: &Env, process: &Process, each: &[&str]) -> Result<()> {
    until("each is told", SOON, async || {
        let events = env.events(process).await?;
        let told = events.iter().filter(|(it, _)| it == "RolloutSuperseded");
        let notes: Vec<&str> = told.map(|(_, note)| note.as_str()).collect();
        let fits = |(note, words): (&&str, &&str)| note.contains(*words);
        ensure!(
            notes.len() == each.len() && notes.iter().zip(each).all(fits),
            "{notes:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_to_a_kept_version_is_short_and_to_a_forgotten_one_is_not() -> Result<()> {
    let (scene, process) = Scene::settled("rollback").await?;
    let env = &scene.env;
    let steps = json!([{ "weight": 20, "pause": {} }]);
    let mut policy = canary(&steps);
    policy["revisionHistoryLimit"] = 1.into();
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    at_step(env, 1).await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    // Back to v1, whose pods are gone: no step, no promotion.
    env.patch("l2o", &change("v1", &[], &policy)).await?;
    let back = env.wait_settled("l2o", "v1").await?;
    ensure!(
        told(&back).contains(&"RollbackStarted".to_owned()),
        "{:?}",
        told(&back)
    );
    // v3 and v2 push each other out of what is kept; only the last one retired stays.
    for tag in ["v3", "v2"] {
        env.patch(
            "l2o",
            &change(
                tag,
                &[],
                &json!({ "strategy": "RollingUpdate", "steps": null }),
            ),
        )
        .await?;
        env.wait_settled("l2o", tag).await?;
    }
    env.patch("l2o", &change("v1", &[], &policy)).await?;
    let stepped = at_step(env, 1).await?;
    ensure!(
        told(&stepped)
            .last()
            .is_some_and(|it| it == "WaitingForPromotion"),
        "{:?}",
        told(&stepped)
    );
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}

/// Waits until nothing is left of a version: no Deployment, and no record in Temporal.
async fn left_nothing(env: &Env, tag: &str) -> Result<()> {
    let prefix = format!("{tag}-");
    let name = format!("{}/l2o", env.namespace);
    until(&format!("nothing is left of {tag}"), SOON, async || {
        let made = env.deployments("l2o").await?;
        let of_it = |build_id: &String| build_id.starts_with(&prefix);
        let mut labels = made.iter().map(|it| it.labels().get("ameide.io/build-id"));
        ensure!(!labels.any(|it| it.is_some_and(of_it)), "a Deployment");
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let known = info.map(|info| info.version_summaries).unwrap_or_default();
        let known: Vec<String> = known
            .into_iter()
            .filter_map(|version| Some(version.deployment_version?.build_id))
            .collect();
        ensure!(!known.iter().any(of_it), "records of {known:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn back_to_the_serving_version_in_mid_ramp_leaves_nothing_of_the_other() -> Result<()> {
    let (scene, process) = Scene::settled("aba").await?;
    let env = &scene.env;
    let steps = canary(&json!([{ "weight": 40, "pause": {} }]));
    env.patch("l2o", &change("v2", &[], &steps)).await?;
    at_step(env, 1).await?;
    env.patch("l2o", &change("v1", &[], &steps)).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    routed(env, "v1", "", 0.0).await?;
    ensure!(
        told(&settled).contains(&"RolloutSuperseded".to_owned()),
        "{:?}",
        told(&settled)
    );
    superseded(env, &process, &["40 % of new workflows went to it"]).await?;
    ensure!(
        settled
            .status
            .is_some_and(|status| status.rollout.is_none())
    );
    left_nothing(env, "v2").await?;
    // And without being seen in between.
    env.patch("l2o", &change("v3", &[], &steps)).await?;
    env.patch("l2o", &change("v1", &[], &steps)).await?;
    env.wait_settled("l2o", "v1").await?;
    left_nothing(env, "v3").await?;
    ensure!(env.deployments("l2o").await?.len() == 1, "v1 is left");
    scene.finish().await
}

/// Rollouts of a hundred edits within seconds at most: three at once, then one when the spec rests, and a few more
/// where a busy machine takes long from one edit to the next.
const ROLLOUTS: usize = 8;
/// Events of the lifecycle's history at most.
const EVENTS: usize = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_edits_end_in_the_last_one() -> Result<()> {
    let (scene, process) = Scene::settled("thrash").await?;
    let env = &scene.env;
    let steps = canary(&json!([{ "weight": 50 }]));
    for n in 0..100 {
        let tag = if n % 2 == 0 { "v2" } else { "v3" };
        let n = n.to_string();
        env.patch("l2o", &change(tag, &[("EDIT", n.as_str())], &steps))
            .await?;
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    let last = env
        .wait_process(
            "l2o",
            "the last edit is current",
            Duration::from_secs(180),
            |process| is_current(process, "v3"),
        )
        .await?;
    env.wait_settled("l2o", "v3").await?;
    let wanted = process_operator_crds::names::Version::of(&now(env).await?)?.build_id;
    let current = last
        .status
        .and_then(|status| status.current_version)
        .context("current")?;
    ensure!(current.build_id == wanted.as_str());
    let uid = process.uid().unwrap_or_default();
    let prefix = format!("rollout/{}/l2o/{uid}/", env.namespace);
    let started = env.workflows(&prefix).await?.len();
    let history = env
        .temporal
        .history(&env.control, &lifecycle_id(&process))
        .await?;
    println!("{started} rollouts for 100 edits, {} events", history.len());
    ensure!(started <= ROLLOUTS, "{started} rollouts for 100 edits");
    ensure!(history.len() <= EVENTS, "{} events", history.len());
    env.temporal
        .record_histories(&env.control, "restless")
        .await?;
    ensure!(env.deployments("l2o").await?.len() == 1, "no residue");
    scene.finish().await
}
