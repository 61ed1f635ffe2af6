//! What the log lines of an activity are found by.

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Env, OperatorOptions, Scene, lifecycle_id, manifest};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_an_activity_says_which_process_and_which_workflow_it_is_about() -> Result<()> {
    // In good order activities have little to say; at this level each question to Temporal is a line.
    let level = "info,process_operator_activities=debug";
    let options = OperatorOptions {
        env: vec![("RUST_LOG".to_owned(), level.to_owned())],
        ..OperatorOptions::default()
    };
    let scene = Scene::of(Env::new("logs").await?, options).await?;
    let env = &scene.env;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;

    let log = scene.operator.log_text();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<Value> = lines
        .filter(|line| line["span"]["name"] == "activity")
        .collect();
    for line in &lines {
        let of_it = json!([env.namespace, "l2o"]);
        let span = &line["span"];
        ensure!(
            json!([span["namespace"], span["process"]]) == of_it,
            "{line}"
        );
    }

    // A look is a local activity of the lifecycle. Which generation it is about is known once it has read that.
    let id = lifecycle_id(&process);
    let runs = env
        .temporal
        .list(&env.control, &format!("WorkflowId = '{id}'"))
        .await?;
    let run = runs.first().and_then(|run| run.execution.as_ref());
    let (look, span) = lines
        .iter()
        .map(|line| (line, &line["span"]))
        .find(|(_, span)| span["activity"] == "observe" && !span["generation"].is_null())
        .context("a line of a look")?;
    let wanted = json!({
        "name": "activity",
        "activity": "observe",
        "workflow_id": id,
        "run_id": run.context("a run")?.run_id,
        "attempt": 1,
        "namespace": env.namespace,
        "process": "l2o",
        "generation": process.metadata.generation,
    });
    ensure!(*span == wanted, "{look}, not {wanted}");

    // A change of routing goes on when its activity is given up: its line names that activity all the same.
    let change = lines
        .iter()
        .find(|line| line["what"] == "set current version")
        .context("a line of a change")?;
    let span = &change["span"];
    let rollout = format!("rollout/{}/l2o/", env.namespace);
    ensure!(
        span["activity"] == "set-current"
            && span["workflow_id"]
                .as_str()
                .is_some_and(|id| id.starts_with(&rollout))
            && span["run_id"].is_string(),
        "{change}"
    );
    scene.finish().await
}
