//! Event buses reach the workers, their credentials only the kubelet.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams};
use process_operator_faultproxy::audit::AuditFilter;
use process_operator_harness::{Env, Scene, condition, is_current, manifest, version};
use serde_json::{Value, json};

use crate::definition::current;

/// Never to be seen anywhere but in the pod.
const PASSWORD: &str = "correct-horse-battery";

fn eventing(topic: &str, secret: &str) -> Value {
    json!({ "eventing": {
        "clusters": [
            { "name": "main", "bootstrapServers": "bus-0:9092,bus-1:9092", "credentialsSecretRef": { "name": secret } },
            { "name": "public", "bootstrapServers": "[::1]:9092" },
        ],
        "bindings": [
            { "name": "intents", "topic": topic, "direction": "Publish", "cluster": "main" },
            { "name": "facts", "topic": "scrum.domain.facts.v1", "direction": "Subscribe", "cluster": "public" },
        ],
    } })
}

async fn make_secret(env: &Env, name: &str) -> Result<()> {
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": name },
        "stringData": { "username": "worker", "password": PASSWORD },
    }))?;
    env.api().create(&PostParams::default(), &secret).await?;
    Ok(())
}

/// What a worker of the Current version says of its topics, and its build id.
async fn bound(env: &Env, id: &str) -> Result<(Value, String)> {
    let answer = env.temporal.quick(&env.apps, "l2o-tq", id).await?;
    Ok((serde_json::to_value(answer.bindings)?, answer.build_id))
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_reach_the_worker_and_a_change_is_a_new_version() -> Result<()> {
    let scene = Scene::new("eventing").await?;
    let env = &scene.env;
    let mark = env.audit.mark()?;
    make_secret(env, "bus-login").await?;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["dependencies"] = eventing("scrum.domain.intents.v1", "bus-login");
    env.apply(&process).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    let (found, first) = bound(env, "first").await?;
    let wanted = json!({
        "intents": {
            "topic": "scrum.domain.intents.v1", "direction": "Publish",
            "bootstrap_servers": "bus-0:9092,bus-1:9092", "credentials": ["password", "username"],
        },
        "facts": {
            "topic": "scrum.domain.facts.v1", "direction": "Subscribe",
            "bootstrap_servers": "[::1]:9092", "credentials": [],
        },
    });
    ensure!(found == wanted, "{found}");

    let other =
        json!({ "spec": { "dependencies": eventing("scrum.domain.intents.v2", "bus-login") } });
    env.patch("l2o", &other).await?;
    let moved = env
        .wait_process(
            "l2o",
            "the next version",
            Duration::from_secs(60),
            |process| {
                is_current(process, "v1") && current(process).as_deref() != Some(first.as_str())
            },
        )
        .await?;
    let (found, second) = bound(env, "second").await?;
    ensure!(
        found["intents"]["topic"] == "scrum.domain.intents.v2",
        "{found}"
    );
    ensure!(current(&moved).as_ref() == Some(&second), "{second}");

    env.patch("l2o", &json!({ "spec": { "dependencies": null } }))
        .await?;
    env.wait_process("l2o", "without buses", Duration::from_secs(60), |process| {
        current(process).is_some_and(|now| now != second && now != first)
    })
    .await?;
    let (found, _) = bound(env, "third").await?;
    ensure!(found == json!({}), "{found}");

    // The operator neither read the Secret nor told of its content.
    let history = env
        .temporal
        .history(
            &env.control,
            &process_operator_harness::lifecycle_id(&settled),
        )
        .await?;
    ensure!(!format!("{history:?}").contains(PASSWORD), "in the history");
    ensure!(!scene.operator.log_text().contains(PASSWORD), "in the log");
    let secrets = AuditFilter::any().resource("secrets");
    let asked = env.audit.select(mark, &secrets)?;
    let ours = |user: &str| user.ends_with(":process-operator");
    ensure!(
        !asked.iter().any(|entry| ours(entry.user())),
        "the operator asked for Secrets"
    );
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_is_named_and_harms_no_running_version() -> Result<()> {
    let (scene, settled) = Scene::settled("eventing-missing").await?;
    let env = &scene.env;
    let before = current(&settled).context("a current version")?;
    let change = json!({ "spec": {
        "rollout": { "progressDeadlineSeconds": 30 },
        "dependencies": eventing("scrum.domain.intents.v1", "bus-login"),
    } });
    env.patch("l2o", &change).await?;
    let stalled = env
        .wait_process("l2o", "stalled", Duration::from_secs(90), |process| {
            condition(process, "Stalled").0 == "True"
        })
        .await?;
    let message = condition(&stalled, "Stalled").2;
    let named =
        "Secret bus-login of spec.dependencies.eventing.clusters[main].credentialsSecretRef";
    ensure!(message.contains(named), "{message}");
    ensure!(condition(&stalled, "Ready").0 == "True", "it serves");
    let (_, answers) = bound(env, "meanwhile").await?;
    ensure!(answers == before, "{answers}");

    // Corrected by what the message says, and a newer image.
    make_secret(env, "bus-login").await?;
    env.patch("l2o", &version("v2", &[])).await?;
    env.wait_settled("l2o", "v2").await?;
    let (found, _) = bound(env, "after").await?;
    ensure!(
        found["intents"]["credentials"] == json!(["password", "username"]),
        "{found}"
    );
    env.api::<Secret>()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    scene.finish().await
}
