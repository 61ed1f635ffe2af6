//! F39: Secrets and ConfigMaps that a Process names and that are not there, come later, are changed, or may not
//! be read. What is missing is told by its name while it is waited for, and what waits goes on by itself. The
//! operator reads no Secret for that.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditFilter, AuditMark};
use process_operator_faultproxy::{Action, Answer, RequestMatch, Verb};
use process_operator_harness::{Env, condition, manifest, until};
use serde_json::{Value, json};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

async fn secret(env: &Env, name: &str, data: &Value) -> Result<()> {
    let secret: Secret =
        serde_json::from_value(json!({ "metadata": { "name": name }, "stringData": data }))?;
    env.api().create(&PostParams::default(), &secret).await?;
    Ok(())
}

async fn config_map(env: &Env, name: &str, data: &Value) -> Result<()> {
    let map: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": name }, "data": data }))?;
    env.api().create(&PostParams::default(), &map).await?;
    Ok(())
}

/// It waits for its workers, and says for what.
async fn waits(env: &Env, words: &str) -> Result<Process> {
    let told = env
        .wait_process(NAME, words, SOON, |process| {
            let (status, reason, message) = condition(process, "Progressing");
            status == "True" && reason == "WaitingForWorkers" && message.contains(words)
        })
        .await?;
    for (kind, status) in [
        ("Reconciling", "True"),
        ("Stalled", "False"),
        ("Degraded", "False"),
    ] {
        let (found, why, message) = condition(&told, kind);
        ensure!(found == status, "{kind} is {found}, {why} {message}");
    }
    Ok(told)
}

/// The operator has asked for no Secret, of this or any namespace.
fn no_secret_was_read(world: &World, since: AuditMark) -> Result<()> {
    let ours = AuditFilter::any()
        .service_account("process-operator", "process-operator")
        .resource("secrets");
    let asked = world.env.audit.select(since, &ours)?;
    ensure!(asked.is_empty(), "{asked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_environment_needs_is_named_one_after_the_other_and_then_it_serves() -> Result<()>
{
    let world = World::new("f39e").await?;
    let env = &world.env;
    let mark = env.audit.mark()?;
    let mut process = manifest(env, NAME, "v1");
    process["spec"]["temporal"]["connectionSecretRef"] = json!({ "name": "connection" });
    process["spec"]["worker"]["envFrom"] = json!([{ "secretRef": { "name": "database" } }]);
    process["spec"]["worker"]["env"] = json!([
        { "name": "MODE", "valueFrom": { "configMapKeyRef": { "name": "modes", "key": "mode" } } },
        { "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "maybe", "key": "token", "optional": true } } },
    ]);
    env.apply(&process).await?;
    let told = waits(env, "secret \"database\" not found").await?;
    let (ready, reason, message) = condition(&told, "Ready");
    ensure!(
        ready == "False" && reason == "WaitingForWorkers" && message.contains("\"database\""),
        "{ready} {reason} {message}"
    );
    secret(env, "database", &json!({ "URL": "postgres://db" })).await?;
    waits(env, "secret \"connection\" not found").await?;
    let address = &env.temporal_pod_address;
    secret(env, "connection", &json!({ "address": address })).await?;
    waits(env, "configmap \"modes\" not found").await?;
    config_map(env, "modes", &json!({ "other": "1" })).await?;
    waits(env, "couldn't find key mode in ConfigMap").await?;
    let with = json!({ "data": { "mode": "fast" } });
    env.api::<ConfigMap>()
        .patch("modes", &PatchParams::default(), &Patch::Merge(&with))
        .await?;
    at_rest(&world, "v1").await?;
    env.temporal.quick(&env.apps, "l2o-tq", "served").await?;
    no_secret_was_read(&world, mark)?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_volumes_need_is_named_while_the_old_version_serves() -> Result<()> {
    let world = World::new("f39v").await?;
    let env = &world.env;
    let mark = env.audit.mark()?;
    env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let change = json!({ "spec": {
        "image": "localhost/process-example-worker:v2",
        "worker": {
            "volumes": [
                { "name": "tls", "secret": { "secretName": "tls" } },
                { "name": "config", "configMap": { "name": "settings" } },
            ],
            "volumeMounts": [
                { "name": "tls", "mountPath": "/tls", "readOnly": true },
                { "name": "config", "mountPath": "/config" },
            ],
        },
    } });
    env.patch(NAME, &change).await?;
    let told = waits(env, "its volumes need Secret tls, ConfigMap settings").await?;
    ensure!(condition(&told, "Ready").0 == "True", "v1 serves");
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    config_map(env, "settings", &json!({ "a": "b" })).await?;
    secret(env, "tls", &json!({ "tls.crt": "none" })).await?;
    at_rest(&world, "v2").await?;
    no_secret_was_read(&world, mark)?;
    world.finish().await
}

/// A new value is no new version, and no pod is restarted for it; the verb `restart` brings it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_taken_over_by_a_restart() -> Result<()> {
    let world = World::new("f39r").await?;
    let env = &world.env;
    let mark = env.audit.mark()?;
    secret(env, "who", &json!({ "POD_NAME": "before" })).await?;
    let mut process = manifest(env, NAME, "v1");
    process["spec"]["worker"]["envFrom"] = json!([{ "secretRef": { "name": "who" } }]);
    env.apply(&process).await?;
    at_rest(&world, "v1").await?;
    let said = async |id: &str| {
        let answer = env.temporal.quick(&env.apps, "l2o-tq", id).await?;
        anyhow::Ok((answer.pod, answer.build_id))
    };
    let (pod, build_id) = said("first").await?;
    ensure!(pod == "before", "{pod}");

    let change = json!({ "stringData": { "POD_NAME": "after" } });
    let secrets = env.api::<Secret>();
    secrets
        .patch("who", &PatchParams::default(), &Patch::Merge(&change))
        .await?;
    world.hold().await?;
    let process = env.api::<Process>().get(NAME).await?;
    let now = said("second").await?;
    ensure!(now == ("before".into(), build_id.clone()), "{now:?}");
    let uids = async || {
        let pods = env.pods(NAME).await?;
        let uids = pods.iter().filter_map(kube::ResourceExt::uid);
        anyhow::Ok(uids.collect::<Vec<_>>())
    };
    let first = uids().await?;

    env.grant(&process, "restart").await?;
    until("the new value is there", SOON, async || {
        let id = format!("third-{}", jiff::Timestamp::now().as_millisecond());
        let now = said(&id).await?;
        ensure!(now == ("after".into(), build_id.clone()), "{now:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    at_rest(&world, "v1").await?;
    until("there are other pods, and only those", SOON, async || {
        let now = uids().await?;
        let other = !now.is_empty() && now.iter().all(|uid| !first.contains(uid));
        ensure!(other, "{first:?}, now {now:?}");
        Ok(())
    })
    .await?;

    // Gone while nobody needs it: what runs goes on.
    secrets.delete("who", &DeleteParams::default()).await?;
    world.hold().await?;
    said("fourth").await?;
    no_secret_was_read(&world, mark)?;
    world.finish().await
}

/// The right to read ConfigMaps is taken away, and given back.
#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_may_not_be_read_any_more_is_told_and_tried_again() -> Result<()> {
    let world = World::new("f39p").await?;
    let env = &world.env;
    config_map(env, "l2o-v3", &json!({ "l2o.bpmn": "<first/>" })).await?;
    let mut process = manifest(env, NAME, "v1");
    process["spec"]["definitionRef"]["configMapRef"] = json!({ "name": "l2o-v3" });
    env.apply(&process).await?;
    at_rest(&world, "v1").await?;

    let words = "configmaps \"l2o-v3\" is forbidden";
    let refusal = Answer::status(403).reason("Forbidden").message(words);
    let reads = RequestMatch::any()
        .verb(Verb::Get)
        .resource("configmaps")
        .name("l2o-v3");
    let rule = world.kube.rule(reads, Action::Answer(refusal));
    env.set_tag(NAME, "v2").await?;
    let told = env
        .wait_process(NAME, "the refusal is told", SOON, |process| {
            let (status, reason, message) = condition(process, "DefinitionResolved");
            status == "False" && reason == "Forbidden" && message.contains(words)
        })
        .await?;
    for (kind, status) in [
        ("Ready", "True"),
        ("Degraded", "True"),
        ("Reconciling", "True"),
        ("Stalled", "False"),
    ] {
        let (found, why, message) = condition(&told, kind);
        ensure!(found == status, "{kind} is {found}, {why} {message}");
    }
    let before = rule.hits();
    rule.wait_done(before + 2, SOON).await?;
    let answer = env
        .temporal
        .quick(&env.apps, "l2o-tq", "meanwhile")
        .await
        .context("v1 answers")?;
    ensure!(answer.definition.contains_key("l2o.bpmn"), "{answer:?}");
    rule.remove();
    at_rest(&world, "v2").await?;
    world.finish().await
}
