//! A drain that somebody looks at and ends with the form of the Temporal UI.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{SOON, Scene, Tab, TemporalUi, lifecycle_id};
use serde_json::json;

use crate::support::{HEIGHT, QUEUE, child, on_v1, to_v2};

/// Why and by whom, as status.history tells.
fn told(process: &Process, what: &str) -> Option<(String, String)> {
    let mut history = process.status.iter().flat_map(|status| &status.history);
    let entry = history.find(|entry| entry.what == what)?;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    Some((text(&entry.reason), text(&entry.actor)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_read_and_ended_by_the_form_for_signals() -> Result<()> {
    let scene = Scene::new("uiforce").await?;
    let env = &scene.env;
    let policy =
        json!({ "timeoutSeconds": 86400, "onTimeout": "Cancel", "cancelGraceSeconds": 120 });
    on_v1(env, &policy).await?;
    env.open_crowd(QUEUE, "old", 3, false).await?;
    let process = to_v2(env, 3).await?;
    let drain = child(env, &process, "drain", "v1").await?;
    let version = process
        .status
        .as_ref()
        .and_then(|it| it.draining.first())
        .context("a version that drains")?;
    let deadline = version.deadline.as_ref().context("a deadline")?.0;
    let v1 = &version.build_id;
    let ui = TemporalUi::start(&env.testbed, HEIGHT).await?;
    ui.workflow(&env.control, &drain, Tab::UserMetadata).await?;
    ui.shows(&[
        &format!("retire l2o {v1}"),
        &format!(
            "Keeps the pods of version {v1} of Process {}/l2o",
            env.namespace
        ),
        &format!("Keeping the workers of {v1} until no running workflow is pinned to it."),
        "Running workflows pinned to it: 3, the oldest since 20",
        &format!("At {deadline:.0} they are cancelled, and 120 s later terminated."),
        "Signal forceCancelDrain ends it",
        &format!(
            "To list them: TemporalWorkerDeploymentVersion = '{}/l2o:{v1}' AND ",
            env.namespace
        ),
    ])
    .await?;
    ui.workflow(&env.control, &drain, Tab::History).await?;
    ui.shows(&[
        &format!("Summary wait until no running workflow is pinned to {v1}"),
        &format!("Summary Cancel what is pinned to {v1} at {deadline:.0}"),
    ])
    .await?;

    let order = r#"{"action": "Terminate", "actor": "ada", "reason": "incident 7"}"#;
    ui.workflow(&env.control, &lifecycle_id(&process), Tab::History)
        .await?;
    ui.fill_signal("forceCancelDrain", order).await?;
    ui.send_signal().await?;
    env.wait_crowd("old", "Terminated", 3, SOON).await?;
    let process = env
        .wait_process("l2o", "the drain has ended", SOON, |process| {
            told(process, "VersionRetired").is_some()
        })
        .await?;
    let (_, actor) = told(&process, "ForceCancelDrainRequested").context("the request")?;
    ensure!(actor == "ada", "{actor}");
    let (effect, actor) = told(&process, "WorkflowsEnded").context("the effect")?;
    ensure!(
        effect == "Terminate of 3 running workflows: 0 left" && actor == "ada",
        "{effect} {actor}"
    );
    ui.shows(&["Signal Name forceCancelDrain", "Summary force the drain"])
        .await?;
    ui.workflow(&env.control, &drain, Tab::History).await?;
    ui.shows(&[
        "COMPLETED",
        &format!("Summary Terminate what is pinned to {v1}"),
        &format!("Summary remove record and Deployment of {v1}"),
        "Terminate of 3 running workflows: 0 left",
    ])
    .await?;
    scene.leave().await
}
