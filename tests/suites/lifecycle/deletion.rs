//! Deletion, and a new Process under the same name.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_harness::{Env, lifecycle_id, manifest, until};
use serde_json::json;

use crate::support::{SOON, Scene, wait_deployment};

/// How long a user waits at most for `kubectl delete`.
const PROMPT: Duration = Duration::from_secs(15);

async fn delete(env: &Env) -> Result<()> {
    env.api::<Process>()
        .delete("l2o", &DeleteParams::default())
        .await?;
    until("the Process is gone", PROMPT, async || {
        ensure!(
            env.api::<Process>().get_opt("l2o").await?.is_none(),
            "still there"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_leaves_an_open_workflow_running_and_cleans_up_behind_it() -> Result<()> {
    let (scene, process) = Scene::settled("delete").await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    // Without waiting for it.
    let at_once = json!({ "spec": { "deletion": { "timeoutSeconds": 0 } } });
    env.patch("l2o", &at_once).await?;
    delete(env).await?;
    until("the workers are gone", SOON, async || {
        ensure!(env.pods("l2o").await?.is_empty(), "pods are left");
        Ok(())
    })
    .await?;
    let open = env
        .temporal
        .list(
            &env.apps,
            "WorkflowId = 'long' AND ExecutionStatus = 'Running'",
        )
        .await?;
    ensure!(open.len() == 1, "the workflow is left as it is");
    let name = format!("{}/l2o", env.namespace);
    ensure!(
        env.temporal
            .worker_deployment(&env.apps, &name)
            .await?
            .is_some(),
        "the record stays as long as a workflow is pinned to it"
    );

    env.temporal.terminate(&env.apps, "long").await?;
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

/// The second Process of the name serves, and nothing of it was touched for the first.
async fn second_serves(scene: &Scene, first: &Process) -> Result<Process> {
    let env = &scene.env;
    let second = env.wait_settled("l2o", "v1").await?;
    ensure!(first.uid() != second.uid(), "it is another one");
    let made = wait_deployment(env, "v1").await?;
    let owners: Vec<_> = made
        .owner_references()
        .iter()
        .filter(|owner| owner.kind == "Process")
        .map(|owner| owner.uid.clone())
        .collect();
    ensure!(owners == [second.uid().unwrap_or_default()], "{owners:?}");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "second").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(first), SOON)
        .await?;
    let lifecycles = env
        .workflows(&format!("process/{}/l2o/", env.namespace))
        .await?;
    ensure!(lifecycles.len() == 2, "one for each uid: {lifecycles:?}");
    // What the first cleans up in the background does not reach the second.
    let settled = env.wait_settled("l2o", "v1").await?;
    let again = wait_deployment(env, "v1").await?;
    ensure!(again.uid() == made.uid(), "its Deployment was left alone");
    Ok(settled)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_of_the_same_name_is_not_harmed_by_the_deleted_one() -> Result<()> {
    let (scene, first) = Scene::settled("recreate").await?;
    let env = &scene.env;
    delete(env).await?;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let second = second_serves(&scene, &first).await?;
    // It has inherited the records, and leaves none of them.
    delete(env).await?;
    env.nothing_is_left(&second).await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_finds_objects_of_one_whose_finalizer_was_removed_by_hand() -> Result<()> {
    let (scene, first) = Scene::settled("finalizer").await?;
    let env = &scene.env;
    // While nobody looks, so that the objects are still there.
    scene.operator.kill();
    env.api::<Process>()
        .delete("l2o", &DeleteParams::default())
        .await?;
    env.patch("l2o", &json!({ "metadata": { "finalizers": null } }))
        .await?;
    env.wait_gone("l2o").await?;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let again = process_operator_harness::Operator::start(
        env,
        process_operator_harness::OperatorOptions::default(),
    )
    .await?;
    second_serves(&scene, &first).await?;
    scene
        .invariants
        .hold(env, &[&scene.operator, &again], crate::support::QUIET)
        .await?;
    scene.env.remove().await
}
