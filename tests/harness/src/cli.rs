//! `kubectl process` under test.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::process::{Child, Command};

use crate::env::Env;
use crate::operator::program;

/// The command as one user calls it in one namespace.
#[derive(Debug, Clone)]
pub struct Cli {
    kubeconfig: PathBuf,
    namespace: String,
}

/// What it said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Exit code; -1 when a signal has ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// It ended with this code.
    pub fn ended(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "not {code}: {self:#?}");
        Ok(self)
    }

    /// Standard output has all of these.
    pub fn shows(&self, parts: &[&str]) -> Result<()> {
        for part in parts {
            ensure!(
                self.out.contains(part),
                "no {part:?} in\n{}{}",
                self.out,
                self.err
            );
        }
        Ok(())
    }

    /// Standard error has all of these.
    pub fn complains(&self, parts: &[&str]) -> Result<()> {
        for part in parts {
            ensure!(
                self.err.contains(part),
                "no {part:?} in\n{}{}",
                self.out,
                self.err
            );
        }
        Ok(())
    }
}

impl Cli {
    /// As administrator.
    pub fn admin(env: &Env) -> Self {
        Self::with(env, env.testbed.kubeconfig().to_owned())
    }

    /// As somebody else.
    pub fn with(env: &Env, kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            namespace: env.namespace.clone(),
        }
    }

    /// The program.
    pub fn binary() -> PathBuf {
        program("KUBECTL_PROCESS_BINARY", "kubectl-process")
    }

    /// The command that `args` make.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Self::binary());
        command
            .args(args)
            .args(["--namespace", &self.namespace])
            .env("KUBECONFIG", &self.kubeconfig)
            .env_remove("TEMPORAL_ADDRESS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, args: &[&str]) -> Result<Said> {
        said(self.command(args)).await
    }

    /// Starts it.
    pub fn start(&self, args: &[&str]) -> Result<Child> {
        let child = self.command(args).spawn();
        child.with_context(|| format!("starting {}", Self::binary().display()))
    }
}

/// Runs a command to its end.
pub async fn said(mut command: Command) -> Result<Said> {
    let output = command.output().await;
    let output = output.with_context(|| format!("running {}", Cli::binary().display()))?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
