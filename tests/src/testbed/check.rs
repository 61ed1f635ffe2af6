//! How it is told that a component does its work.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::process::{log_tail, wait_for};
use super::state::Component;

/// One question that is asked until the answer is yes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Check {
    /// A GET request is answered with this status.
    Http { url: String, status: u16 },
    /// Something listens on this Unix socket.
    Socket(PathBuf),
    /// This command succeeds.
    Command(Vec<String>),
}

impl Check {
    pub(super) fn http(url: String, status: u16) -> Self {
        Self::Http { url, status }
    }

    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Http { url, status } => ureq::get(url)
                .config()
                .timeout_global(Some(Duration::from_secs(2)))
                .http_status_as_error(false)
                .build()
                .call()
                .is_ok_and(|response| response.status().as_u16() == *status),
            Self::Socket(path) => UnixStream::connect(path).is_ok(),
            Self::Command(words) => words.split_first().is_some_and(|(program, args)| {
                Command::new(program)
                    .args(args)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            }),
        }
    }
}

/// Waits until every check of the named components passes. One that ends while
/// it is waited for, whichever, is an error at once.
pub(super) fn wait_until_ready<'a>(
    watched: &[(&String, &Component)],
    waited: impl IntoIterator<Item = (&'a str, &'a [Check])>,
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    for (name, checks) in waited {
        for check in checks {
            let mut dead = None;
            let left = deadline.saturating_duration_since(Instant::now());
            let passed = wait_for(left, || {
                dead = watched
                    .iter()
                    .find(|(_, part)| !part.running.is_alive())
                    .copied();
                dead.is_some() || check.passes()
            });
            if let Some((name, component)) = dead {
                bail!("{}", crash_report(name, component));
            }
            if !passed {
                let log = watched.iter().find(|(watched, _)| *watched == name);
                bail!(
                    "{name} was not ready within {} s. The end of its log:\n{}",
                    limit.as_secs(),
                    log.map(|(_, component)| log_tail(&component.launch.log, 15))
                        .unwrap_or_default()
                );
            }
        }
    }
    Ok(())
}

/// What there is to say of a component that ended.
pub(super) fn crash_report(name: &str, component: &Component) -> String {
    let log = &component.launch.log;
    format!(
        "{name} ended by itself. The end of its log {}:\n{}",
        log.display(),
        log_tail(log, 15)
    )
}
