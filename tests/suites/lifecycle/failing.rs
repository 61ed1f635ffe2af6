//! Versions that do not come up, and the way back.

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Env, condition, is_current, until};
use serde_json::{Value, json};

use crate::support::{SOON, Scene, deployment, version, wait_deployment};

/// Rolls to a version that cannot work, looks at what is said, and corrects the spec.
async fn fails(
    name: &str,
    mut change: Value,
    deadline: i32,
    reason: &str,
    says: &[&str],
) -> Result<()> {
    let (scene, _) = Scene::settled(name).await?;
    let env = &scene.env;
    let stable = wait_deployment(env, "v1").await?;
    let pods: Vec<_> = env
        .pods("l2o")
        .await?
        .iter()
        .filter_map(kube::ResourceExt::uid)
        .collect();
    change["spec"]["rollout"] = json!({ "progressDeadlineSeconds": deadline });
    env.patch("l2o", &change).await?;
    let process = env
        .wait_process("l2o", reason, SOON, |process| {
            condition(process, "Stalled").1 == reason
        })
        .await?;
    for (kind, status) in [
        ("Stalled", "True"),
        ("Degraded", "True"),
        ("Progressing", "False"),
        ("Reconciling", "False"),
    ] {
        let (found, _, message) = condition(&process, kind);
        ensure!(found == status, "{kind}: {found}");
        if kind != "Reconciling" {
            ensure!(
                says.iter().all(|part| message.contains(part)),
                "{kind}: {message:?} should say {says:?}"
            );
        }
    }
    ensure!(
        condition(&process, "Ready").0 == "True",
        "the stable version serves"
    );
    ensure!(!is_current(&process, "v2"), "nothing is routed to it");
    let now = wait_deployment(env, "v1").await?;
    ensure!(
        now.uid() == stable.uid() && now.metadata.generation == stable.metadata.generation,
        "v1 is untouched"
    );
    let left: Vec<_> = env
        .pods("l2o")
        .await?
        .iter()
        .filter_map(kube::ResourceExt::uid)
        .collect();
    ensure!(
        pods.iter().all(|uid| left.contains(uid)),
        "the pods of v1 are untouched"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    let events = env.events(&process).await?;
    ensure!(
        events.iter().any(|(reason, _)| reason == "RolloutFailed"),
        "{events:?}"
    );

    env.patch("l2o", &version("v3", &[])).await?;
    env.wait_settled("l2o", "v3").await?;
    no_residue(env, "v2").await?;
    scene.finish().await
}

/// Nothing is left of a version that is not wanted any more.
async fn no_residue(env: &Env, tag: &str) -> Result<()> {
    until(&format!("nothing is left of {tag}"), SOON, async || {
        ensure!(deployment(env, tag).await?.is_none(), "its Deployment");
        let record = env
            .temporal
            .worker_deployment(&env.apps, &format!("{}/l2o", env.namespace))
            .await?;
        let versions = record
            .map(|record| record.version_summaries)
            .unwrap_or_default();
        let prefix = format!("{tag}-");
        let left = versions
            .iter()
            .filter_map(|version| version.deployment_version.as_ref())
            .any(|version| version.build_id.starts_with(&prefix));
        ensure!(!left, "its record");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_leaves_the_stable_one_alone_and_says_why() -> Result<()> {
    let change = version("v2", &[("CRASH_AT_START", "1")]);
    let says = ["0/1 pods of", ": pod l2o-"];
    fails("crashing", change, 25, "ProgressDeadlineExceeded", &says).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_never_polls_runs_into_its_deadline() -> Result<()> {
    let change = version("v2", &[("NEVER_POLL", "1")]);
    fails(
        "mute",
        change,
        // Its pods become ready, also on a busy machine.
        25,
        "ProgressDeadlineExceeded",
        &["pods", "are ready, but no worker", "l2o-tq"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_versioning_is_found_out_with_the_fix_in_the_message() -> Result<()> {
    let change = version("v2", &[("IGNORE_VERSIONING", "1")]);
    fails(
        "unversioned",
        change,
        600,
        "WorkerNotVersioned",
        &["TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_named() -> Result<()> {
    let change = json!({ "spec": { "image": "localhost/no-such-image:v2" } });
    fails(
        "noimage",
        change,
        25,
        "ProgressDeadlineExceeded",
        &["localhost/no-such-image:v2"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn back_to_the_stable_version_while_the_new_one_rolls() -> Result<()> {
    let (scene, _) = Scene::settled("back").await?;
    let env = &scene.env;
    let stable = wait_deployment(env, "v1").await?;
    env.patch("l2o", &version("v2", &[("START_DELAY_MS", "30000")]))
        .await?;
    wait_deployment(env, "v2").await?;
    env.patch("l2o", &version("v1", &[])).await?;
    env.wait_settled("l2o", "v1").await?;
    no_residue(env, "v2").await?;
    ensure!(
        wait_deployment(env, "v1").await?.uid() == stable.uid(),
        "v1 is untouched"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn back_to_the_old_version_while_it_drains() -> Result<()> {
    let (scene, _) = Scene::settled("rollback").await?;
    let env = &scene.env;
    let stable = wait_deployment(env, "v1").await?;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v1 drains", SOON, |process: &Process| {
        is_current(process, "v2")
            && process
                .status
                .as_ref()
                .is_some_and(|status| !status.draining.is_empty())
    })
    .await?;
    env.set_tag("l2o", "v1").await?;
    env.wait_settled("l2o", "v1").await?;
    no_residue(env, "v2").await?;
    ensure!(
        wait_deployment(env, "v1").await?.uid() == stable.uid(),
        "v1 kept its pods"
    );
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on.starts_with("v1-"), "{finished:?}");
    scene.leave().await
}
