//! Histories that all later releases must replay: see `tests/histories/README.md`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use crate::Temporal;
use crate::env::root;

const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// What `sha256sum` says of each file. The replay test compares.
const SUMS: &str = "SHA256SUMS";

impl Temporal {
    /// Keeps the histories of all workflows in a Temporal namespace as files that the replay test
    /// reads, when `RECORD_HISTORIES` is set. A scenario of which the release has some is left as it is.
    pub async fn record_histories(&self, namespace: &str, scenario: &str) -> Result<()> {
        if std::env::var_os("RECORD_HISTORIES").is_none() {
            return Ok(());
        }
        let mut found = Vec::new();
        for info in self.list(namespace, "").await? {
            let kind = info.r#type.map(|kind| kind.name).unwrap_or_default();
            let id = info
                .execution
                .map(|execution| execution.workflow_id)
                .unwrap_or_default();
            let events = self.history(namespace, &id).await?;
            let history = temporalio_common::protos::temporal::api::history::v1::History { events };
            let json = temporalio_client::WorkflowHistory::from(history)
                .to_json()
                .await?;
            found.push((kind, json));
        }
        if !add(&root().join("tests/histories"), scenario, &found)? {
            println!("{scenario}: stored for {RELEASE} already, and left as it is");
        }
        Ok(())
    }
}

/// Adds the histories of a scenario, each with the name of its workflow, and their lines in the list. `false` when it
/// is there.
fn add(histories: &Path, scenario: &str, found: &[(String, Vec<u8>)]) -> Result<bool> {
    let dir = histories.join(RELEASE);
    fs::create_dir_all(&dir)?;
    let stored = format!("{scenario}-Process");
    for entry in fs::read_dir(&dir)? {
        if entry?.file_name().to_string_lossy().starts_with(&stored) {
            return Ok(false);
        }
    }
    let mut lines = Vec::new();
    for (n, (kind, json)) in found.iter().enumerate() {
        let name = format!("{scenario}-{kind}-{n}.json");
        File::create_new(dir.join(&name))?.write_all(json)?;
        lines.push(format!("{:x}  {RELEASE}/{name}\n", Sha256::digest(json)));
    }
    // All at once: other tests add theirs meanwhile.
    let mut sums = File::options()
        .append(true)
        .create(true)
        .open(histories.join(SUMS))?;
    sums.write_all(lines.concat().as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_stays_and_is_listed_once() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("histories-{}", std::process::id()));
        let of = |json: &str| [("ProcessDrain".to_owned(), json.as_bytes().to_vec())];
        assert!(add(&dir, "forced-late", &of("{}"))?);
        assert!(
            add(&dir, "forced", &of("{}"))?,
            "another one's name begins so"
        );
        assert!(!add(&dir, "forced", &of("[]"))?);
        let stored = format!("{RELEASE}/forced-ProcessDrain-0.json");
        assert_eq!(fs::read_to_string(dir.join(&stored))?, "{}");
        let sum = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let list = fs::read_to_string(dir.join(SUMS))?;
        let wanted = format!("{sum}  {RELEASE}/forced-late-ProcessDrain-0.json\n{sum}  {stored}\n");
        assert_eq!(list, wanted);
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
