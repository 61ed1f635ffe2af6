//! Who polled before, and what is polled.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, PostParams};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, Scene, Traffic, condition, manifest, until,
};
use process_operator_tests::testbed::{PrivateTemporal, Testbed};
use serde_json::json;

use crate::support::{SOON, at_step, canary, change, reason, routed, shares};

/// Workers as somebody runs them who does not use versions yet.
fn unversioned(env: &Env) -> Result<Deployment> {
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
                        "env": [
                            { "name": "TEMPORAL_ADDRESS", "value": env.temporal_pod_address },
                            { "name": "TEMPORAL_NAMESPACE", "value": env.apps },
                            { "name": "TASK_QUEUE", "value": "l2o-tq" },
                        ],
                    }],
                },
            },
        },
    }))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_without_a_version_are_taken_over_by_the_steps() -> Result<()> {
    let scene = Scene::new("migrate").await?;
    let env = &scene.env;
    let before = env.api::<Deployment>();
    before
        .create(&PostParams::default(), &unversioned(env)?)
        .await?;
    let traffic = Traffic::start(env, "l2o-tq", Duration::from_millis(100));
    until("workflows are answered", SOON, async || {
        ensure!(traffic.answered() > 5, "{}", traffic.answered());
        Ok(())
    })
    .await?;
    let mut first = manifest(env, "l2o", "v1");
    first["spec"]["rollout"] = canary(&json!([{ "weight": 30, "pause": {} }]));
    let process = env.apply(&first).await?;
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
    before.delete("before", &DeleteParams::default()).await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
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

/// In a Temporal namespace that the server's configuration of the testbed gives a low limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_temporal_namespace_is_told_in_its_words() -> Result<()> {
    const SMALL: &str = "small";
    let temporal = tokio::task::spawn_blocking(|| PrivateTemporal::start_new("full")).await??;
    let env = Env::on(
        "full",
        Testbed::current()?,
        temporal.address(),
        temporal.pod_address(),
    )
    .await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    env.temporal.create_namespace(SMALL).await?;
    env.temporal.fill_deployments(SMALL, 3).await?;
    let mut wanted = manifest(&env, "l2o", "v1");
    wanted["spec"]["temporal"]["namespace"] = SMALL.into();
    let process = env.apply(&wanted).await?;
    let stalled = reason(&env, "Stalled", "QuotaExceeded").await?;
    let message = condition(&stalled, "Stalled").2;
    ensure!(
        message.contains("maximum deployments in namespace (3)"),
        "{message}"
    );
    env.temporal.delete_deployment(SMALL, "filler/0").await?;
    env.grant(&process, "retry").await?;
    env.wait_settled("l2o", "v1").await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}
