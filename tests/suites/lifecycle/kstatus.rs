//! What tools that wait for objects make of a Process in each of its states, by the library that they use.

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, ListParams};
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, condition, is_current, manifest,
};
use serde_json::{Value, json};

use crate::support::{QUIET, SOON, Scene, version};

/// Looks at a Process in a state, and at what is made of it then.
async fn in_state(
    env: &Env,
    (name, what): (&str, &str),
    wanted: &str,
    state: impl Fn(&Process) -> bool,
) -> Result<Process> {
    let process = env.wait_process(name, what, SOON, state).await?;
    is(env, what, &process, wanted)?;
    Ok(process)
}

fn is(env: &Env, what: &str, process: &Process, wanted: &str) -> Result<()> {
    let (found, why) = env.kstatus(process)?;
    ensure!(
        found == wanted,
        "{what}: {found} ({why}) of {}",
        serde_json::to_string(process)?
    );
    Ok(())
}

fn observed(process: &Process) -> bool {
    let status = process.status.as_ref();
    status.and_then(|status| status.observed_generation) == process.metadata.generation
}

fn says(process: &Process, kind: &str, status: &str, reason: &str) -> bool {
    let (is, why, _) = condition(process, kind);
    observed(process) && is == status && (reason.is_empty() || why == reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn kstatus_is_right_in_each_state() -> Result<()> {
    let env = Env::new("kstatus").await?;
    let invariants = Invariants::start(&env)?;
    let mut first = manifest(&env, "l2o", "v1");
    first["spec"]["worker"]["readinessProbe"] =
        json!({ "exec": { "command": ["/none"] }, "periodSeconds": 1 });
    let untouched = env.apply(&first).await?;
    is(&env, "nobody has looked", &untouched, "InProgress")?;

    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    in_state(&env, ("l2o", "not yet served"), "InProgress", |process| {
        says(process, "Ready", "False", "")
    })
    .await?;
    env.patch(
        "l2o",
        &json!({ "spec": { "worker": { "readinessProbe": null } } }),
    )
    .await?;
    env.wait_settled("l2o", "v1").await?;
    let settled = env.api::<Process>().get("l2o").await?;
    is(&env, "settled", &settled, "Current")?;

    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    let changed = env
        .patch("l2o", &version("v2", &[("START_DELAY_MS", "4000")]))
        .await?;
    ensure!(!observed(&changed), "nobody can have looked yet");
    is(&env, "changed", &changed, "InProgress")?;
    in_state(&env, ("l2o", "rolling"), "InProgress", |process| {
        says(process, "Ready", "True", "RollingOut") && says(process, "Progressing", "True", "")
    })
    .await?;
    in_state(&env, ("l2o", "draining"), "Current", |process| {
        is_current(process, "v2")
            && says(process, "Draining", "True", "")
            && says(process, "Progressing", "False", "Settled")
    })
    .await?;

    workers_lost(&env).await?;

    let mut other = manifest(&env, "other", "v1");
    other["spec"]["temporal"]["taskQueue"] = json!("l2o-tq");
    env.apply(&other).await?;
    in_state(&env, ("other", "blocked"), "Failed", |process| {
        says(process, "Stalled", "True", "TaskQueueConflict")
    })
    .await?;
    env.api::<Process>()
        .delete("other", &DeleteParams::default())
        .await?;
    env.wait_gone("other").await?;

    by_hand(&env).await?;

    env.api::<Process>()
        .delete("l2o", &DeleteParams::default())
        .await?;
    in_state(&env, ("l2o", "deleting"), "Terminating", |process| {
        process.metadata.deletion_timestamp.is_some() && says(process, "Ready", "False", "Deleting")
    })
    .await?;
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.wait_gone("l2o").await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}

/// No pod of the Current version is left, and none may be made.
async fn workers_lost(env: &Env) -> Result<()> {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
        "spec": { "hard": { "pods": "1" } },
    });
    env.kubectl(&["apply", "-f", "-"], &quota.to_string())?;
    let process = env.api::<Process>().get("l2o").await?;
    let selector = process.status.and_then(|status| status.selector);
    let selector = selector.context("a selector")?;
    env.api::<k8s_openapi::api::core::v1::Pod>()
        .delete_collection(
            &DeleteParams::default(),
            &ListParams::default().labels(&selector),
        )
        .await?;
    in_state(env, ("l2o", "workers lost"), "InProgress", |process| {
        says(process, "Ready", "False", "WorkersUnavailable")
            && says(process, "Degraded", "True", "WorkersUnavailable")
    })
    .await?;
    env.kubectl(&["delete", "resourcequota", "few"], "")?;
    in_state(env, ("l2o", "workers are back"), "Current", |process| {
        says(process, "Ready", "True", "") && says(process, "Reconciling", "False", "")
    })
    .await?;
    Ok(())
}

/// A rollout that waits for somebody, who aborts it.
async fn by_hand(env: &Env) -> Result<()> {
    let mut change = version("v3", &[]);
    change["spec"]["rollout"] = json!({ "strategy": "Manual" });
    env.patch("l2o", &change).await?;
    let waiting = in_state(
        env,
        ("l2o", "waiting for somebody"),
        "InProgress",
        |process| says(process, "Progressing", "True", "WaitingForPromotion"),
    )
    .await?;
    env.grant(&waiting, "abort").await?;
    in_state(env, ("l2o", "aborted"), "Failed", |process| {
        says(process, "Stalled", "True", "RolloutAborted") && says(process, "Ready", "True", "")
    })
    .await?;
    Ok(())
}

/// A change after which one thing is missing or wrong, a dependency, the definition, or what only the API server
/// refuses, and everything else is well.
fn wrong(what: &str) -> Value {
    let mut spec = json!({
        "dependencies": null,
        "definitionRef": { "configMapRef": null },
        "worker": { "livenessProbe": null },
    });
    match what {
        "dependency" => spec["dependencies"] = json!({ "domains": [{ "name": "nowhere" }] }),
        "definition" => spec["definitionRef"]["configMapRef"] = json!({ "name": "nowhere" }),
        "spec" => {
            let probe = json!({ "tcpSocket": { "port": 8080 }, "successThreshold": 2 });
            spec["worker"]["livenessProbe"] = probe;
        }
        _ => {}
    }
    json!({ "spec": spec })
}

#[tokio::test(flavor = "multi_thread")]
async fn kstatus_is_right_where_something_is_missing_or_wrong() -> Result<()> {
    let scene = Scene::new("kmissing").await?;
    let env = &scene.env;
    let mut first = manifest(env, "l2o", "v1");
    first["spec"]["dependencies"] = wrong("dependency")["spec"]["dependencies"].clone();
    env.apply(&first).await?;
    // Somebody is at work on a dependency: it is waited for. What is told as Stalled is for the user to mend.
    let waits = in_state(env, ("l2o", "first: dependency"), "InProgress", |process| {
        says(process, "Ready", "False", "DependencyNotReady")
            && says(process, "Reconciling", "True", "DependencyNotReady")
    })
    .await?;
    ensure!(condition(&waits, "Stalled").0 == "False", "{waits:?}");
    for (what, reason) in [
        ("definition", "DefinitionNotFound"),
        ("spec", "InvalidSpec"),
    ] {
        env.patch("l2o", &wrong(what)).await?;
        in_state(
            env,
            ("l2o", &format!("first: {what}")),
            "Failed",
            |process| {
                says(process, "Ready", "False", reason)
                    && says(process, "Stalled", "True", reason)
                    && says(process, "Reconciling", "False", "")
            },
        )
        .await?;
    }
    env.patch("l2o", &wrong("nothing")).await?;
    env.wait_settled("l2o", "v1").await?;

    // With a version that serves it goes on serving.
    env.patch("l2o", &wrong("dependency")).await?;
    in_state(env, ("l2o", "serving: dependency"), "Current", |process| {
        says(process, "Ready", "True", "Settled")
            && says(process, "Degraded", "True", "DependencyNotReady")
            && says(process, "Stalled", "False", "")
    })
    .await?;
    for (what, reason) in [
        ("definition", "DefinitionNotFound"),
        ("spec", "InvalidSpec"),
    ] {
        env.patch("l2o", &wrong(what)).await?;
        in_state(
            env,
            ("l2o", &format!("serving: {what}")),
            "Failed",
            |process| {
                says(process, "Ready", "True", "") && says(process, "Stalled", "True", reason)
            },
        )
        .await?;
    }
    env.patch("l2o", &wrong("nothing")).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    is(env, "mended", &settled, "Current")?;
    scene.finish().await
}
