//! Replays every stored history against the present workflow code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use process_operator_workflows::drain::ProcessDrain;
use process_operator_workflows::lifecycle::ProcessLifecycle;
use process_operator_workflows::rollout::ProcessRollout;
use temporalio_client::WorkflowHistory;
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};

/// A history that does not replay may leave the replayer waiting.
const LIMIT: Duration = Duration::from_secs(60);

fn stored(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the folder of histories") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            stored(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            found.push(path);
        }
    }
}

fn histories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    stored(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/histories"),
        &mut found,
    );
    found.sort();
    found
}

fn replayer() -> WorkflowReplayer {
    let mut options = WorkflowReplayerOptions::new().build();
    options
        .register_workflow::<ProcessLifecycle>()
        .expect("registration")
        .register_workflow::<ProcessRollout>()
        .expect("registration")
        .register_workflow::<ProcessDrain>()
        .expect("registration");
    WorkflowReplayer::new(options).expect("replayer")
}

async fn replay(bytes: &[u8]) -> Result<(), String> {
    let history = WorkflowHistory::from_json(bytes).expect("a stored history");
    match tokio::time::timeout(LIMIT, replayer().replay_workflow(history)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no result in {} s", LIMIT.as_secs())),
    }
}

#[tokio::test]
async fn every_stored_history_replays() {
    let stored = histories();
    assert!(!stored.is_empty(), "no histories are stored");
    let mut failed = Vec::new();
    for path in stored {
        if let Err(why) = replay(&fs::read(&path).expect("a file")).await {
            failed.push(format!("{}: {why}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn a_history_of_other_code_is_refused() {
    let path = histories()
        .into_iter()
        .find(|path| path.to_string_lossy().contains("ProcessRollout"))
        .expect("a rollout");
    let other = fs::read_to_string(path)
        .expect("a file")
        .replace("wait-serving", "wait-something");
    let why = replay(other.as_bytes())
        .await
        .expect_err("it must not replay");
    assert!(why.contains("TMPRL1100"), "{why}");
}
