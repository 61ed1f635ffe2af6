//! The file that says where everything of the running testbed is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::paths::state_file;
use super::ports::Ports;
use super::process::{Launch, Running};

/// What a suite needs to know to use the testbed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// An existing cluster and server are used: nothing of it was started here.
    pub external: bool,
    /// The context of the user's kubeconfig that the existing cluster was named by.
    pub(super) context: Option<String>,
    /// Whether `up` came to its end.
    pub ready: bool,
    /// Admin's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The `kubectl` that fits the cluster.
    pub kubectl: PathBuf,
    /// The API server as seen from the host.
    pub apiserver_url: String,
    /// The certificate of the API server's authority.
    pub ca_file: Option<PathBuf>,
    /// Temporal's frontend as seen from the host, `host:port`.
    pub temporal_address: String,
    /// Temporal's frontend as seen from a pod, `host:port`.
    pub temporal_pod_address: String,
    /// Temporal's metrics in Prometheus format.
    pub temporal_metrics_url: Option<String>,
    /// Temporal's web interface.
    pub ui_url: Option<String>,
    /// The API server's audit log, one JSON event a line.
    pub audit_log: Option<PathBuf>,
    /// Where containers are imported.
    pub(super) ctr: Option<PathBuf>,
    /// The server a private Temporal is started from.
    pub(super) temporal_server: Option<PathBuf>,
    pub(super) ports: Ports,
    /// The machine's boot, after which no process of the file can be alive.
    pub(super) boot: String,
    /// By name, in the order of their start.
    pub(super) components: BTreeMap<String, Component>,
    /// Where the next private Temporal looks for ports.
    pub(super) next_private_port: u16,
}

/// One process of the testbed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Component {
    pub(super) launch: Launch,
    pub(super) running: Running,
    pub(super) checks: Vec<Check>,
    /// Stopped by a test: not a crash.
    pub(super) stopped: bool,
}

impl State {
    /// The state on disk; `None` when there is none.
    pub(super) fn read() -> Result<Option<Self>> {
        let path = state_file()?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is not a testbed's state: run `cargo xtask down`.",
                    path.display()
                )
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("The state of the testbed cannot be read."),
        }
    }

    /// Replaces the file in one step, so that a reader sees the old or the new.
    pub(super) fn write(&self) -> Result<()> {
        let path = state_file()?;
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        fs::write(&unfinished, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("The state {} cannot be written.", path.display()))
    }

    /// Reads, changes and writes the state while nobody else does.
    pub(super) fn update<T>(change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let _lock = lock("testbed.lock")?;
        let mut state = Self::read()?.context("The testbed is not up: run `cargo xtask up`.")?;
        let result = change(&mut state)?;
        state.write()?;
        Ok(result)
    }

    /// The components that ended without having been told to.
    pub(super) fn crashed(&self) -> impl Iterator<Item = (&String, &Component)> {
        self.components
            .iter()
            .filter(|(_, component)| !component.stopped && !component.running.is_alive())
    }

    /// Whether the machine was started again since.
    pub(super) fn is_of_this_boot(&self) -> bool {
        self.external || self.boot == boot()
    }
}

/// The identity of the machine's present boot.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Holds the named lock until dropped.
pub(super) fn lock(name: &str) -> Result<File> {
    let path = state_file()?.with_file_name(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("The cache {} cannot be made.", parent.display()))?;
    }
    let file = File::create(&path)
        .with_context(|| format!("The lock {} cannot be made.", path.display()))?;
    file.lock()?;
    Ok(file)
}
