//! Definitions in ConfigMaps.

mod versions;
mod watches;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, condition, is_settled, manifest, until};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::dependencies::blocked;

const SOON: Duration = Duration::from_secs(90);

async fn define(env: &Env, version: &str, text: &str) -> Result<()> {
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "l2o-v3", "labels": { "ameide.io/definition-version": version } },
        "data": { "l2o.bpmn": text },
    }))?;
    env.api().create(&PostParams::default(), &map).await?;
    Ok(())
}

async fn redefine(env: &Env, version: &str, text: &str) -> Result<()> {
    let change = json!({
        "metadata": { "labels": { "ameide.io/definition-version": version } },
        "data": { "l2o.bpmn": text },
    });
    env.api::<ConfigMap>()
        .patch("l2o-v3", &PatchParams::default(), &Patch::Merge(&change))
        .await?;
    Ok(())
}

/// What a worker of the Current version has read.
pub(crate) async fn read(env: &Env, id: &str) -> Result<String> {
    let answer = env.temporal.quick(&env.apps, "l2o-tq", id).await?;
    let mut files = answer.definition;
    let text = files.remove("l2o.bpmn").context("the definition")?;
    ensure!(files.is_empty(), "{files:?}");
    Ok(text)
}

/// What status says of the definition.
pub(crate) fn version(process: &Process) -> Option<i64> {
    process.status.as_ref()?.definition.as_ref()?.version
}

/// Build id of the Current version.
pub(crate) fn current(process: &Process) -> Option<String> {
    let status = process.status.as_ref()?;
    Some(status.current_version.as_ref()?.build_id.clone())
}

/// As the reference has it: of each entry the key, a line feed, the number of bytes, a line feed, the bytes.
fn checksum(text: &str) -> String {
    let content = format!("l2o.bpmn\n{}\n{text}", text.len());
    let hash = Sha256::digest(content);
    let hex: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

/// The workers have it where it is to be, and cannot write there.
async fn mounted(env: &Env) -> Result<()> {
    let pods = env.pods("l2o").await?;
    ensure!(!pods.is_empty(), "no pods");
    let containers = pods
        .iter()
        .flat_map(|pod| pod.spec.iter().flat_map(|spec| &spec.containers));
    for container in containers {
        let mounts = container.volume_mounts.iter().flatten();
        let mut found = mounts.filter(|it| it.mount_path == "/etc/process-definition");
        let found = found.next().context("a mount of the definition")?;
        ensure!(found.read_only == Some(true), "{found:?}");
    }
    Ok(())
}

/// The versions' own copies: name and content.
async fn copies(env: &Env) -> Result<BTreeMap<String, String>> {
    let own = ListParams::default().labels("app.kubernetes.io/component=definition");
    let found = env.api::<ConfigMap>().list(&own).await?;
    found
        .into_iter()
        .map(|copy| {
            ensure!(copy.immutable == Some(true), "{}", copy.name_any());
            let text = copy.data.iter().flatten().map(|(_, text)| text.clone());
            Ok((copy.name_any(), text.collect()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "one story")]
async fn a_definition_is_waited_for_followed_and_kept_for_each_version() -> Result<()> {
    let scene = Scene::new("definition").await?;
    let env = &scene.env;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["definitionRef"]["configMapRef"] = json!({ "name": "l2o-v3" });
    let process = env.apply(&process).await?;
    let waits = env
        .wait_process("l2o", "waits for its definition", SOON, |process| {
            condition(process, "DefinitionResolved").1 == "DefinitionNotFound"
        })
        .await?;
    let (ready, reason, message) = condition(&waits, "Ready");
    ensure!(
        ready == "False" && reason == "DefinitionNotFound",
        "{reason}"
    );
    for part in ["ConfigMap l2o-v3", "spec.definitionRef.configMapRef.name"] {
        ensure!(message.contains(part), "{message}");
    }
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    define(env, "3", "<first/>").await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    let (resolved, reason, message) = condition(&settled, "DefinitionResolved");
    ensure!(
        resolved == "True" && reason == "DefinitionFound",
        "{reason}"
    );
    ensure!(version(&settled) == Some(3), "{message}");
    blocked(env, &process, "DefinitionNotFound", 1).await?;
    let first = current(&settled).context("a version")?;
    ensure!(read(env, "first").await? == "<first/>", "of the first");
    let told = settled
        .status
        .as_ref()
        .and_then(|it| it.definition.as_ref());
    let told = told.map(|definition| definition.checksum.as_str());
    ensure!(told == Some(checksum("<first/>").as_str()), "{told:?}");
    mounted(env).await?;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;

    // Another content is another version, and the old one still has what it began with.
    redefine(env, "4", "<second/>").await?;
    let moved = env
        .wait_process("l2o", "the second", SOON, |process| {
            current(process).is_some_and(|now| now != first) && version(process) == Some(4)
        })
        .await?;
    let second = current(&moved).context("a version")?;
    ensure!(read(env, "second").await? == "<second/>", "of the second");
    let kept: Vec<String> = copies(env).await?.into_values().collect();
    ensure!(
        kept.len() == 2 && kept.contains(&"<first/>".to_owned()),
        "{kept:?}"
    );
    let finished = env.temporal.finish_waiting(&env.apps, "long").await?;
    ensure!(finished.completed_on == first, "{finished:?}");

    // A copy that is lost is made again, as long as there is something to make it from.
    let settled = env.wait_settled("l2o", "v1").await?;
    let all = copies(env).await?;
    let (lost, _) = all
        .iter()
        .find(|(_, text)| *text == "<second/>")
        .context("the copy of the second")?;
    let api = env.api::<ConfigMap>();
    api.delete(lost, &DeleteParams::default()).await?;
    until("the copy is back", SOON, async || {
        ensure!(copies(env).await?.contains_key(lost), "not yet");
        Ok(())
    })
    .await?;

    // Without it what runs goes on, and it is picked up again when it comes back.
    api.delete("l2o-v3", &DeleteParams::default()).await?;
    let told = env
        .wait_process("l2o", "degraded", SOON, |process| {
            condition(process, "Degraded").1 == "DefinitionNotFound"
        })
        .await?;
    ensure!(condition(&told, "Ready").0 == "True", "it serves");
    ensure!(current(&told) == Some(second.clone()), "the same version");
    ensure!(read(env, "meanwhile").await? == "<second/>", "its own copy");
    define(env, "4", "<second/>").await?;
    let back = env
        .wait_process("l2o", "as before", SOON, |process| {
            is_settled(process, "v1") && version(process) == Some(4)
        })
        .await?;
    ensure!(
        current(&back) == current(&settled),
        "nothing was rolled out"
    );
    blocked(env, &process, "DefinitionNotFound", 2).await?;

    // Gone with the Process, but what is the user's stays.
    scene
        .invariants
        .hold(env, &[&scene.operator], Duration::from_secs(5))
        .await?;
    env.delete("l2o").await?;
    env.wait_gone("l2o").await?;
    until("the copies are gone", SOON, async || {
        let left = copies(env).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    ensure!(api.get_opt("l2o-v3").await?.is_some(), "the user's stays");
    scene.env.remove().await
}
