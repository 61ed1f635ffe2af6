//! What the tests of this suite share.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use process_operator_crds::Process;
use process_operator_harness::{Env, version};
use serde_json::{Value, json};

/// Deadline of waits for what takes a moment; two cores carry everything.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// A new directory for the files of one test.
pub(crate) fn scratch(env: &Env) -> Result<PathBuf> {
    let dir = std::env::temp_dir()
        .join("process-operator-tests")
        .join(&env.namespace);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Writes a program that only this user can read.
pub(crate) fn program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o700))?)
}

/// A change of the image to this tag, by steps that somebody has to promote.
pub(crate) fn open_steps(tag: &str, weights: &[i32]) -> Value {
    let steps: Vec<Value> = weights
        .iter()
        .map(|weight| json!({ "weight": weight, "pause": {} }))
        .collect();
    let mut change = version(tag, &[]);
    change["spec"]["rollout"] = json!({ "strategy": "Canary", "steps": steps });
    change
}

/// Waits until status shows a rollout that holds this step.
pub(crate) async fn at_step(env: &Env, step: i32) -> Result<Process> {
    env.wait_process("l2o", &format!("step {step}"), SOON, |process| {
        let status = process.status.as_ref();
        let rollout = status.and_then(|status| status.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.step == step && rollout.stage == "Pausing")
    })
    .await
}

/// Build id of the version that is current.
pub(crate) fn current(process: &Process) -> String {
    let status = process.status.as_ref();
    let version = status.and_then(|status| status.current_version.as_ref());
    version
        .map(|version| version.build_id.clone())
        .unwrap_or_default()
}
