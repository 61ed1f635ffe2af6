//! The cgroup of everything the testbed starts: what is in it is the testbed's
//! and ends with it, even when a record of it was lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::paths::CGROUP;
use super::process::wait_for;

const ROOT: &str = "/sys/fs/cgroup";

/// The mounted hierarchies: one of version 2, or one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_path_buf()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        // A combined hierarchy (cpu,cpuacct) has links by its parts' names.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    found.sort();
    found
}

fn ours(hierarchy: &Path) -> PathBuf {
    hierarchy.join(CGROUP.trim_start_matches('/'))
}

/// The one hierarchy that tells the testbed's own processes.
fn home() -> PathBuf {
    let all = hierarchies();
    let preferred = all.iter().find(|path| path.ends_with("pids"));
    ours(
        preferred
            .or(all.first())
            .map_or(Path::new(ROOT), PathBuf::as_path),
    )
}

/// Where a process writes its id to become one of the testbed's components.
pub(super) fn components_file() -> PathBuf {
    home().join("components/cgroup.procs")
}

/// Makes the cgroup; kubelet wants its part in every hierarchy.
pub(super) fn create() -> Result<()> {
    for hierarchy in hierarchies() {
        let path = ours(&hierarchy);
        fs::create_dir_all(&path)
            .with_context(|| format!("The cgroup {} cannot be made.", path.display()))?;
    }
    let components = home().join("components");
    fs::create_dir_all(&components)
        .with_context(|| format!("The cgroup {} cannot be made.", components.display()))
}

/// Whether any of it is there.
pub(super) fn exists() -> bool {
    hierarchies()
        .iter()
        .any(|hierarchy| ours(hierarchy).exists())
}

/// Every process in it, pods included.
pub(super) fn processes() -> Vec<i32> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        collect(&ours(&hierarchy), &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(dir: &Path, found: &mut Vec<i32>) {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(dir) {
        collect(&child, found);
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Kills whatever is in it, again until nothing is.
pub(super) fn kill_all(limit: Duration) -> bool {
    wait_for(limit, || {
        let left = processes();
        for pid in &left {
            // It may be gone already, which is what is wanted.
            kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
        }
        left.is_empty()
    })
}

/// Removes the emptied cgroup from every hierarchy.
pub(super) fn remove(limit: Duration) -> bool {
    wait_for(limit, || {
        for hierarchy in hierarchies() {
            remove_tree(&ours(&hierarchy));
        }
        !exists()
    })
}

fn remove_tree(dir: &Path) {
    for child in children(dir) {
        remove_tree(&child);
    }
    // Busy as long as a killed process is not quite gone: tried again.
    fs::remove_dir(dir).ok();
}
