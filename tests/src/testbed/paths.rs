//! Where the testbed keeps its files: never in the work tree.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Sockets and network namespaces; short, because the path of a Unix socket
/// may have no more than 107 bytes.
pub(super) const RUN: &str = "/run/process-operator-testbed";
/// Everything the testbed starts, pods included, is in this cgroup.
pub(super) const CGROUP: &str = "/process-operator-testbed";
/// The bridge of host and pods.
pub(super) const BRIDGE: &str = "procop0";
/// The host's address on the bridge.
pub(super) const BRIDGE_ADDRESS: &str = "10.88.0.1";
/// Addresses of Services.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The name of the only node.
pub(super) const NODE: &str = "testbed";

/// Where built binaries, images and the running testbed's data are kept:
/// `$PROCESS_OPERATOR_CACHE`, else `process-operator` in the user's cache.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("PROCESS_OPERATOR_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    let base =
        match env::var_os("XDG_CACHE_HOME") {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(env::var_os("HOME").context(
                "No directory for the cache is known: set HOME or PROCESS_OPERATOR_CACHE.",
            )?)
            .join(".cache"),
        };
    Ok(base.join("process-operator"))
}

/// The data of the running testbed: databases, logs, certificates.
pub(super) fn data_dir() -> Result<PathBuf> {
    Ok(cache_dir()?.join("testbed"))
}

/// What says where everything is. Outside [`data_dir`], so that it is the last
/// to go.
pub(super) fn state_file() -> Result<PathBuf> {
    Ok(cache_dir()?.join("testbed.json"))
}

/// Image archives made by `cargo xtask image`.
pub(super) fn images_dir() -> Result<PathBuf> {
    Ok(cache_dir()?.join("images"))
}

/// The first directory of the usual ones that holds `program`.
pub(super) fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// The directory of the CNI plugins.
pub(super) fn cni_plugins() -> Option<PathBuf> {
    ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"]
        .map(PathBuf::from)
        .into_iter()
        .find(|dir| has_plugins(dir))
}

fn has_plugins(dir: &Path) -> bool {
    ["bridge", "host-local", "loopback"]
        .iter()
        .all(|plugin| dir.join(plugin).is_file())
}
