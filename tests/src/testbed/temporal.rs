//! A Temporal server: its configuration, its start, and when it is ready.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::check::Check;
use super::config::render;
use super::ports::Ports;
use super::process::Launch;

/// The names of the ports in the configuration.
const PORTS: [(&str, &str); 10] = [
    ("FRONTEND_PORT", "temporal"),
    ("HTTP_PORT", "temporal-http"),
    ("FRONTEND_MEMBERSHIP_PORT", "temporal-membership"),
    ("HISTORY_PORT", "temporal-history"),
    ("HISTORY_MEMBERSHIP_PORT", "temporal-history-membership"),
    ("MATCHING_PORT", "temporal-matching"),
    ("MATCHING_MEMBERSHIP_PORT", "temporal-matching-membership"),
    ("WORKER_PORT", "temporal-worker"),
    ("WORKER_MEMBERSHIP_PORT", "temporal-worker-membership"),
    ("METRICS_PORT", "temporal-metrics"),
];

/// Writes the configuration into `dir`, which also holds the database.
pub(super) fn write_config(dir: &Path, ports: &Ports) -> Result<()> {
    fs::create_dir_all(dir.join("config"))?;
    let data = dir.display().to_string();
    let mut values = vec![("DATA", data)];
    values.extend(PORTS.map(|(name, port)| (name, ports.get(port).to_string())));
    let config = render(include_str!("../../testbed/config/temporal.yaml"), &values)?;
    fs::write(dir.join("config/testbed.yaml"), config)?;
    let dynamic = include_str!("../../testbed/config/temporal-dynamic.yaml");
    fs::write(dir.join("config/dynamic.yaml"), dynamic)?;
    Ok(())
}

pub(super) fn launch(server: &Path, dir: &Path, log: &Path) -> Launch {
    let root = dir.display().to_string();
    Launch::new(
        server,
        log.to_path_buf(),
        [
            "--root",
            &root,
            "--config",
            "config",
            "--env",
            "testbed",
            "--allow-no-auth",
            "start",
        ]
        .map(str::to_owned),
    )
}

/// Makes the namespace that clients use when they are told none.
pub(super) fn make_default_namespace(ports: &Ports) -> Result<()> {
    let url = format!(
        "http://127.0.0.1:{}/api/v1/namespaces",
        ports.get("temporal-http")
    );
    ureq::post(&url)
        .header("Content-Type", "application/json")
        .send(r#"{"namespace": "default", "workflowExecutionRetentionPeriod": "86400s"}"#)
        .context("The Temporal namespace default cannot be made.")?;
    Ok(())
}

/// The frontend, matching and history each answer, the last two through it.
pub(super) fn checks(ports: &Ports) -> Vec<Check> {
    let base = format!(
        "http://127.0.0.1:{}/api/v1/namespaces/temporal-system",
        ports.get("temporal-http")
    );
    vec![
        Check::http(base.clone(), 200),
        Check::http(format!("{base}/task-queues/readiness"), 200),
        // No such workflow: it is history that knows.
        Check::http(format!("{base}/workflows/readiness"), 404),
    ]
}
