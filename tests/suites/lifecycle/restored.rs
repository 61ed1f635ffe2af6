//! A cluster that has lost all objects of a namespace gets its Processes back, and nothing else, as from a backup of
//! objects. Temporal has what it had.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_harness::{Operator, OperatorOptions, condition, is_current, manifest};
use serde_json::json;

use crate::support::{QUIET, SOON, Scene};

/// With the operator away: no finalizer is worked off.
fn lose(scene: &Scene) -> Result<()> {
    let env = &scene.env;
    scene.operator.kill();
    let none = json!({ "metadata": { "finalizers": null } }).to_string();
    let of = ["-l", "ameide.io/process=l2o"];
    env.kubectl(
        &["patch", "process", "l2o", "--type=merge", "-p", &none],
        "",
    )?;
    env.kubectl(&["delete", "process", "l2o"], "")?;
    for kinds in ["deployments,controllerrevisions", "pods"] {
        env.kubectl(&[&["delete", kinds, "--wait=true"][..], &of].concat(), "")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_restored_alone_go_on_with_what_is_open() -> Result<()> {
    let (scene, lost) = Scene::settled("restored").await?;
    let env = &scene.env;
    let start = async |id: &str| env.temporal.start_waiting(&env.apps, "l2o-tq", id).await;
    start("older").await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v2 is current while v1 drains", SOON, |process| {
        is_current(process, "v2") && condition(process, "Draining").0 == "True"
    })
    .await?;
    start("newer").await?;
    lose(&scene)?;

    let operator = Operator::start(env, OperatorOptions::default()).await?;
    let restored = env.apply(&manifest(env, "l2o", "v2")).await?;
    ensure!(restored.metadata.uid != lost.metadata.uid, "another one");
    env.wait_process("l2o", "v2 serves again", SOON, |process| {
        is_current(process, "v2") && condition(process, "Ready").0 == "True"
    })
    .await?;
    let newer = env.temporal.finish_waiting(&env.apps, "newer").await?;
    ensure!(newer.completed_on.starts_with("v2-"), "{newer:?}");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "after").await?;
    ensure!(answer.build_id == newer.completed_on, "{answer:?}");

    // Of v1 only Temporal knows, until its image is written again.
    env.set_tag("l2o", "v1").await?;
    env.wait_process("l2o", "v1 serves", SOON, |process| {
        is_current(process, "v1")
    })
    .await?;
    let older = env.temporal.finish_waiting(&env.apps, "older").await?;
    ensure!(older.completed_on.starts_with("v1-"), "{older:?}");
    env.wait_settled("l2o", "v1").await?;
    env.api::<Process>()
        .delete("l2o", &DeleteParams::default())
        .await?;
    env.wait_gone("l2o").await?;
    scene.invariants.hold(env, &[&operator], QUIET).await?;
    scene.env.remove().await
}
