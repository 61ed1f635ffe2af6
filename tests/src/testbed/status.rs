//! What runs and what does not.

use std::fmt::Write as _;

use anyhow::Result;

use super::check::crash_report;
use super::state::State;

/// What there is to say of the testbed, and whether all is well.
#[derive(Debug)]
pub struct Report {
    /// For a person to read.
    pub text: String,
    /// Every component runs.
    pub healthy: bool,
}

/// Looks at every component.
pub fn status() -> Result<Report> {
    let Some(state) = State::read()? else {
        let text = "The testbed is down: `cargo xtask up` starts it.\n".to_owned();
        return Ok(Report {
            text,
            healthy: false,
        });
    };
    let mut text = String::new();
    if state.external {
        writeln!(text, "An existing cluster and server are used.")?;
    }
    let mut healthy = state.is_of_this_boot() && state.ready;
    for (name, component) in &state.components {
        let alive = state.is_of_this_boot() && component.running.is_alive();
        let word = match (alive, component.stopped) {
            (true, _) => "running",
            (false, true) => "stopped",
            (false, false) => "CRASHED",
        };
        healthy &= alive;
        let (pid, log) = (component.running.pid, component.launch.log.display());
        writeln!(text, "{name:24} {word:8} pid {pid:<8} {log}")?;
    }
    if !state.ready {
        writeln!(text, "`up` did not come to its end: run it again.")?;
    }
    writeln!(text, "\nkubeconfig    {}", state.kubeconfig.display())?;
    writeln!(text, "API server    {}", state.apiserver_url)?;
    writeln!(
        text,
        "Temporal      {} (from pods {})",
        state.temporal_address, state.temporal_pod_address
    )?;
    if let Some(url) = &state.ui_url {
        writeln!(text, "Temporal UI   {url}")?;
    }
    for (name, component) in state.crashed() {
        writeln!(text, "\n{}", crash_report(name, component))?;
    }
    Ok(Report { text, healthy })
}
