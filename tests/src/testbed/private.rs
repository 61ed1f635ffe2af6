//! A Temporal server of a test's own, to be stopped and killed without harm to
//! the tests that run beside it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::check::wait_until_ready;
use super::paths::{BRIDGE_ADDRESS, data_dir};
use super::ports::Ports;
use super::process::{Launch, Running};
use super::state::{Component, State};
use super::temporal;

/// Runs until dropped.
#[derive(Debug)]
pub struct PrivateTemporal {
    name: String,
    dir: PathBuf,
    launch: Launch,
    ports: Ports,
    running: Running,
}

impl PrivateTemporal {
    /// Starts a server and waits until it is ready.
    pub fn start_new(name: &str) -> Result<Self> {
        let mut server = State::update(|state| {
            let program = state.temporal_server.clone().context(
                "A Temporal server of its own needs the testbed, not an existing cluster.",
            )?;
            // Under the lock and on from the last, so that two tests never
            // choose the same ports.
            let ports = Ports::private(state.next_private_port)?;
            state.next_private_port = ports.highest().saturating_add(1);
            let dir = data_dir()?.join(format!("temporal-{name}-{}", ports.get("temporal")));
            temporal::write_config(&dir, &ports)?;
            let log = dir.join("temporal.log");
            let launch = temporal::launch(&program, &dir, &log);
            let running = launch.spawn()?;
            Ok(Self {
                name: name.to_owned(),
                dir,
                launch,
                ports,
                running,
            })
        })?;
        server.wait()?;
        Ok(server)
    }

    /// As seen from the host, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.get("temporal"))
    }

    /// As seen from pods, `host:port`; it also works on the host.
    pub fn pod_address(&self) -> String {
        format!("{BRIDGE_ADDRESS}:{}", self.ports.get("temporal"))
    }

    /// The server's HTTP API as seen from the host.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.get("temporal-http"))
    }

    /// Metrics in Prometheus format.
    pub fn metrics_url(&self) -> String {
        format!(
            "http://127.0.0.1:{}/metrics",
            self.ports.get("temporal-metrics")
        )
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        &self.launch.log
    }

    /// Ends the server as a shutdown does. What it knows stays.
    pub fn stop(&mut self) -> Result<()> {
        self.running.stop(Duration::from_secs(20))
    }

    /// Ends the server without warning. What it knows stays.
    pub fn kill(&mut self) -> Result<()> {
        self.running.stop(Duration::ZERO)
    }

    /// Starts it again with the same addresses and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        if !self.running.is_alive() {
            self.running = self.launch.spawn()?;
        }
        self.wait()
    }

    /// Copies all that it knows while it is stopped, as a backup of its database does.
    pub fn back_up(&self) -> Result<()> {
        let copy = self.backup();
        fs::create_dir_all(&copy)?;
        for (from, name) in database(&self.dir)? {
            fs::copy(from, copy.join(name))?;
        }
        Ok(())
    }

    /// Puts the copy back while it is stopped. What it has learned since is lost.
    pub fn restore(&self) -> Result<()> {
        for (file, _) in database(&self.dir)? {
            fs::remove_file(file)?;
        }
        for (from, name) in database(&self.backup())? {
            fs::copy(from, self.dir.join(name))?;
        }
        Ok(())
    }

    fn backup(&self) -> PathBuf {
        self.dir.join("backup")
    }

    /// Holds it still: its connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.running.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.running.signal(Signal::SIGCONT)
    }

    fn wait(&mut self) -> Result<()> {
        let component = Component {
            launch: self.launch.clone(),
            running: self.running,
            checks: temporal::checks(&self.ports),
            stopped: false,
        };
        let name = format!("Temporal server {}", self.name);
        wait_until_ready(
            &[(&name, &component)],
            [(name.as_str(), component.checks.as_slice())],
            Duration::from_mins(1),
        )
    }
}

/// The files of the database in a directory, with their names.
fn database(dir: &Path) -> Result<Vec<(PathBuf, OsString)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // The log of what is not yet in the file itself has a name that begins alike.
        if name.to_string_lossy().starts_with("temporal.db") {
            files.push((entry.path(), name));
        }
    }
    ensure!(!files.is_empty(), "no database in {}", dir.display());
    Ok(files)
}

impl Drop for PrivateTemporal {
    fn drop(&mut self) {
        // Whatever is left when this fails goes with the testbed.
        self.running.stop(Duration::ZERO).ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}
