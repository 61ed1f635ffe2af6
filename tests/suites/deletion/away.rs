//! Parts of Temporal are missing.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, condition, lifecycle_id, manifest, until,
};
use process_operator_tests::testbed::{PrivateTemporal, Testbed};
use serde_json::json;

use crate::support::{PROMPT, QUEUE, SOON, let_go, says, settled};

/// F37: the way out when Temporal does not come back.
#[tokio::test(flavor = "multi_thread")]
async fn without_temporal_it_waits_and_says_so_until_it_is_let_go() -> Result<()> {
    let mut temporal =
        tokio::task::spawn_blocking(|| PrivateTemporal::start_new("delaway")).await??;
    let (address, pods) = (temporal.address(), temporal.pod_address());
    let env = Env::on("delaway", Testbed::current()?, address, pods).await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    for name in ["l2o", "waits"] {
        env.apply(&manifest(&env, name, "v1")).await?;
    }
    let process = env.wait_settled("l2o", "v1").await?;
    let other = env.wait_settled("waits", "v1").await?;
    temporal.stop()?;
    env.delete("l2o").await?;
    env.delete("waits").await?;
    let held = env
        .wait_process("l2o", "it says what it waits for", SOON, |process| {
            let (status, _, message) = condition(process, "TemporalReachable");
            status == "False" && message.contains("ameide.io/force-finalize")
        })
        .await?;
    ensure!(held.metadata.deletion_timestamp.is_some(), "it waits");
    let_go(&env)?;
    env.gone_within("l2o", Duration::from_secs(30)).await?;
    until(
        "Kubernetes collects what belonged to it",
        SOON,
        async || {
            let (deployments, pods) = (
                env.deployments("l2o").await?.len(),
                env.pods("l2o").await?.len(),
            );
            ensure!((deployments, pods) == (0, 0), "{deployments} {pods}");
            Ok(())
        },
    )
    .await?;
    ensure!(!env.pods("waits").await?.is_empty(), "the other one waits");

    // Nobody is there to tell the lifecycle what happened meanwhile: the next sweep finds it.
    operator.kill();
    temporal.start()?;
    let again = Operator::start(&env, OperatorOptions::default()).await?;
    env.gone_within("waits", SOON).await?;
    env.nothing_is_left(&process).await?;
    env.nothing_is_left(&other).await?;
    drop(again);
    env.remove().await
}

/// The wait, its deadline and the workers outlast a restart of Temporal.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_temporal_does_not_end_a_wait() -> Result<()> {
    let mut temporal =
        tokio::task::spawn_blocking(|| PrivateTemporal::start_new("delrestart")).await??;
    let (address, pods) = (temporal.address(), temporal.pod_address());
    let env = Env::on("delrestart", Testbed::current()?, address, pods).await?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let invariants = Invariants::start(&env)?;
    let mut wanted = manifest(&env, "l2o", "v1");
    wanted["spec"]["deletion"] = json!({ "timeoutSeconds": 3600 });
    env.apply(&wanted).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    env.guard_versions("l2o");
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    let waiting = says(&env, "waiting for 1 running workflow until").await?;
    let before = env.pods("l2o").await?;
    temporal.stop()?;
    env.wait_process("l2o", "the outage shows", SOON, |process| {
        condition(process, "TemporalReachable").0 == "False"
    })
    .await?;
    temporal.start()?;
    operator.ready().await?;
    // The reachability may be told before the wait itself is renewed.
    let deadline = condition(&waiting, "Ready").2;
    env.wait_process(
        "l2o",
        "it waits on, to the same deadline",
        SOON,
        |process| {
            condition(process, "TemporalReachable").0 == "True"
                && condition(process, "Ready").2 == deadline
        },
    )
    .await?;
    let now = env.pods("l2o").await?;
    ensure!(
        now.len() == before.len()
            && now.iter().zip(&before).all(|(now, before)| {
                now.uid() == before.uid() && now.metadata.deletion_timestamp.is_none()
            }),
        "its workers were left alone"
    );
    // They serve: what is told to finish does.
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.gone_within("l2o", SOON).await?;
    env.nothing_is_left(&process).await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_namespace_that_is_gone_holds_nothing() -> Result<()> {
    let (scene, process) = settled("nons", &json!({ "onTimeout": "Cancel" })).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    // What runs goes with the namespace.
    env.unguard_versions();
    env.temporal.delete_namespace(&env.apps).await?;
    env.delete("l2o").await?;
    env.gone_within("l2o", SOON).await?;
    until("its workers are gone", SOON, async || {
        let pods = env.pods("l2o").await?.len();
        ensure!(pods == 0, "{pods}");
        Ok(())
    })
    .await?;
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(&process), SOON)
        .await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_namespace_that_goes_ends_a_wait() -> Result<()> {
    let (scene, process) = settled("nsgoes", &json!({ "timeoutSeconds": 3600 })).await?;
    let env = &scene.env;
    env.temporal.start_waiting(&env.apps, QUEUE, "long").await?;
    env.delete("l2o").await?;
    says(env, "waiting for 1 running workflow").await?;
    env.unguard_versions();
    env.temporal.delete_namespace(&env.apps).await?;
    env.gone_within("l2o", SOON).await?;
    env.no_workflow_about(&process).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporal_namespace_that_never_was_holds_nothing() -> Result<()> {
    let (scene, _) = settled("never", &json!({})).await?;
    let env = &scene.env;
    let mut wanted = manifest(env, "lost", "v1");
    wanted["spec"]["temporal"]["namespace"] = json!("no-such-namespace");
    env.apply(&wanted).await?;
    let lost = env
        .wait_process("lost", "it says so", SOON, |process| {
            condition(process, "Stalled").1 == "NamespaceNotFound"
        })
        .await?;
    env.delete("lost").await?;
    env.gone_within("lost", PROMPT).await?;
    env.no_workflow_about(&lost).await?;
    scene.leave().await
}
