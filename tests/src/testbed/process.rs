//! Starting, watching and stopping the processes of the testbed.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroup;

/// How a process is started, kept so that it can be started again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    /// In front of the system's directories.
    pub(super) path: PathBuf,
    pub(super) log: PathBuf,
}

/// A process, told from a later one with the same id by the time of its start.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) pid: i32,
    /// In clock ticks since the machine was started.
    pub(super) started: u64,
}

impl Launch {
    pub(super) fn new(bin: &Path, log: PathBuf, args: impl IntoIterator<Item = String>) -> Self {
        Self {
            program: bin.to_path_buf(),
            args: args.into_iter().collect(),
            path: bin.parent().map(Path::to_path_buf).unwrap_or_default(),
            log,
        }
    }

    /// Starts the process in the testbed's cgroup and in a process group of
    /// its own, so that an interrupt at the terminal does not reach it.
    pub(super) fn spawn(&self) -> Result<Running> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("The log {} cannot be written.", self.log.display()))?;
        // The shell joins the cgroup before it becomes the program, so that no
        // child of the program can be outside of it.
        let mut child = Command::new("/bin/sh")
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(cgroup::components_file())
            .arg(&self.program)
            .args(&self.args)
            .env_clear()
            .env("HOME", "/root")
            .env(
                "PATH",
                format!(
                    "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    self.path.display()
                ),
            )
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started.", self.program.display()))?;
        let pid = i32::try_from(child.id()).context("A process id is too large.")?;
        let started = stat(pid).map_or(0, |stat| stat.started);
        // Whoever starts it for longer than it lives must take its exit status,
        // or a dead process keeps its id.
        thread::spawn(move || child.wait());
        Ok(Running { pid, started })
    }
}

impl Running {
    /// Whether this very process still runs (a zombie does not).
    pub(super) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }

    pub(super) fn signal(self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            bail!("Process {} does not run any more.", self.pid);
        }
        kill(Pid::from_raw(self.pid), signal)
            .with_context(|| format!("Process {} cannot be sent {signal}.", self.pid))
    }

    /// Asks the process to end and kills it when it has not after `grace`.
    pub(super) fn stop(self, grace: Duration) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid);
        // It may end in between: only the wait below counts.
        if !grace.is_zero() {
            kill(pid, Signal::SIGTERM).ok();
            kill(pid, Signal::SIGCONT).ok();
            if wait_for(grace, || !self.is_alive()) {
                return Ok(());
            }
        }
        kill(pid, Signal::SIGKILL).ok();
        if wait_for(Duration::from_secs(5), || !self.is_alive()) {
            return Ok(());
        }
        bail!("Process {} does not end although it was killed.", self.pid)
    }
}

struct Stat {
    state: char,
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces: count from behind it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started })
}

/// Polls until `condition` holds; `false` when it does not within `limit`.
pub(super) fn wait_for(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(25));
    }
}

/// The last lines of a log.
pub(super) fn log_tail(log: &Path, lines: usize) -> String {
    let read = || -> Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(32 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"));
    let all: Vec<&str> = text.lines().collect();
    let tail = all
        .get(all.len().saturating_sub(lines)..)
        .unwrap_or_default();
    tail.iter().flat_map(|line| ["    ", line, "\n"]).collect()
}

/// Runs a command to its end; its output is the error when it fails.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} cannot be run."))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let args: Vec<_> = command
        .get_args()
        .map(|arg| arg.to_string_lossy())
        .collect();
    bail!(
        "`{name} {}` failed ({}): {}{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_id() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = stat(pid).unwrap().started;
        assert!(Running { pid, started }.is_alive());
        assert!(
            !Running {
                pid,
                started: started + 1
            }
            .is_alive()
        );
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let log = std::env::temp_dir().join(format!("log-tail-{}", std::process::id()));
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(log_tail(&log, 2), "    two\n    three\n");
        fs::remove_file(log).unwrap();
    }
}
