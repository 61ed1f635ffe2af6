//! What the tests of this suite share.

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, condition, manifest};
use serde_json::Value;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;

/// Deadline of waits for what takes a moment; two cores carry everything.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// How long a user waits at most for `kubectl delete` with nothing open.
pub(crate) const PROMPT: Duration = Duration::from_secs(15);
/// The task queue of the Process under test.
pub(crate) const QUEUE: &str = "l2o-tq";

/// A Process `l2o` that has settled on v1, with this `spec.deletion`. From now on pods stay as long as something runs
/// on their version.
pub(crate) async fn settled(name: &str, deletion: &Value) -> Result<(Scene, Process)> {
    let scene = Scene::new(name).await?;
    let mut wanted = manifest(&scene.env, "l2o", "v1");
    wanted["spec"]["deletion"] = deletion.clone();
    scene.env.apply(&wanted).await?;
    let process = scene.env.wait_settled("l2o", "v1").await?;
    scene.env.guard_versions("l2o");
    Ok((scene, process))
}

/// What the condition Ready says of a Process that is being deleted.
pub(crate) async fn says(env: &Env, what: &str) -> Result<Process> {
    env.wait_process("l2o", &format!("it says {what:?}"), SOON, |process| {
        let (status, reason, message) = condition(process, "Ready");
        status == "False" && reason == "Deleting" && message.contains(what)
    })
    .await
}

/// A workflow has ended so.
pub(crate) async fn ended(env: &Env, id: &str, wanted: WorkflowExecutionStatus) -> Result<()> {
    env.temporal.wait_closed(&env.apps, id, SOON).await?;
    let found = env.temporal.run_status(&env.apps, id).await?;
    ensure!(found == wanted, "{id}: {found:?}, not {wanted:?}");
    Ok(())
}

/// It is open.
pub(crate) async fn is_open(env: &Env, id: &str) -> Result<()> {
    let found = env.temporal.run_status(&env.apps, id).await?;
    ensure!(found == WorkflowExecutionStatus::Running, "{id}: {found:?}");
    Ok(())
}

/// Reasons of the Events about a Process.
pub(crate) async fn told(env: &Env, process: &Process) -> Result<Vec<String>> {
    let events = env.events(process).await?;
    Ok(events.into_iter().map(|(reason, _)| reason).collect())
}

/// As `docs/deletion.md` says.
pub(crate) fn let_go(env: &Env) -> Result<()> {
    let annotation = "ameide.io/force-finalize=true";
    env.kubectl(&["annotate", "process", "l2o", annotation], "")
        .map(|_| ())
}
