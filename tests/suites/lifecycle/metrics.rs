//! What `/metrics` says.

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::until;

use crate::support::{SOON, Scene};

/// The value of one line.
fn value(page: &str, line: &str) -> Result<f64> {
    let found = page
        .lines()
        .find_map(|it| it.strip_prefix(line)?.strip_prefix(' '));
    let found = found.with_context(|| format!("{line} is not in {page}"))?;
    Ok(found.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_drains_and_conditions_can_be_read_without_names_of_objects() -> Result<()> {
    let (scene, _) = Scene::settled("metrics").await?;
    let env = &scene.env;
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    env.set_tag("l2o", "v2").await?;
    let page = until("a drain is counted", SOON, async || {
        let (_, page) = scene.operator.get("/metrics").await?;
        let held = value(&page, "process_operator_drain_open_workflows")?;
        ensure!(held > 0.5, "{page}");
        Ok(page)
    })
    .await?;
    for (line, wanted) in [
        (
            "process_operator_events_total{reason=\"RolloutStarted\"}",
            2.0,
        ),
        (
            "process_operator_events_total{reason=\"VersionCurrent\"}",
            2.0,
        ),
        (
            "process_operator_rollout_seconds_count{outcome=\"completed\"}",
            2.0,
        ),
        ("process_operator_drains{left=\"none\"}", 1.0),
        ("process_operator_drains{left=\"overdue\"}", 0.0),
        (
            "process_operator_processes_by_condition{condition=\"Ready\",status=\"True\"}",
            1.0,
        ),
        (
            "process_operator_processes_by_condition{condition=\"Draining\",status=\"True\"}",
            1.0,
        ),
        ("process_operator_temporal_up", 1.0),
    ] {
        let found = value(&page, line)?;
        ensure!((found - wanted).abs() < f64::EPSILON, "{line}: {found}");
    }
    for activity in ["observe", "act", "wait-serving", "set-current"] {
        let line = format!(
            "process_operator_activity_seconds_count{{activity=\"{activity}\",result=\"ok\"}}"
        );
        ensure!(value(&page, &line)? > 0.5, "{line}");
    }
    for name in ["l2o", env.namespace.as_str()] {
        ensure!(!page.contains(name), "{name} is in {page}");
    }
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.wait_settled("l2o", "v2").await?;
    scene.finish().await
}
