//! What keeps a spec from being acted on, and what a user asks for beside a new version.

use anyhow::{Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, condition, is_current, is_settled, manifest, until};
use serde_json::json;

use crate::support::{
    QUIET, SOON, Scene, available, deployment, rollouts, version, wait_deployment,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_temporal_namespace_is_said_and_its_creation_heals() -> Result<()> {
    let scene = Scene::new("nons").await?;
    let env = &scene.env;
    let later = format!("{}-later", env.namespace);
    let mut manifest = manifest(env, "l2o", "v1");
    manifest["spec"]["temporal"]["namespace"] = json!(later);
    env.apply(&manifest).await?;
    let process = env
        .wait_process("l2o", "the missing namespace is said", SOON, |process| {
            let reason = |kind: &str| condition(process, kind).1;
            reason("Ready") == "NamespaceNotFound" && reason("Stalled") == "NamespaceNotFound"
        })
        .await?;
    for (kind, status) in [
        ("Ready", "False"),
        ("Stalled", "True"),
        ("Degraded", "True"),
        ("Progressing", "False"),
    ] {
        let (found, _, message) = condition(&process, kind);
        ensure!(found == status, "{kind}: {found}");
        ensure!(
            message.contains("spec.temporal.namespace") && message.contains(&later),
            "{kind}: {message}"
        );
    }
    let (reachable, reason, _) = condition(&process, "TemporalReachable");
    ensure!(
        reachable == "False" && reason == "NamespaceNotFound",
        "{reachable} {reason}"
    );
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    env.temporal.create_namespace(&later).await?;
    env.wait_settled("l2o", "v1").await?;
    let answer = env.temporal.quick(&later, "l2o-tq", "first").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_younger_of_two_processes_on_a_queue_waits_until_the_older_goes() -> Result<()> {
    let (scene, _) = Scene::settled("queue").await?;
    let env = &scene.env;
    let mut manifest = manifest(env, "other", "v2");
    manifest["spec"]["temporal"]["taskQueue"] = json!("l2o-tq");
    env.apply(&manifest).await?;
    let process = env
        .wait_process("other", "the conflict is said", SOON, |process| {
            condition(process, "Stalled").1 == "TaskQueueConflict"
        })
        .await?;
    let (ready, _, message) = condition(&process, "Ready");
    ensure!(
        ready == "False" && message.contains(&format!("{}/l2o", env.namespace)),
        "{ready} {message}"
    );
    ensure!(
        env.deployments("other").await?.is_empty(),
        "it deploys nothing"
    );
    let older = env.wait_settled("l2o", "v1").await?;
    ensure!(is_settled(&older, "v1"), "the older one is not touched");

    env.kubectl(&["delete", "process", "l2o"], "")?;
    env.wait_settled("other", "v2").await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v2-"), "{answer:?}");
    // The older one's lifecycle still cleans records; it ends by itself.
    until("one lifecycle is left", SOON, async || {
        let open = env
            .temporal
            .list(&env.control, "ExecutionStatus = 'Running'")
            .await?
            .len();
        ensure!(open == 1, "{open} open");
        Ok(())
    })
    .await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_holds_a_roll_and_resuming_goes_on() -> Result<()> {
    let (scene, _) = Scene::settled("suspend").await?;
    let env = &scene.env;
    let mut change = version("v2", &[("START_DELAY_MS", "5000")]);
    env.patch("l2o", &change).await?;
    wait_deployment(env, "v2").await?;
    change["spec"]["suspend"] = json!(true);
    env.patch("l2o", &change).await?;
    let process = env
        .wait_process("l2o", "suspended", SOON, |process| {
            condition(process, "Progressing").1 == "Suspended"
                && process
                    .status
                    .as_ref()
                    .and_then(|status| status.observed_generation)
                    == process.metadata.generation
        })
        .await?;
    ensure!(
        condition(&process, "Ready").0 == "True",
        "the running version still serves"
    );
    ensure!(
        condition(&process, "Stalled").0 == "False",
        "a person asked for it"
    );
    // v2 polls long since, and still nothing goes there.
    until("v2 polls", SOON, async || {
        let record = env
            .temporal
            .worker_deployment(&env.apps, &format!("{}/l2o", env.namespace))
            .await?;
        let versions = record
            .map(|record| record.version_summaries.len())
            .unwrap_or_default();
        ensure!(versions == 2, "{versions} versions");
        Ok(())
    })
    .await?;
    scene
        .invariants
        .hold(env, &[&scene.operator], QUIET)
        .await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "held").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");

    env.patch("l2o", &json!({ "spec": { "suspend": false } }))
        .await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}

/// Two pods of the version that was there, and no rollout.
async fn doubled(env: &Env, before: &Process) -> Result<()> {
    until("two pods are ready", SOON, async || {
        let now = deployment(env, "v1").await?;
        let wanted = now.as_ref().and_then(|now| now.spec.as_ref()?.replicas);
        ensure!(
            wanted == Some(2) && now.as_ref().is_some_and(available),
            "{wanted:?}"
        );
        Ok(())
    })
    .await?;
    let after = env
        .wait_process("l2o", "two replicas in status", SOON, |process| {
            is_settled(process, "v1")
                && process.status.as_ref().and_then(|status| status.replicas) == Some(2)
        })
        .await?;
    let current = |process: &Process| {
        let status = process.status.clone().unwrap_or_default();
        status
            .current_version
            .map(|version| (version.build_id, version.deployment_name, version.since))
    };
    ensure!(current(before) == current(&after), "the same version");
    ensure!(
        rollouts(env, &after, "v1").await?.len() == 1,
        "no new rollout"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_changes_the_deployment_and_nothing_else() -> Result<()> {
    let (scene, before) = Scene::settled("scale").await?;
    let env = &scene.env;
    env.kubectl(&["scale", "process", "l2o", "--replicas=2"], "")?;
    doubled(env, &before).await?;

    env.kubectl(&["scale", "process", "l2o", "--replicas=0"], "")?;
    until("no pod is left", SOON, async || {
        ensure!(env.pods("l2o").await?.is_empty(), "pods");
        Ok(())
    })
    .await?;
    // By the field itself as well.
    env.patch("l2o", &json!({ "spec": { "replicas": 1 } }))
        .await?;
    env.wait_process("l2o", "back", SOON, |process| {
        is_current(process, "v1") && is_settled(process, "v1")
    })
    .await?;
    scene.finish().await
}

/// F34. Nothing measures here: what is below the least number is raised without that.
#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_scales_a_process_and_is_left_alone() -> Result<()> {
    let (scene, before) = Scene::settled("autoscale").await?;
    let env = &scene.env;
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "l2o" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "ameide.io/v1", "kind": "Process", "name": "l2o" },
            "minReplicas": 2, "maxReplicas": 3,
        },
    });
    env.kubectl(&["apply", "-f", "-"], &autoscaler.to_string())?;
    doubled(env, &before).await?;
    scene
        .invariants
        .hold(env, &[&scene.operator], QUIET)
        .await?;
    let now = env.api::<Process>().get("l2o").await?;
    ensure!(now.spec.replicas == 2, "{:?}", now.spec.replicas);
    ensure!(env.pods("l2o").await?.len() == 2, "two pods");
    scene.env.remove().await
}
