//! Who polled before, and what is polled.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, Scene, Traffic, condition, is_current,
    manifest, until,
};
use process_operator_tests::testbed::{PrivateTemporal, Testbed};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, reason, routed, shares};

/// Workers that run already: of a version, or as somebody has them who does not use versions yet.
fn before(env: &Env, version: Option<&str>) -> Result<Deployment> {
    let mut variables = vec![
        json!({ "name": "TEMPORAL_ADDRESS", "value": env.temporal_pod_address }),
        json!({ "name": "TEMPORAL_NAMESPACE", "value": env.apps }),
        json!({ "name": "TASK_QUEUE", "value": "l2o-tq" }),
    ];
    if let Some(build_id) = version {
        let name = format!("{}/l2o", env.namespace);
        variables.push(json!({ "name": "TEMPORAL_DEPLOYMENT_NAME", "value": name }));
        variables.push(json!({ "name": "TEMPORAL_WORKER_BUILD_ID", "value": build_id }));
    }
    let labels = json!({ "app": "before" });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "before", "namespace": env.namespace },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "automountServiceAccountToken": false,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "worker",
                        "image": "localhost/process-example-worker:v1",
                        "imagePullPolicy": "IfNotPresent",
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": { "drop": ["ALL"] },
                        },
                        "env": variables,
                    }],
                },
            },
        },
    }))?)
}

/// Starts them.
async fn run_before(env: &Env, version: Option<&str>) -> Result<()> {
    let deployments = env.api::<Deployment>();
    deployments
        .create(&PostParams::default(), &before(env, version)?)
        .await?;
    Ok(())
}

async fn stop_before(env: &Env) -> Result<()> {
    let deployments = env.api::<Deployment>();
    deployments
        .delete("before", &DeleteParams::default())
        .await?;
    Ok(())
}

/// The Process that takes over from them, with a step that waits for a person.
async fn take_over(env: &Env) -> Result<Process> {
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "open")
        .await?;
    let mut first = manifest(env, "l2o", "v1");
    first["spec"]["rollout"] = canary(&json!([{ "weight": 30, "pause": {} }]));
    env.apply(&first).await
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_without_a_version_are_taken_over_by_the_steps() -> Result<()> {
    let scene = Scene::new("migrate").await?;
    let env = &scene.env;
    run_before(env, None).await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    until("workflows are answered", SOON, async || {
        ensure!(traffic.answered() > 5, "{}", traffic.answered());
        Ok(())
    })
    .await?;
    let process = take_over(env).await?;
    at_step(env, 1).await?;
    routed(env, "", "v1", 30.0).await?;
    let so_far = traffic.answered();
    until("both have answered", SOON, async || {
        ensure!(traffic.answered() > so_far + 30, "{}", traffic.answered());
        Ok(())
    })
    .await?;
    env.grant(&process, "promote").await?;
    env.wait_settled("l2o", "v1").await?;
    let answers = traffic.stop().await?;
    answers.all_answered()?;
    ensure!(answers.by_build.len() == 2, "{answers:?}");
    ensure!(answers.of("v1") > 0, "{answers:?}");
    stop_before(env).await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    // What was open goes on with the version.
    let finished = env.temporal.finish_waiting(&env.apps, "open").await?;
    ensure!(finished.started_on.is_empty(), "{finished:?}");
    ensure!(finished.completed_on == answer.build_id, "{finished:?}");
    scene.finish().await
}

/// As docs/migration.md says: the Worker Deployment keeps its name.
#[tokio::test(flavor = "multi_thread")]
async fn versions_of_another_controller_are_taken_over_by_the_steps() -> Result<()> {
    let scene = Scene::new("adopt").await?;
    let env = &scene.env;
    run_before(env, Some("old-1")).await?;
    let name = format!("{}/l2o", env.namespace);
    until("the old version is Current", SOON, async || {
        env.temporal
            .set_current(&env.apps, &name, "old-1", "other")
            .await
    })
    .await?;
    env.temporal
        .set_manager(&env.apps, &name, Some("other"))
        .await?;
    let process = take_over(env).await?;
    let stalled = reason(env, "Stalled", "DeploymentOwnedElsewhere").await?;
    let message = condition(&stalled, "Stalled").2;
    ensure!(message.contains("other"), "{message}");
    routed(env, "old", "", 0.0).await?;

    // Handed over.
    env.temporal.set_manager(&env.apps, &name, None).await?;
    at_step(env, 1).await?;
    routed(env, "old", "v1", 30.0).await?;
    env.grant(&process, "promote").await?;
    env.wait_process("l2o", "old-1 drains", SOON, |process| {
        let status = process.status.iter();
        let mut draining = status.flat_map(|status| &status.draining);
        draining.any(|version| version.build_id == "old-1" && version.open_workflows == Some(1))
    })
    .await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    let finished = env.temporal.finish_waiting(&env.apps, "open").await?;
    ensure!(finished.completed_on == "old-1", "{finished:?}");
    stop_before(env).await?;
    env.wait_settled("l2o", "v1").await?;
    until("the record of old-1 is gone", SOON, async || {
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let versions = info.map(|info| info.version_summaries).unwrap_or_default();
        let versions: Vec<_> = versions
            .into_iter()
            .filter_map(|version| Some(version.deployment_version?.build_id))
            .collect();
        ensure!(versions.iter().all(|it| it != "old-1"), "{versions:?}");
        Ok(())
    })
    .await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_poll_what_the_serving_one_polls_takes_nothing() -> Result<()> {
    let (scene, process) = Scene::settled("missing").await?;
    let env = &scene.env;
    let current = process
        .status
        .and_then(|status| status.current_version)
        .map(|version| version.build_id)
        .unwrap_or_default();
    env.temporal
        .poll_once(
            &env.apps,
            "l2o-extra",
            &format!("{}/l2o", env.namespace),
            &current,
        )
        .await?;
    let mut policy = canary(&json!([{ "weight": 30 }]));
    policy["progressDeadlineSeconds"] = 25.into();
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    let failed = reason(env, "Stalled", "ProgressDeadlineExceeded").await?;
    let message = condition(&failed, "Stalled").2;
    ensure!(message.contains("l2o-extra"), "{message}");
    let (current, ramping, _) = shares(env).await?;
    ensure!((current.as_str(), ramping.as_str()) == ("v1", ""));
    let back = change(
        "v1",
        &[],
        &json!({ "strategy": "RollingUpdate", "steps": null }),
    );
    env.patch("l2o", &back).await?;
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}

/// A Temporal of its own, with a Temporal namespace that the testbed's configuration gives a low limit.
async fn limited(
    name: &str,
    namespace: &str,
) -> Result<(Env, Operator, Invariants, PrivateTemporal)> {
    let of = name.to_owned();
    let temporal = tokio::task::spawn_blocking(move || PrivateTemporal::start_new(&of)).await??;
    let env = Env::on(
        name,
        Testbed::current()?,
        temporal.address(),
        temporal.pod_address(),
    )
    .await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    env.temporal.create_namespace(namespace).await?;
    Ok((env, operator, invariants, temporal))
}

/// Waits until a Warning says that the version was given up, and why.
async fn warned(env: &Env, why: &str) -> Result<()> {
    until(&format!("a Warning says {why:?}"), SOON, async || {
        let events = env.api::<Event>().list(&ListParams::default()).await?;
        let mut given_up = events.iter().filter(|event| {
            event.type_.as_deref() == Some("Warning")
                && event.reason.as_deref() == Some("RolloutFailed")
        });
        let says = |event: &Event| event.note.as_ref().is_some_and(|note| note.contains(why));
        ensure!(given_up.any(says), "not yet");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_temporal_namespace_is_told_in_its_words() -> Result<()> {
    const SMALL: &str = "small";
    const WORDS: &str = "maximum deployments in namespace (3)";
    let (env, operator, invariants, _temporal) = limited("full", SMALL).await?;
    env.temporal.fill_deployments(SMALL, 3).await?;
    let mut wanted = manifest(&env, "l2o", "v1");
    wanted["spec"]["temporal"]["namespace"] = SMALL.into();
    let process = env.apply(&wanted).await?;
    let stalled = reason(&env, "Stalled", "QuotaExceeded").await?;
    let message = condition(&stalled, "Stalled").2;
    ensure!(message.contains(WORDS), "{message}");
    warned(&env, WORDS).await?;
    env.temporal.delete_deployment(SMALL, "filler/0").await?;
    env.grant(&process, "retry").await?;
    env.wait_settled("l2o", "v1").await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_versions_as_temporal_takes_are_told_in_its_words() -> Result<()> {
    const FEW: &str = "few";
    const WORDS: &str = "maximum number of versions (2)";
    let (env, operator, invariants, _temporal) = limited("versions", FEW).await?;
    let mut wanted = manifest(&env, "l2o", "v1");
    wanted["spec"]["temporal"]["namespace"] = FEW.into();
    let process = env.apply(&wanted).await?;
    env.wait_settled("l2o", "v1").await?;
    // What is pinned to it holds the first of two.
    env.temporal.start_waiting(FEW, "l2o-tq", "long").await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v2 is current", SOON, |process| {
        is_current(process, "v2")
    })
    .await?;
    env.set_tag("l2o", "v3").await?;
    let stalled = reason(&env, "Stalled", "QuotaExceeded").await?;
    let message = condition(&stalled, "Stalled").2;
    ensure!(message.contains(WORDS), "{message}");
    warned(&env, WORDS).await?;
    ensure!(condition(&stalled, "Ready").0 == "True", "v2 serves");
    let finished = env.temporal.finish_waiting(FEW, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    env.wait_process("l2o", "v1 is retired", SOON, |process| {
        condition(process, "Draining").0 == "False"
    })
    .await?;
    env.grant(&process, "retry").await?;
    env.wait_settled("l2o", "v3").await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}
