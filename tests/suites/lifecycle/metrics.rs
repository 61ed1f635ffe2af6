//! What `/metrics` says.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use process_operator_crds::Process;
use process_operator_harness::{Env, OperatorOptions, Prometheus, condition, manifest, until};
use serde_json::{Value, json};

use crate::support::{SOON, Scene, version};

/// The value of one line.
pub(crate) fn value(page: &str, line: &str) -> Result<f64> {
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
    nothing_is_named(env, &page)?;
    is_documented(&page)?;
    for name in [
        "temporal_request_total{",
        "temporal_worker_start_total{",
        "temporal_num_pollers{",
        "temporal_workflow_task_execution_latency_seconds_count{",
    ] {
        ensure!(page.contains(name), "the SDK's {name} is not in {page}");
    }
    env.temporal.finish_waiting(&env.apps, "long").await?;
    let process = env.wait_settled("l2o", "v2").await?;
    others_conditions_are_no_labels(&scene).await?;
    failed_rollouts(&scene, &process).await?;
    scene.finish().await
}

/// A rollout that is given up counts as failed, and those before it as they did.
async fn failed_rollouts(scene: &Scene, process: &Process) -> Result<()> {
    let env = &scene.env;
    let mut change = version("v3", &[]);
    change["spec"]["rollout"] = json!({ "strategy": "Manual" });
    env.patch("l2o", &change).await?;
    env.wait_process("l2o", "waiting for somebody", SOON, |process| {
        condition(process, "Progressing").1 == "WaitingForPromotion"
    })
    .await?;
    env.grant(process, "abort").await?;
    until("a failed rollout is counted", SOON, async || {
        let (_, page) = scene.operator.get("/metrics").await?;
        let of = |outcome: &str| {
            let name = "process_operator_rollout_seconds_count";
            value(&page, &format!("{name}{{outcome=\"{outcome}\"}}"))
        };
        let (failed, completed) = (of("failed")?, of("completed")?);
        ensure!((failed - 1.0).abs() < f64::EPSILON, "{failed} failed");
        ensure!(
            (completed - 2.0).abs() < f64::EPSILON,
            "{completed} completed"
        );
        Ok(())
    })
    .await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    Ok(())
}

/// A condition of another controller's: how many kinds of those there are is not ours to bound.
async fn others_conditions_are_no_labels(scene: &Scene) -> Result<()> {
    let env = &scene.env;
    let audited = json!({
        "type": "example.com/Audited", "status": "True", "reason": "Audited", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let applied = json!({
        "apiVersion": "ameide.io/v1", "kind": "Process", "metadata": { "name": "l2o" },
        "status": { "conditions": [audited] },
    });
    env.api::<Process>()
        .patch_status(
            "l2o",
            &PatchParams::apply("auditor"),
            &Patch::Apply(&applied),
        )
        .await?;
    let seen = "process_operator_watch_events_total{kind=\"Process\"}";
    let (_, page) = scene.operator.get("/metrics").await?;
    let before = value(&page, seen)?;
    // The watch has shown it once there is another event after it.
    let again = json!({ "metadata": { "annotations": { "example.com/seen": "yes" } } });
    env.patch("l2o", &again).await?;
    until("the watch has shown it", SOON, async || {
        let (_, page) = scene.operator.get("/metrics").await?;
        ensure!(value(&page, seen)? > before + 0.5, "not yet");
        ensure!(!page.contains("example.com"), "{page}");
        Ok(())
    })
    .await
}

/// Only Temporal namespaces are named; those of this test contain the name of the Kubernetes namespace.
pub(crate) fn nothing_is_named(env: &Env, page: &str) -> Result<()> {
    let page = page.replace(&env.apps, "").replace(&env.control, "");
    for name in ["l2o", env.namespace.as_str()] {
        ensure!(!page.contains(name), "{name} is in {page}");
    }
    Ok(())
}

/// What is on a page is in the documentation, with its type and its labels.
pub(crate) fn is_documented(page: &str) -> Result<()> {
    // All of the SDK's have these.
    const COMMON: [&str; 4] = ["le", "namespace", "task_queue", "service_name"];
    let told = include_str!("../../../docs/metrics.md");
    let (mut row, mut found, mut wrong) = ("", 0, Vec::new());
    for line in page.lines() {
        let mut words = line.split(' ');
        if let (Some("#"), Some("TYPE"), Some(name), Some(kind)) =
            (words.next(), words.next(), words.next(), words.next())
        {
            let ends = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let begins = format!("| `{name}{ends}` | {kind} |");
            let mut rows = told.lines().filter(|row| row.starts_with(&begins));
            row = rows.next().unwrap_or_default();
            if row.is_empty() {
                wrong.push(format!("no {begins}"));
            }
            found += 1;
        }
        let series = line.split_once('{').and_then(|(_, it)| it.split_once('}'));
        for label in series.iter().flat_map(|(labels, _)| labels.split(',')) {
            let name = label.split('=').next().unwrap_or_default();
            if !COMMON.contains(&name) && !row.contains(&format!("`{name}`")) {
                wrong.push(format!("no {name} of {line} in {row:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "docs/metrics.md: {wrong:#?}");
    ensure!(found > 40, "{found} on {page}");
    Ok(())
}

fn path_of(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("deploy/monitoring").join(name)
}

fn shipped(name: &str) -> Result<String> {
    let path = path_of(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Everything that the dashboard asks.
fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    panels
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["expr"].as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_prometheus_an_alert_fires_and_the_dashboard_shows_something() -> Result<()> {
    let env = Env::new("prometheus").await?;
    let options = OperatorOptions {
        args: vec!["--queue-metrics-seconds".into(), "1".into()],
        ..OperatorOptions::default()
    };
    let scene = Scene::of(env, options).await?;
    let env = &scene.env;
    env.apply(&manifest(env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;
    Prometheus::check_rules(&path_of("alerts.yaml"))?;
    // As shipped, but for the patience.
    let rules: String = shipped("alerts.yaml")?
        .split_inclusive('\n')
        .filter(|line| !line.trim_start().starts_with("for:"))
        .map(|line| line.replace("_age_seconds) > 60", "_age_seconds) > 2"))
        .collect();
    let prometheus = Prometheus::start(env, scene.operator.address(), &rules).await?;
    until("it is scraped", SOON, async || {
        let up = prometheus
            .query(env, "process_operator_temporal_up")
            .await?;
        ensure!(up[0]["value"][1] == "1", "{up}");
        Ok(())
    })
    .await?;
    let quiet = async || {
        until("no alert fires", SOON, async || {
            let firing = prometheus.firing(env).await?;
            ensure!(firing.is_empty(), "{firing:?}");
            Ok(())
        })
        .await
    };
    quiet().await?;

    let mut lost = manifest(env, "lost", "v1");
    lost["spec"]["temporal"]["namespace"] = "nowhere".into();
    env.apply(&lost).await?;
    let mut idle = manifest(env, "idle", "v1");
    idle["spec"]["replicas"] = 0.into();
    env.apply(&idle).await?;
    env.temporal
        .start_untaken(&env.apps, "idle-tq", "unserved", None)
        .await?;
    let wanted = [
        "ProcessStalled",
        "ProcessNotReady",
        "ProcessTemporalNamespaceLost",
        "ProcessBacklogWithoutPoller",
    ];
    until("the alerts fire", SOON, async || {
        let firing = prometheus.firing(env).await?;
        let all = wanted
            .iter()
            .all(|name| firing.contains(&(*name).to_owned()));
        ensure!(all, "{firing:?}");
        Ok(())
    })
    .await?;

    let dashboard: Value = serde_json::from_str(&shipped("dashboard.json")?)?;
    let expressions = expressions(&dashboard);
    ensure!(expressions.len() > 10, "{}", expressions.len());
    for expression in expressions {
        prometheus.query(env, expression).await?;
        // What it is made of is there, even where nothing has happened yet.
        let names = expression.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        let ours = |name: &&str| {
            let prefixes = ["process_operator_", "process_worker_", "temporal_request_"];
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        for name in names.filter(ours) {
            let found = prometheus.query(env, name).await?;
            let quiet = ["process_operator_errors_total"].contains(&name);
            ensure!(quiet || found[0]["value"].is_array(), "{name}: {found}");
        }
    }

    env.temporal.terminate(&env.apps, "unserved").await?;
    for name in ["lost", "idle"] {
        env.delete(name).await?;
        env.wait_gone(name).await?;
    }
    quiet().await?;
    let left = env.wait_settled("l2o", "v1").await?;
    ensure!(condition(&left, "Ready").0 == "True", "untouched");
    drop(prometheus);
    scene.finish().await
}
