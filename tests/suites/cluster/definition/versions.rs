//! Versions of definitions: what is one, and what changes when only it does.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, condition, manifest};
use serde_json::{Value, json};

use super::{SOON, current, define, read, redefine, version};

async fn settled(env: &Env, label: &str) -> Result<Process> {
    define(env, label, "<first/>").await?;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["definitionRef"]["configMapRef"] = json!({ "name": "l2o-v3" });
    env.apply(&process).await?;
    env.wait_settled("l2o", "v1").await
}

async fn change(env: &Env, change: &Value) -> Result<()> {
    env.api::<ConfigMap>()
        .patch("l2o-v3", &PatchParams::default(), &Patch::Merge(change))
        .await?;
    Ok(())
}

/// What a status says of a label that is no version.
fn says_so(process: &Process, label: &str) -> Result<()> {
    let (resolved, reason, message) = condition(process, "DefinitionResolved");
    ensure!(
        resolved == "True" && reason == "DefinitionFound",
        "{resolved} {reason}"
    );
    for part in [
        "ameide.io/definition-version",
        &format!("{label:?}"),
        "a whole number from 0 to 9007199254740991",
    ] {
        ensure!(message.contains(part), "{message}");
    }
    ensure!(version(process).is_none(), "{:?}", version(process));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_status_cannot_hold_is_said_and_keeps_nothing_from_being_done() -> Result<()>
{
    let scene = Scene::new("odd-version").await?;
    let env = &scene.env;
    let process = settled(env, "9223372036854775807").await?;
    says_so(&process, "9223372036854775807")?;
    ensure!(read(env, "served").await? == "<first/>", "it serves");
    redefine(env, "v3", "<second/>").await?;
    let moved = env
        .wait_process("l2o", "the second", SOON, |now| {
            current(now).is_some() && current(now) != current(&process)
        })
        .await?;
    says_so(&moved, "v3")?;
    env.wait_settled("l2o", "v1").await?;
    scene
        .invariants
        .hold(env, &[&scene.operator], process_operator_harness::QUIET)
        .await?;
    env.delete("l2o").await?;
    env.wait_gone("l2o").await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_label_alone_shows_and_makes_no_version() -> Result<()> {
    let scene = Scene::new("relabel").await?;
    let env = &scene.env;
    let process = settled(env, "3").await?;
    ensure!(version(&process) == Some(3), "{:?}", version(&process));
    let first = current(&process).context("a version")?;
    let label =
        |text: Value| json!({ "metadata": { "labels": { "ameide.io/definition-version": text } } });
    for (text, wanted) in [
        (json!("4"), Some(4)),
        (json!("9007199254740991"), Some(9_007_199_254_740_991)),
        (json!(null), None),
        (json!("5"), Some(5)),
    ] {
        change(env, &label(text)).await?;
        let told = env
            .wait_process("l2o", &format!("version {wanted:?}"), SOON, |process| {
                version(process) == wanted
            })
            .await?;
        ensure!(current(&told).as_ref() == Some(&first), "no rollout");
    }
    change(env, &label(json!("v6"))).await?;
    let odd = env
        .wait_process("l2o", "it is no version", SOON, |process| {
            version(process).is_none()
        })
        .await?;
    says_so(&odd, "v6")?;
    // From one that is none to another one.
    change(env, &label(json!("v7"))).await?;
    let odd = env
        .wait_process("l2o", "the other text", SOON, |process| {
            condition(process, "DefinitionResolved")
                .2
                .contains("\"v7\"")
        })
        .await?;
    says_so(&odd, "v7")?;
    let settled = env.wait_settled("l2o", "v1").await?;
    ensure!(current(&settled).as_ref() == Some(&first), "no rollout");
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_without_a_byte_is_no_definition() -> Result<()> {
    let scene = Scene::new("empty-definition").await?;
    let env = &scene.env;
    define(env, "3", "").await?;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["definitionRef"]["configMapRef"] = json!({ "name": "l2o-v3" });
    env.apply(&process).await?;
    let waits = env
        .wait_process("l2o", "it is empty", SOON, |process| {
            condition(process, "Ready").1 == "DefinitionUnusable"
        })
        .await?;
    let (resolved, reason, message) = condition(&waits, "DefinitionResolved");
    ensure!(
        resolved == "False" && reason == "DefinitionUnusable",
        "{resolved} {reason}"
    );
    for part in [
        "ConfigMap l2o-v3 is empty",
        "spec.definitionRef.configMapRef.name",
    ] {
        ensure!(message.contains(part), "{message}");
    }
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );
    redefine(env, "3", "<first/>").await?;
    let settled = env.wait_settled("l2o", "v1").await?;

    // What runs goes on with its copy.
    redefine(env, "3", "").await?;
    let told = env
        .wait_process("l2o", "it is empty again", SOON, |process| {
            condition(process, "Degraded").1 == "DefinitionUnusable"
        })
        .await?;
    ensure!(condition(&told, "Ready").0 == "True", "it serves");
    ensure!(current(&told) == current(&settled), "the same version");
    ensure!(read(env, "meanwhile").await? == "<first/>", "its own copy");
    redefine(env, "3", "<first/>").await?;
    let back = env.wait_settled("l2o", "v1").await?;
    ensure!(
        current(&back) == current(&settled),
        "nothing was rolled out"
    );
    scene.finish().await
}
