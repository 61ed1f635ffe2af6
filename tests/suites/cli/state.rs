//! `status`: the exit code that a pipeline waits for.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use process_operator_harness::{Cli, Scene, manifest, version};
use serde_json::Value;

use crate::support::{at_step, open_steps};

#[tokio::test(flavor = "multi_thread")]
async fn settled_failed_and_not_yet_have_codes_of_their_own() -> Result<()> {
    let scene = Scene::new("clistate").await?;
    let env = &scene.env;
    let cli = Cli::admin(env);
    cli.run(&["status", "l2o"])
        .await?
        .ended(2)?
        .complains(&["process l2o not found"])?;
    cli.run(&["status", "l2o", "--watch"]).await?.ended(2)?;
    cli.run(&["status", "l2o", "--timeout", "5s"])
        .await?
        .ended(2)?;
    // Right after the apply, as a pipeline does.
    env.apply(&manifest(env, "l2o", "v1")).await?;
    let said = cli
        .run(&["status", "l2o", "--watch", "--timeout", "90s"])
        .await?
        .ended(0)?;
    ensure!(
        said.out
            .lines()
            .last()
            .is_some_and(|line| line.contains("✔ Settled")),
        "{}",
        said.out
    );
    cli.run(&["status", "l2o"]).await?.ended(0)?;

    env.patch("l2o", &open_steps("v2", &[50])).await?;
    at_step(env, 1).await?;
    let said = cli.run(&["status", "l2o"]).await?.ended(3)?;
    said.shows(&["◐ Waiting"])?;
    let begun = Instant::now();
    let said = cli
        .run(&["status", "l2o", "-w", "--timeout", "2s", "-o", "json"])
        .await?
        .ended(3)?;
    said.complains(&["neither settled nor failed within 2 s"])?;
    ensure!(begun.elapsed() > Duration::from_secs(2), "it waits");
    let line: Value = serde_json::from_str(said.out.lines().next().unwrap_or_default())?;
    ensure!(line["word"] == "Waiting" && line["weight"] == 50, "{line}");

    let mut broken = version("v3", &[("CRASH_AT_START", "1")]);
    broken["spec"]["rollout"] = serde_json::json!({ "progressDeadlineSeconds": 10 });
    env.patch("l2o", &broken).await?;
    let said = cli
        .run(&["status", "l2o", "--watch", "--timeout", "90s"])
        .await?
        .ended(1)?;
    said.shows(&["✖ Failed  the new version did not become ready in time"])?;
    env.patch("l2o", &version("v1", &[])).await?;
    env.wait_settled("l2o", "v1").await?;
    scene.finish().await
}
