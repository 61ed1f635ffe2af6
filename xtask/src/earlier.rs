//! The operator of an earlier revision, for a test of the upgrade from it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;
use crate::cargo::{Profile, cargo, root, run, target_dir};

/// What a test needs of it.
pub(crate) struct Earlier {
    /// Its program.
    pub(crate) binary: PathBuf,
    /// Its definition of Processes.
    pub(crate) definition: PathBuf,
}

/// Builds the operator of a revision, in a work tree of its own below `target` that is kept for the next time.
pub(crate) fn earlier(revision: &str) -> Result<Earlier> {
    let commit = commit(revision)?;
    let place = target_dir()
        .join("earlier")
        .join(commit.get(..12).unwrap_or(&commit));
    let source = place.join("source");
    if !source.join("Cargo.toml").is_file() {
        // Forced: one that was deleted with `target` is still known.
        run(Command::new("git")
            .current_dir(root())
            .args(["worktree", "add", "--force", "--detach"])
            .arg(&source)
            .arg(&commit))?;
    }
    let target = place.join("target");
    // All of its workspace counts for the features of what the program is linked from, as in every other build.
    run(cargo()
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--locked", "--workspace"])
        .args(["--bin", "process-operator"]))?;
    let built = Arch::host().map_or(target.clone(), |arch| target.join(arch.target()));
    Ok(Earlier {
        binary: built.join(Profile::Dev.dir()).join("process-operator"),
        definition: source.join("crds/processes.ameide.io.yaml"),
    })
}

fn commit(revision: &str) -> Result<String> {
    let output = Command::new("git")
        .current_dir(root())
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{revision}^{{commit}}"))
        .output()
        .context("git cannot be run.")?;
    if !output.status.success() {
        bail!("There is no revision {revision} in this repository.");
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_a_commit_and_nothing_else() {
        assert_eq!(commit("HEAD").unwrap().len(), 40);
        let error = commit("no-such-revision").unwrap_err().to_string();
        assert!(error.contains("no-such-revision"), "{error}");
    }
}
