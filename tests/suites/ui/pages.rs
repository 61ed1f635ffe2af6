//! What the pages of a Process's workflows say.

use anyhow::{Context as _, Result};
use process_operator_harness::{Scene, Tab, TemporalUi, lifecycle_id};
use serde_json::json;

use crate::support::{HEIGHT, at_first_step, child, on_v1, slow_canary, versions};

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_and_its_lifecycle_say_where_they_stand() -> Result<()> {
    let scene = Scene::new("uicanary").await?;
    let env = &scene.env;
    on_v1(env, &json!({})).await?;
    env.patch("l2o", &slow_canary()).await?;
    let process = at_first_step(env).await?;
    let (v1, v2) = versions(&process)?;
    let rollout = process.status.as_ref().and_then(|it| it.rollout.clone());
    let due = rollout.and_then(|it| it.next_step_time).context("a time")?;
    let due = format!("{:.0}", due.0);
    let name = format!("{}/l2o", env.namespace);
    let ui = TemporalUi::start(&env.testbed, HEIGHT).await?;

    let id = child(env, &process, "rollout", "v2").await?;
    ui.workflow(&env.control, &id, Tab::UserMetadata).await?;
    ui.shows(&[
        &format!("bring l2o {v2} live"),
        &format!("Brings version {v2} of Process {name} live."),
        "are Updates and signals of its parent.",
        &format!("10 % of new workflows go to {v2} until {due}."),
        "▶ 1 of 2 10 % 1 h have passed 2 of 2 50 % somebody promotes it then 100 %",
    ])
    .await?;
    ui.workflow(&env.control, &id, Tab::History).await?;
    let deployment = format!("l2o-{}", v2.trim_start_matches("v2-"));
    ui.shows(&[
        &format!("Summary wait until pods of {deployment} are ready and poll l2o-tq"),
        &format!("Summary send 10 % of new workflows to {v2}"),
        &format!("Summary hold 10 % until {due}"),
        &format!("Summary watch executions and pods of {v2}"),
    ])
    .await?;

    let id = lifecycle_id(&process);
    ui.workflow(&env.control, &id, Tab::UserMetadata).await?;
    ui.shows(&[
        &format!("Process {name}"),
        "Do not terminate it to stop a rollout: set spec.suspend.",
        "Rolling out a new version",
        &format!("Ready: yes, {v1} is current"),
        &format!("Progressing: yes, {v2} takes 10 % of new workflows, step 1 of 2 until {due}"),
        "version role new workflows ready pods open until in Temporal image",
        &format!("{v1} current 90 % 1 of 1 - - Current localhost/process-example-worker:v1"),
        &format!("{v2} target 10 % 1 of 1 - {due} Ramping localhost/process-example-worker:v2"),
    ])
    .await?;
    ui.workflow(&env.control, &id, Tab::History).await?;
    ui.shows(&[
        &format!("Summary look at {name}"),
        "Summary add finalizer, apply Deployment l2o-",
        &format!("Summary bring l2o {v2} live"),
    ])
    .await?;
    ui.workflow(&env.control, &id, Tab::SearchAttributes)
        .await?;
    ui.shows(&[
        &format!("\"ProcessBuildId\": \"{v2}\""),
        &format!("\"ProcessKubernetesNamespace\": \"{}\"", env.namespace),
        "\"ProcessName\": \"l2o\"",
        "\"ProcessPhase\": \"RollingOut\"",
    ])
    .await?;
    scene.finish().await
}
