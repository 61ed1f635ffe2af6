//! Somebody else changes the routing.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, condition, until};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, now, reason, rollout, routed};

fn steps() -> serde_json::Value {
    let mut rollout =
        canary(&json!([{ "weight": 20, "pause": {} }, { "weight": 60, "pause": {} }]));
    rollout["analysis"] =
        json!({ "minWorkflows": 0, "maxFailurePercent": 100, "intervalSeconds": 1 });
    rollout
}

fn deployment(env: &Env) -> String {
    format!("{}/l2o", env.namespace)
}

fn build_id(process: &Process, target: bool) -> String {
    let status = process.status.clone().unwrap_or_default();
    let version = if target {
        status.target_version
    } else {
        status.current_version
    };
    version.map(|version| version.build_id).unwrap_or_default()
}

/// Waits until an Event says that the rollout is held, and who has changed the routing.
async fn held_by(env: &Env, process: &Process, who: &str) -> Result<()> {
    let words = format!("was changed by {who:?}");
    until("the Event names who it was", SOON, async || {
        let events = env.events(process).await?;
        let mut held = events.iter().filter(|(reason, _)| reason == "RolloutHeld");
        ensure!(held.any(|(_, note)| note.contains(&words)), "{events:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_ramp_holds_the_rollout_until_somebody_decides() -> Result<()> {
    let (scene, process) = Scene::settled("meddle").await?;
    let env = &scene.env;
    env.patch("l2o", &change("v2", &[], &steps())).await?;
    let seen = at_step(env, 1).await?;
    let info = env
        .temporal
        .worker_deployment(&env.apps, &deployment(env))
        .await?;
    let manager = info.context("a Worker Deployment")?.manager_identity;
    // With our own identity, as a script does that has copied it.
    env.temporal
        .set_ramp(
            &env.apps,
            &deployment(env),
            &build_id(&seen, true),
            35.0,
            &manager,
        )
        .await?;
    let held = reason(env, "Progressing", "RoutingChanged").await?;
    let (degraded, _, message) = condition(&held, "Degraded");
    ensure!(degraded == "True" && message.contains("35 %"), "{message}");
    routed(env, "v1", "v2", 35.0).await?;
    held_by(env, &process, &manager).await?;
    env.grant(&process, "resume").await?;
    routed(env, "v1", "v2", 20.0).await?;
    at_step(env, 1).await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manager_is_named_respected_and_relieved_on_request() -> Result<()> {
    let (scene, process) = Scene::settled("manager").await?;
    let env = &scene.env;
    env.patch("l2o", &change("v2", &[], &steps())).await?;
    let seen = at_step(env, 1).await?;
    env.temporal
        .set_manager(&env.apps, &deployment(env), Some("alice"))
        .await?;
    env.temporal
        .set_ramp(
            &env.apps,
            &deployment(env),
            &build_id(&seen, true),
            90.0,
            "alice",
        )
        .await?;
    let held = env
        .wait_process("l2o", "alice is named", SOON, |process| {
            condition(process, "Degraded").2.contains("alice")
        })
        .await?;
    ensure!(condition(&held, "Ready").0 == "True");
    ensure!(rollout(&held).step == 1, "the rollout is where it was");
    routed(env, "v1", "v2", 90.0).await?;
    // It is held, not lost.
    until("the rollout has noticed", SOON, async || {
        let message = rollout(&now(env).await?).message;
        ensure!(message.contains("alice"), "{message}");
        Ok(())
    })
    .await?;
    held_by(env, &process, "alice").await?;
    env.grant(&process, "resume").await?;
    routed(env, "v1", "v2", 20.0).await?;
    at_step(env, 1).await?;
    env.grant(&process, "abort").await?;
    reason(env, "Stalled", "RolloutAborted").await?;
    routed(env, "v1", "", 0.0).await?;

    // The same at rest.
    env.grant(&process, "retry").await?;
    at_step(env, 1).await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    env.temporal
        .set_manager(&env.apps, &deployment(env), Some("bob"))
        .await?;
    env.patch(
        "l2o",
        &change(
            "v3",
            &[],
            &json!({ "strategy": "RollingUpdate", "steps": null }),
        ),
    )
    .await?;
    reason(env, "Stalled", "DeploymentOwnedElsewhere").await?;
    env.grant(&process, "resume").await?;
    env.wait_settled("l2o", "v3").await?;
    scene.finish().await
}
