//! Mounts made under the testbed's directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::run;

/// The mount points under `dir`, the innermost first.
pub(super) fn under(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // The only character of the testbed's own paths that is written so.
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(dir))
        .collect();
    found.reverse();
    found
}

/// Unmounts everything under `dir`.
pub(super) fn unmount(dir: &Path) {
    for path in under(dir) {
        run(Command::new("umount").arg("--lazy").arg(path)).ok();
    }
}
