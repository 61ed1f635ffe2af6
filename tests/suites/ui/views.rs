//! The queries for views that the documentation gives, on the real server and in the list of the UI.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Env, SOON, Scene, TemporalUi, condition, until, version};
use serde_json::json;

use crate::support::{HEIGHT, QUEUE, at_first_step, on_v1, slow_canary, to_v2, versions};

const PAGE: &str = include_str!("../../../docs/operations.md");
const HEADING: &str = "### Views in the Temporal UI";

/// The rows of the table: what the view is called and its query.
fn views() -> Result<BTreeMap<String, String>> {
    let (_, text) = PAGE.split_once(HEADING).context("the heading")?;
    let text = text.split_once("\n#").map_or(text, |(section, _)| section);
    let rows = text.lines().filter_map(|line| {
        let (name, query) = line.strip_prefix("| ")?.split_once(" | `")?;
        Some((name.to_owned(), query.split_once('`')?.0.to_owned()))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    ensure!(rows.len() >= 8, "{rows:?}");
    Ok(rows)
}

/// Ids of what a view finds in the world of this test.
async fn found(env: &Env, process: &Process, name: &str) -> Result<Vec<String>> {
    let views = views()?;
    let query = views.get(name).with_context(|| format!("no view {name}"))?;
    let current = process
        .status
        .as_ref()
        .and_then(|status| status.current_version.as_ref());
    let build_id = current.map(|version| version.build_id.as_str());
    let query = query
        .replace("'shop'", &format!("'{}'", env.namespace))
        .replace("/shop/", &format!("/{}/", env.namespace))
        .replace("'shop/", &format!("'{}/", env.namespace))
        .replace("v2-4ccaf6ee", build_id.unwrap_or_default());
    // Gates and what is pinned are the workers', the rest is the operator's.
    let workers = query.contains("gate/") || query.contains("TemporalWorkerDeployment");
    let namespace = if workers { &env.apps } else { &env.control };
    let found = env.temporal.list(namespace, &query).await;
    let found = found.with_context(|| format!("{name}: {query}"))?;
    Ok(found
        .into_iter()
        .filter_map(|info| Some(info.execution?.workflow_id))
        .collect())
}

/// Waits until a view finds as many, each with this in its id.
async fn finds(env: &Env, process: &Process, name: &str, count: usize, part: &str) -> Result<()> {
    until(&format!("{name}: {count}"), SOON, async || {
        let ids = found(env, process, name).await?;
        let fit = ids.iter().all(|id| id.contains(part));
        ensure!(ids.len() == count && fit, "{ids:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_of_the_documentation_finds_what_it_says() -> Result<()> {
    let scene = Scene::new("uiviews").await?;
    let env = &scene.env;
    on_v1(env, &json!({})).await?;
    env.open_crowd(QUEUE, "old", 2, false).await?;
    let process = to_v2(env, 2).await?;
    let (v2, _) = versions(&process)?;
    finds(env, &process, "Drains under way", 1, "/v1-").await?;
    env.open_crowd(QUEUE, "new", 3, false).await?;
    finds(env, &process, "What is pinned to one version", 3, "new-").await?;

    let mut change = slow_canary();
    change["spec"]["image"] = version("v3", &[])["spec"]["image"].clone();
    env.patch("l2o", &change).await?;
    let process = at_first_step(env).await?;
    finds(env, &process, "Rollouts under way", 1, "/v3-").await?;
    finds(env, &process, "Processes that roll out", 1, "process/").await?;
    env.grant(&process, "abort").await?;
    let process = env
        .wait_process("l2o", "v3 was given up", SOON, |process| {
            condition(process, "Stalled").1 == "RolloutAborted"
        })
        .await?;
    finds(env, &process, "Rollouts that were given up", 1, "/v3-").await?;
    finds(env, &process, "Rollouts under way", 0, "").await?;
    finds(env, &process, "All Processes", 1, "process/").await?;
    finds(
        env,
        &process,
        "Processes with something wrong",
        1,
        "process/",
    )
    .await?;
    finds(env, &process, "Rollouts and drains of one version", 1, &v2).await?;
    let all = found(env, &process, "One Process").await?;
    for kind in ["process/", "rollout/", "drain/"] {
        ensure!(all.iter().any(|id| id.starts_with(kind)), "{kind}: {all:?}");
    }
    // Every row is asked, also those that find nothing here.
    for name in views()?.keys() {
        found(env, &process, name).await?;
    }

    let ui = TemporalUi::start(&env.testbed, HEIGHT).await?;
    let query = views()?.remove("Rollouts that were given up");
    ui.list(&env.control, &query.context("the view")?).await?;
    ui.shows(&["FAILED", &format!("rollout/{}/l2o/", env.namespace)])
        .await?;
    scene.leave().await
}
