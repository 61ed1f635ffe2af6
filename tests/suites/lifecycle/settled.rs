//! What one sees of a Process at rest, and what it costs: nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{
    Operator, OperatorOptions, condition, is_current, lifecycle_id, manifest,
};

use crate::support::{QUIET, Scene, events_are_single, version};

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_process_causes_no_write_and_no_history_for_a_minute() -> Result<()> {
    let (scene, _) = Scene::settled("rest").await?;
    scene
        .invariants
        .hold(&scene.env, &[&scene.operator], Duration::from_mins(1))
        .await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_with_kubectl_works_right_after_apply() -> Result<()> {
    let scene = Scene::new("wait").await?;
    let env = &scene.env;
    let manifest = manifest(env, "l2o", "v1").to_string();
    env.kubectl(&["apply", "-f", "-"], &manifest)?;
    env.kubectl(
        &[
            "wait",
            "--for=condition=Ready",
            "process/l2o",
            "--timeout=60s",
        ],
        "",
    )?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "first").await?;
    ensure!(
        answer.build_id.starts_with("v1-"),
        "Ready means that workflows run: {answer:?}"
    );
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_with_kubectl_right_after_a_change_waits_for_the_change() -> Result<()> {
    let (scene, _) = Scene::settled("waitchange").await?;
    let env = &scene.env;
    let wait = |what: &str, seconds: u32| {
        let (what, within) = (format!("--for={what}"), format!("--timeout={seconds}s"));
        env.kubectl(&["wait", &what, "process/l2o", &within], "")
    };
    // Nobody has looked at the change, so what stands in the status is about the spec before: kubectl takes no
    // condition of another generation than the present one.
    scene.operator.kill();
    env.patch("l2o", &version("v2", &[("START_DELAY_MS", "4000")]))
        .await?;
    let process = env.api::<Process>().get("l2o").await?;
    for (kind, status) in [("Progressing", "False"), ("Ready", "True")] {
        ensure!(condition(&process, kind).0 == status, "{kind} as before");
        let waited = wait(&format!("condition={kind}={status}"), 2);
        let why = waited.err().context("it did not wait")?.to_string();
        ensure!(why.contains("timed out waiting"), "{why}");
    }
    // A path is only a path.
    wait("jsonpath={.status.taskQueue}=l2o-tq", 2)?;

    let again = Operator::start(env, OperatorOptions::default()).await?;
    wait("condition=Progressing=False", 90)?;
    let process = env.api::<Process>().get("l2o").await?;
    ensure!(
        is_current(&process, "v2"),
        "{}",
        serde_json::to_string(&process.status)?
    );
    // And with an operator that looks meanwhile.
    env.patch("l2o", &version("v3", &[("START_DELAY_MS", "4000")]))
        .await?;
    wait("condition=Progressing=False", 90)?;
    let process = env.api::<Process>().get("l2o").await?;
    ensure!(
        is_current(&process, "v3"),
        "{}",
        serde_json::to_string(&process.status)?
    );
    env.wait_settled("l2o", "v3").await?;
    scene
        .invariants
        .hold(env, &[&scene.operator, &again], QUIET)
        .await?;
    scene.env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_with_kubectl_for_a_deletion_ends_with_it() -> Result<()> {
    let (scene, process) = Scene::settled("waitgone").await?;
    let env = &scene.env;
    let wait = |what: &str, seconds: u32| {
        let (what, within) = (format!("--for={what}"), format!("--timeout={seconds}s"));
        env.kubectl(&["wait", &what, "process/l2o", &within], "")
    };
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    env.kubectl(&["delete", "process", "l2o", "--wait=false"], "")?;
    wait("condition=Ready=false", 60)?;
    // A workflow holds it.
    let waited = wait("delete", 2);
    let why = waited.err().context("it did not wait")?.to_string();
    ensure!(why.contains("timed out waiting"), "{why}");
    env.temporal.finish_waiting(&env.apps, "long").await?;
    wait("delete", 90)?;
    ensure!(env.api::<Process>().get_opt("l2o").await?.is_none());
    env.nothing_is_left(&process).await?;
    scene.finish().await
}

/// Reasons of the Events that a version causes on its way.
const TRANSITIONS: [&str; 6] = [
    "RolloutStarted",
    "VersionCurrent",
    "RolloutStarted",
    "VersionCurrent",
    "DrainStarted",
    "VersionRetired",
];

#[tokio::test(flavor = "multi_thread")]
async fn status_events_and_columns_tell_what_happened() -> Result<()> {
    let (scene, first) = Scene::settled("status").await?;
    let env = &scene.env;
    env.set_tag("l2o", "v2").await?;
    let process = env.wait_settled("l2o", "v2").await?;
    let status = process.status.clone().context("status")?;

    ensure!(
        status.observed_generation == process.metadata.generation,
        "{status:?}"
    );
    let current = status.current_version.clone().context("currentVersion")?;
    ensure!(
        current.image.ends_with(":v2") && current.since.is_some(),
        "{current:?}"
    );
    ensure!(
        (current.replicas, current.ready_replicas) == (1, 1),
        "{current:?}"
    );
    ensure!(
        status
            .target_version
            .as_ref()
            .is_some_and(|target| target.build_id == current.build_id),
        "{status:?}"
    );
    let deployments = env.deployments("l2o").await?;
    let names: Vec<_> = deployments
        .iter()
        .filter_map(|found| found.metadata.name.clone())
        .collect();
    ensure!(names == [current.deployment_name.clone()], "{names:?}");
    ensure!(status.task_queue.as_deref() == Some("l2o-tq"), "{status:?}");
    // v2, and v1 that is kept for a rollback.
    ensure!(
        status.replicas == Some(1) && status.version_count == Some(2),
        "{status:?}"
    );
    let selector = status.selector.clone().context("selector")?;
    let selected = env.kubectl(&["get", "pods", "-l", &selector, "-o", "name"], "")?;
    ensure!(
        selected.lines().count() == 1,
        "the selector finds the pods of the current version: {selected}"
    );
    let workflow = status.workflow.clone().context("workflow")?;
    ensure!(
        workflow.namespace == env.control && workflow.id == lifecycle_id(&process),
        "{workflow:?}"
    );
    let told: Vec<_> = status
        .history
        .iter()
        .map(|entry| entry.what.as_str())
        .collect();
    ensure!(told == TRANSITIONS, "{told:?}");
    for condition in &status.conditions {
        ensure!(
            condition.observed_generation == process.metadata.generation,
            "{condition:?}"
        );
    }
    let changed = |process: &Process, kind: &str| {
        let conditions = process.status.iter().flat_map(|status| &status.conditions);
        conditions
            .clone()
            .find(|found| found.type_ == kind)
            .map(|found| found.last_transition_time.clone())
    };
    ensure!(
        changed(&first, "Ready") == changed(&process, "Ready"),
        "Ready never went away during the roll"
    );

    let events = events_are_single(env, &process).await?;
    let reasons: Vec<_> = events.iter().map(|(reason, _)| reason.as_str()).collect();
    let mut wanted = TRANSITIONS;
    let mut sorted = reasons.clone();
    sorted.sort_unstable();
    wanted.sort_unstable();
    ensure!(
        sorted == wanted,
        "exactly one Event for each transition: {events:?}"
    );

    let table = env.kubectl(&["get", "process"], "")?;
    let mut lines = table.lines();
    let head: Vec<_> = lines.next().context("header")?.split_whitespace().collect();
    ensure!(
        head == [
            "NAME", "READY", "REASON", "CURRENT", "TARGET", "WEIGHT", "DRAINING", "AGE"
        ],
        "{head:?}"
    );
    let row: Vec<_> = lines.next().context("row")?.split_whitespace().collect();
    let build = current.build_id.as_str();
    ensure!(
        row[..5] == ["l2o", "True", "Settled", build, build],
        "{row:?}"
    );
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn history_keeps_the_last_ten_transitions() -> Result<()> {
    let (scene, _) = Scene::settled("history").await?;
    let env = &scene.env;
    // A change each time, with nothing to wait for but the switch: far more than ten transitions.
    for tag in ["v2", "v3", "v1"] {
        env.set_tag("l2o", tag).await?;
        env.wait_settled("l2o", tag).await?;
    }
    let process = env.api::<Process>().get("l2o").await?;
    let history = process.status.context("status")?.history;
    ensure!(history.len() == 10, "{}", history.len());
    ensure!(
        history.is_sorted_by_key(|entry| entry.time.0),
        "the oldest first"
    );
    let last = history.last().context("last")?;
    ensure!(
        last.what == "VersionRetired" && last.actor.as_deref() == Some("process-operator"),
        "{last:?}"
    );
    scene.finish().await
}
