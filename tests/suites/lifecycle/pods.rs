//! Pods of a version that serves are lost after its rollout is over.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, condition, manifest, until};
use serde_json::{Value, json};

use crate::support::{SOON, Scene};

/// Evicts pods, as a node that is drained does.
async fn evict(env: &Env, count: usize) -> Result<()> {
    for pod in env.pods("l2o").await?.iter().take(count) {
        env.api::<Pod>()
            .evict(&pod.name_any(), &EvictParams::default())
            .await?;
    }
    Ok(())
}

async fn create<K>(env: &Env, object: Value) -> Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object)?;
    env.api::<K>()
        .create(&PostParams::default(), &object)
        .await?;
    Ok(())
}

/// Waits until the workers are said to be ailing with these words.
async fn ailing(env: &Env, words: &str) -> Result<Process> {
    env.wait_process("l2o", words, SOON, |process| {
        ["Degraded", "WorkersReady"].iter().all(|kind| {
            let (_, reason, message) = condition(process, kind);
            reason == "WorkersUnavailable" && message.contains(words)
        })
    })
    .await
}

/// Waits until Events, which follow the status, have told so often that workers are lost, and that they are
/// back.
async fn told(env: &Env, process: &Process, enough: impl Fn(usize, usize) -> bool) -> Result<()> {
    until("Events of lost workers", SOON, async || {
        let events = env.events(process).await?;
        let count = |wanted: &str| events.iter().filter(|(reason, _)| reason == wanted).count();
        let (lost, back) = (count("WorkersUnavailable"), count("WorkersReady"));
        ensure!(enough(lost, back), "{lost} lost, {back} back");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn why_workers_are_lost_is_told_and_taken_back_when_they_return() -> Result<()> {
    let scene = Scene::new("pods").await?;
    let env = &scene.env;
    let secret =
        json!({ "metadata": { "name": "database" }, "stringData": { "URL": "postgres://db" } });
    create::<Secret>(env, secret.clone()).await?;
    create::<ConfigMap>(env, json!({ "metadata": { "name": "tuning" }, "data": {} })).await?;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["replicas"] = json!(2);
    process["spec"]["worker"]["envFrom"] = json!([
        { "secretRef": { "name": "database" } },
        { "configMapRef": { "name": "tuning" } },
    ]);
    let process = env.apply(&process).await?;
    env.wait_settled("l2o", "v1").await?;

    // One of two is evicted, and what the new one needs has gone meanwhile. Nothing of the Deployment
    // changes when the kubelet finds that out.
    let secrets = env.api::<Secret>();
    secrets.delete("database", &DeleteParams::default()).await?;
    evict(env, 1).await?;
    let one = ailing(env, "secret \"database\" not found").await?;
    let (ready, _, message) = condition(&one, "Ready");
    ensure!(ready == "True", "the other one serves");
    ensure!(message.contains("1/2 worker pods ready"), "{message}");
    told(env, &process, |lost, back| (lost, back) == (1, 0)).await?;
    create::<Secret>(env, secret).await?;
    let well = env.wait_settled("l2o", "v1").await?;
    let message = condition(&well, "Ready").2;
    ensure!(message.ends_with("2/2 worker pods ready"), "{message}");
    told(env, &process, |lost, back| (lost, back) == (1, 1)).await?;

    // Both are, and the new ones end as soon as they start.
    let tune = async |data: Value| {
        env.api::<ConfigMap>()
            .patch(
                "tuning",
                &PatchParams::default(),
                &Patch::Merge(&json!({ "data": data })),
            )
            .await
    };
    tune(json!({ "FAIL_PERCENT": "many" })).await?;
    evict(env, 2).await?;
    let none = env
        .wait_process("l2o", "no worker is left", SOON, |process| {
            let (ready, reason, message) = condition(process, "Ready");
            ready == "False" && reason == "WorkersUnavailable" && message.contains("exit code")
        })
        .await?;
    let message = condition(&none, "Degraded").2;
    ensure!(
        message.starts_with("0/2 worker pods ready: pod "),
        "{message}"
    );
    ensure!(env.kstatus(&none)?.0 == "InProgress", "they may come back");
    tune(json!({ "FAIL_PERCENT": null })).await?;
    // The kubelet would wait longer and longer between two tries.
    evict(env, 2).await?;
    let well = env.wait_settled("l2o", "v1").await?;
    let message = condition(&well, "WorkersReady").2;
    ensure!(message == "2/2 worker pods ready", "{message}");
    told(env, &process, |lost, back| lost == back && lost >= 2).await?;
    scene.finish().await
}
