//! Domains and Agents of other operators.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use process_operator_crds::Process;
use process_operator_faultproxy::audit::AuditFilter;
use process_operator_harness::{Env, Scene, condition, is_current, manifest, until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(90);

/// A definition such as another operator brings.
fn definition(kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "metadata": { "name": format!("{plural}.ameide.io") },
        "spec": {
            "group": "ameide.io",
            "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                } },
            }],
        },
    })
}

/// Takes both definitions away, as before the other operators are installed.
async fn absent(env: &Env) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(env.kube.clone());
    for name in ["domains.ameide.io", "agents.ameide.io"] {
        if api.get_opt(name).await?.is_some() {
            api.delete(name, &DeleteParams::default()).await?;
        }
        until(&format!("{name} is gone"), SOON, async || {
            ensure!(api.get_opt(name).await?.is_none(), "still there");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn install(env: &Env) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(env.kube.clone());
    for kind in ["Domain", "Agent"] {
        let wanted: CustomResourceDefinition = serde_json::from_value(definition(kind))?;
        api.create(&PostParams::default(), &wanted).await?;
        let name = wanted.name_any();
        until(&format!("{name} is served"), SOON, async || {
            let found = api.get(&name).await?;
            let conditions = found.status.and_then(|status| status.conditions);
            let served = conditions.into_iter().flatten();
            let mut served = served.filter(|it| it.type_ == "Established" && it.status == "True");
            ensure!(served.next().is_some(), "not yet");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn objects(env: &Env, kind: &str) -> Api<DynamicObject> {
    let gvk = kube::api::GroupVersionKind::gvk("ameide.io", "v1", kind);
    Api::namespaced_with(
        env.kube.clone(),
        &env.namespace,
        &ApiResource::from_gvk(&gvk),
    )
}

/// Makes the object if need be, and says whether it is Ready.
async fn set(env: &Env, kind: &str, name: &str, ready: bool) -> Result<()> {
    let api = objects(env, kind);
    if api.get_opt(name).await?.is_none() {
        let object = json!({
            "apiVersion": "ameide.io/v1", "kind": kind, "metadata": { "name": name }, "spec": {},
        });
        let object: DynamicObject = serde_json::from_value(object)?;
        api.create(&PostParams::default(), &object).await?;
    }
    let (status, reason) = if ready {
        ("True", "Settled")
    } else {
        ("False", "Provisioning")
    };
    let status = json!({ "status": { "conditions": [{
        "type": "Ready", "status": status, "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// Waits until the condition says so, with these words.
async fn told(env: &Env, status: &str, words: &[&str]) -> Result<Process> {
    env.wait_process("l2o", &format!("{status} {words:?}"), SOON, |process| {
        let (found, _, message) = condition(process, "DependenciesReady");
        found == status && words.iter().all(|word| message.contains(word))
    })
    .await
}

/// Waits until so many Events tell that it was blocked, and as many that it is not any more.
pub(crate) async fn blocked(
    env: &Env,
    process: &Process,
    reason: &str,
    times: usize,
) -> Result<()> {
    until(&format!("blocked {times} times"), SOON, async || {
        let events = env.events(process).await?;
        let notes = |kind: &str| -> Vec<String> {
            let told = events.iter().filter(|(reason, _)| reason == kind);
            told.map(|(_, note)| note.clone()).collect()
        };
        let (blocked, over) = (notes("Blocked"), notes("Unblocked"));
        let counts = (blocked.len(), over.len());
        ensure!(counts == (times, times), "{blocked:?} {over:?}");
        let about = blocked.iter().chain(&over);
        ensure!(
            about.clone().all(|note| note.contains(reason)),
            "{blocked:?} {over:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_version_waits_for_what_it_depends_on_and_a_running_one_does_not() -> Result<()> {
    let scene = Scene::new("dependencies").await?;
    let env = &scene.env;
    absent(env).await?;
    let mark = env.audit.mark()?;
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["dependencies"] = json!({
        "domains": [{ "name": "sales" }, { "name": "billing" }],
        "agents": [{ "name": "coach" }],
    });
    let process = env.apply(&process).await?;
    let missing = [
        "Domain sales does not exist",
        "Domain billing does not exist",
        "Agent coach does not exist",
    ];
    let waits = told(env, "False", &missing).await?;
    let (ready, reason, _) = condition(&waits, "Ready");
    ensure!(
        ready == "False" && reason == "DependencyNotReady",
        "{reason}"
    );
    ensure!(condition(&waits, "Reconciling").0 == "True", "it waits");
    ensure!(condition(&waits, "Stalled").0 == "False", "it is not stuck");
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    install(env).await?;
    set(env, "Domain", "sales", true).await?;
    set(env, "Domain", "billing", false).await?;
    set(env, "Agent", "coach", true).await?;
    let waits = told(
        env,
        "False",
        &["Domain billing is not Ready (Provisioning)"],
    )
    .await?;
    let message = condition(&waits, "DependenciesReady").2;
    ensure!(!message.contains("coach"), "{message}");
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );
    set(env, "Domain", "billing", true).await?;
    env.wait_settled("l2o", "v1").await?;
    told(env, "True", &["3 of 3 are ready"]).await?;
    blocked(env, &process, "DependencyNotReady", 1).await?;

    // Later on it is told and no more: workers answer, and a new version is rolled out.
    objects(env, "Agent")
        .delete("coach", &DeleteParams::default())
        .await?;
    let lost = told(env, "False", &["Agent coach does not exist"]).await?;
    ensure!(condition(&lost, "Ready").0 == "True", "it serves");
    ensure!(condition(&lost, "Stalled").0 == "False", "nothing is stuck");
    ensure!(
        condition(&lost, "Degraded").1 == "DependencyNotReady",
        "it is told"
    );
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "meanwhile").await?;
    ensure!(answer.build_id.starts_with("v1-"), "{answer:?}");
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v2 is current", SOON, |process| {
        is_current(process, "v2")
    })
    .await?;
    set(env, "Agent", "coach", true).await?;
    let whole = told(env, "True", &["3 of 3 are ready"]).await?;
    ensure!(condition(&whole, "Degraded").0 == "False", "well again");
    env.wait_settled("l2o", "v2").await?;
    blocked(env, &process, "DependencyNotReady", 2).await?;

    scene
        .invariants
        .hold(env, &[&scene.operator], Duration::from_secs(5))
        .await?;
    for resource in ["domains", "agents"] {
        let writes = AuditFilter::mutating().resource(resource);
        let writes = env.audit.select(mark, &writes)?;
        let ours = |user: &str| user.ends_with(":process-operator");
        ensure!(
            !writes.iter().any(|entry| ours(entry.user())),
            "the operator wrote {resource}"
        );
    }
    for (kind, name) in [
        ("Domain", "sales"),
        ("Domain", "billing"),
        ("Agent", "coach"),
    ] {
        objects(env, kind)
            .delete(name, &DeleteParams::default())
            .await?;
    }
    absent(env).await?;
    scene.env.remove().await
}
