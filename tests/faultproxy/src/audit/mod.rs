//! kube-apiserver's audit log: what really reached the server, by whom, with which answer.
//!
//! Expects JSON lines of `audit.k8s.io/v1` as a policy of level `Metadata` (or more) writes them;
//! of each request the stage `ResponseComplete` counts.

mod entry;
mod filter;
mod object;

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use self::entry::{Entry, ObjectRef, ResponseStatus, User};
pub use self::filter::AuditFilter;
pub use self::object::{Object, Owner};

/// How often a log is read while something is waited for. A file gives no notice.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Where a line ends is looked for in so much, and in more of it when that is all of one line.
const TAIL: u64 = 1 << 16;

/// A position in an audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditMark {
    offset: u64,
    device: u64,
    inode: u64,
}

/// An audit log that a server is writing.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    /// The log at this path, which has to be there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let log = Self {
            path: path.as_ref().to_owned(),
        };
        log.file()?;
        Ok(log)
    }

    /// The position after the last line so far. One that is being written comes after it.
    pub fn mark(&self) -> Result<AuditMark> {
        let (mut file, metadata) = self.file()?;
        let mut tail = TAIL;
        loop {
            let from = metadata.len().saturating_sub(tail);
            file.seek(SeekFrom::Start(from))?;
            let mut text = Vec::new();
            let mut rest = file.by_ref().take(metadata.len() - from);
            rest.read_to_end(&mut text)?;
            let complete = text.iter().rposition(|byte| *byte == b'\n');
            if complete.is_some() || from == 0 {
                let after = complete.map_or(0, |at| from + at as u64 + 1);
                return Ok(mark_at(after, &metadata));
            }
            tail *= 8;
        }
    }

    /// The position before the first line.
    pub fn start(&self) -> Result<AuditMark> {
        let (_, metadata) = self.file()?;
        Ok(mark_at(0, &metadata))
    }

    /// The requests that were completed since the mark.
    ///
    /// A log that was rotated in between is an error: what is missing must not pass for silence.
    pub fn since(&self, mark: AuditMark) -> Result<Vec<Entry>> {
        Ok(self.read(mark)?.0)
    }

    /// The requests since the mark that fulfil a filter.
    pub fn select(&self, mark: AuditMark, filter: &AuditFilter) -> Result<Vec<Entry>> {
        let mut entries = self.since(mark)?;
        entries.retain(|entry| filter.matches(entry));
        Ok(entries)
    }

    /// Waits for a request since the mark that fulfils a filter, and gives it.
    ///
    /// The server writes the line of a request about when it answers. To have the whole of a
    /// window in the log, make a request of your own at its end and wait for that.
    pub async fn wait_for(
        &self,
        mark: AuditMark,
        filter: &AuditFilter,
        within: Duration,
    ) -> Result<Entry> {
        let search = async {
            let mut poll = tokio::time::interval(POLL_INTERVAL);
            let mut mark = mark;
            loop {
                poll.tick().await;
                let (entries, next) = self.read(mark)?;
                if let Some(entry) = entries.into_iter().find(|entry| filter.matches(entry)) {
                    return Ok(entry);
                }
                mark = next;
            }
        };
        match tokio::time::timeout(within, search).await {
            Ok(found) => found,
            Err(_) => bail!(
                "not in {} within {within:?}: {filter:?}",
                self.path.display()
            ),
        }
    }

    fn file(&self) -> Result<(File, Metadata)> {
        let file =
            File::open(&self.path).with_context(|| format!("audit log {}", self.path.display()))?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    }

    /// The entries of all complete lines after the mark, and the position after them.
    fn read(&self, mark: AuditMark) -> Result<(Vec<Entry>, AuditMark)> {
        let (mut file, metadata) = self.file()?;
        ensure!(
            mark_at(mark.offset, &metadata) == mark && metadata.len() >= mark.offset,
            "audit log {} was rotated or cut since the mark",
            self.path.display()
        );
        file.seek(SeekFrom::Start(mark.offset))?;
        let mut lines = BufReader::new(file);
        let (mut line, mut offset, mut entries) = (Vec::new(), mark.offset, Vec::new());
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            // The last line may still be being written: it belongs to the next reading.
            let Some((&b'\n', text)) = line.split_last() else {
                break;
            };
            offset += length as u64;
            if text.is_empty() {
                continue;
            }
            entries.extend(Entry::read(text).with_context(|| {
                format!(
                    "audit log {}: {}",
                    self.path.display(),
                    String::from_utf8_lossy(text)
                )
            })?);
        }
        Ok((entries, AuditMark { offset, ..mark }))
    }
}

fn mark_at(offset: u64, metadata: &Metadata) -> AuditMark {
    AuditMark {
        offset,
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

#[cfg(test)]
mod tests;
