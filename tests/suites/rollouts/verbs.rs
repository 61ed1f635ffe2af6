//! What people ask for, where it is granted and where it is refused.

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use process_operator_harness::{Scene, condition, is_current, until};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, reason, rollout, rollouts, routed, told};

/// A canary that goes on only when it is told to.
pub(crate) fn open_steps() -> serde_json::Value {
    canary(&json!([
        { "weight": 20, "pause": {} },
        { "weight": 60, "pause": {} },
    ]))
}

#[tokio::test(flavor = "multi_thread")]
async fn promote_takes_one_step_or_all_of_them() -> Result<()> {
    let (scene, process) = Scene::settled("promote").await?;
    let env = &scene.env;
    for verb in ["pause", "resume", "promote", "abort", "retry"] {
        let why = env.refusal(&process, verb).await?;
        ensure!(!why.is_empty() && !why.contains("unknown"), "{verb}: {why}");
    }
    env.patch("l2o", &change("v2", &[], &open_steps())).await?;
    let waiting = at_step(env, 1).await?;
    ensure!(condition(&waiting, "Progressing").1 == "WaitingForPromotion");
    ensure!(rollout(&waiting).next_step_time.is_none());
    ensure!(
        env.refusal(&process, "resume")
            .await?
            .contains("not paused")
    );
    ensure!(
        env.refusal(&process, "retry")
            .await?
            .contains("nothing has failed")
    );
    ensure!(
        env.refusal(&process, "undo")
            .await?
            .contains("abort it first")
    );
    env.grant(&process, "promote").await?;
    at_step(env, 2).await?;
    routed(env, "v1", "v2", 60.0).await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;

    env.patch("l2o", &change("v3", &[], &open_steps())).await?;
    at_step(env, 1).await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    let settled = env.wait_settled("l2o", "v3").await?;
    let by_ada = settled.status.iter().flat_map(|status| &status.history);
    let by_ada: Vec<_> = by_ada
        .filter(|entry| entry.actor.as_deref() == Some("ada@example.com"))
        .collect();
    ensure!(
        by_ada.iter().any(|entry| entry.what == "PromoteRequested"),
        "{by_ada:?}"
    );
    ensure!(
        by_ada[0]
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("a test")),
        "{by_ada:?}"
    );
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_the_weight_and_the_spec_stands_above_verbs() -> Result<()> {
    let (scene, process) = Scene::settled("pause").await?;
    let env = &scene.env;
    let steps = canary(&json!([
        { "weight": 20, "pause": { "durationSeconds": 2 } },
        { "weight": 60, "pause": { "durationSeconds": 2 } },
    ]));
    let mut held = change("v2", &[], &steps);
    held["spec"]["rollout"]["paused"] = true.into();
    env.patch("l2o", &held).await?;
    // Pods of the new version come up all the same.
    until("v2 has a pod", SOON, async || {
        let pods = env.deployments("l2o").await?;
        let ready = pods
            .iter()
            .filter(|it| it.status.as_ref().and_then(|status| status.ready_replicas) == Some(1));
        ensure!(ready.count() == 2, "not yet");
        Ok(())
    })
    .await?;
    let waiting = reason(env, "Progressing", "Paused").await?;
    ensure!(
        condition(&waiting, "Progressing")
            .2
            .contains("spec.rollout.paused")
    );
    ensure!(
        env.refusal(&process, "resume")
            .await?
            .contains("spec.rollout.paused")
    );
    ensure!(
        env.refusal(&process, "promote")
            .await?
            .contains("spec.rollout.paused")
    );
    env.patch(
        "l2o",
        &json!({ "spec": { "rollout": { "paused": false } } }),
    )
    .await?;
    at_step(env, 1).await?;
    env.grant(&process, "pause").await?;
    let paused = reason(env, "Progressing", "Paused").await?;
    ensure!(
        condition(&paused, "Progressing")
            .2
            .contains("ada@example.com")
    );
    ensure!(
        env.refusal(&process, "pause")
            .await?
            .contains("paused already")
    );
    ensure!(
        env.refusal(&process, "promote")
            .await?
            .contains("resume it first")
    );
    // The time of the step passes, the weight stays.
    let due = rollout(&paused).next_step_time;
    until("the pause of the step is over", SOON, async || {
        let over = due
            .as_ref()
            .is_none_or(|due| due.0 < jiff::Timestamp::now());
        ensure!(over, "{due:?}");
        Ok(())
    })
    .await?;
    routed(env, "v1", "v2", 20.0).await?;
    env.grant(&process, "resume").await?;
    at_step(env, 2).await?;
    // Suspended, a rollout stays where it is; nothing can be asked for.
    env.patch("l2o", &json!({ "spec": { "suspend": true } }))
        .await?;
    reason(env, "Progressing", "Suspended").await?;
    ensure!(
        env.refusal(&process, "abort")
            .await?
            .contains("spec.suspend")
    );
    env.patch("l2o", &json!({ "spec": { "suspend": false } }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_goes_back_at_once_and_retry_begins_anew() -> Result<()> {
    let (scene, process) = Scene::settled("abort").await?;
    let env = &scene.env;
    env.patch("l2o", &change("v2", &[], &open_steps())).await?;
    at_step(env, 1).await?;
    env.grant(&process, "abort").await?;
    let aborted = reason(env, "Stalled", "RolloutAborted").await?;
    routed(env, "v1", "", 0.0).await?;
    for (kind, status) in [
        ("Ready", "True"),
        ("Degraded", "True"),
        ("Progressing", "False"),
    ] {
        ensure!(condition(&aborted, kind).0 == status, "{kind}");
    }
    ensure!(
        condition(&aborted, "Degraded")
            .2
            .contains("ada@example.com")
    );
    until("the pods of v2 are gone", SOON, async || {
        ensure!(env.deployments("l2o").await?.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    ensure!(
        env.refusal(&process, "abort")
            .await?
            .contains("nothing is being rolled out")
    );
    env.grant(&process, "retry").await?;
    at_step(env, 1).await?;
    ensure!(rollouts(env, &process, "v2").await?.len() == 2);
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_waits_for_promote_and_a_restart_replaces_pods() -> Result<()> {
    let (scene, process) = Scene::settled("manual").await?;
    let env = &scene.env;
    env.patch("l2o", &change("v2", &[], &json!({ "strategy": "Manual" })))
        .await?;
    reason(env, "Progressing", "WaitingForPromotion").await?;
    routed(env, "v1", "", 0.0).await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v2").await?;
    let before: Vec<_> = env
        .pods("l2o")
        .await?
        .iter()
        .filter_map(kube::ResourceExt::uid)
        .collect();
    env.grant(&process, "restart").await?;
    until("other pods", SOON, async || {
        let pods = env.pods("l2o").await?;
        let new = pods
            .iter()
            .filter(|pod| pod.uid().is_some_and(|uid| !before.contains(&uid)));
        ensure!(new.count() == 1 && pods.len() == 1, "not yet");
        Ok(())
    })
    .await?;
    let settled = env.wait_settled("l2o", "v2").await?;
    ensure!(told(&settled).contains(&"RestartRequested".to_owned()));
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_brings_an_earlier_version_back_until_the_spec_changes() -> Result<()> {
    let (scene, process) = Scene::settled("undo").await?;
    let env = &scene.env;
    ensure!(
        env.refusal(&process, "undo")
            .await?
            .contains("no earlier version")
    );
    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    env.grant(&process, "undo").await?;
    let undone = env
        .wait_process("l2o", "v1 is back", SOON, |process| {
            is_current(process, "v1") && condition(process, "Draining").0 == "False"
        })
        .await?;
    for (kind, status, why) in [
        ("Ready", "True", "Settled"),
        ("Degraded", "True", "Undone"),
        ("Stalled", "True", "Undone"),
        ("Progressing", "False", "Undone"),
    ] {
        let (found, reason, _) = condition(&undone, kind);
        ensure!(
            (found.as_str(), reason.as_str()) == (status, why),
            "{kind}: {found} {reason}"
        );
    }
    ensure!(undone.spec.image.ends_with(":v2"), "the spec is the user's");
    ensure!(
        told(&undone).contains(&"RollbackStarted".to_owned()),
        "{:?}",
        told(&undone)
    );
    env.grant(&process, "retry").await?;
    env.wait_settled("l2o", "v2").await?;
    env.grant_with(&process, "undo", &json!({ "buildId": undone.status.and_then(|it| it.current_version).map(|it| it.build_id) }))
        .await?;
    env.wait_process("l2o", "v1 is back", SOON, |process| {
        is_current(process, "v1")
    })
    .await?;
    env.set_tag("l2o", "v3").await?;
    env.wait_settled("l2o", "v3").await?;
    scene.finish().await
}
