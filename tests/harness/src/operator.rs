//! An operator process under test.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::SOON;
use crate::env::{Env, root};
use crate::wait::until;

/// How an operator is started.
#[derive(Debug, Clone, Default)]
pub struct OperatorOptions {
    /// Another API server address: a fault proxy.
    pub kube_server: Option<String>,
    /// Another Temporal address: a fault proxy.
    pub temporal_address: Option<String>,
    /// Temporal's configuration file and the profile in it that say how to reach Temporal, and which namespace is the
    /// operator's, with no other word about it.
    pub temporal_profile: Option<(PathBuf, String)>,
    /// Another service account than the one of `deploy/rbac.yaml`: namespace and name.
    pub account: Option<(String, String)>,
    /// Another kubeconfig than one with a token of that account.
    pub kubeconfig: Option<PathBuf>,
    /// Another program than the one that the test run was built with.
    pub program: Option<PathBuf>,
    /// Name of the replica.
    pub instance: Option<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Further variables.
    pub env: Vec<(String, String)>,
    /// Do not wait for `/readyz`.
    pub unready: bool,
}

/// A running operator; killed when dropped.
pub struct Operator {
    child: Mutex<Option<Child>>,
    /// Process id.
    pub pid: i32,
    /// Base address of probes and metrics.
    pub http: String,
    /// Its log.
    pub log: PathBuf,
}

/// The operator that the test run was built with.
pub(crate) fn binary() -> PathBuf {
    program("PROCESS_OPERATOR_BINARY", "process-operator")
}

/// A program that the test run was built with: the one that a variable names, or the one beside the tests.
pub(crate) fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    // Tests run from target/<triple>/<profile>/deps, examples from …/examples.
    let mut path = std::env::current_exe().unwrap_or_default();
    while path.pop() {
        let candidate = path.join(name);
        if candidate.is_file() {
            return candidate;
        }
    }
    root().join("target/debug").join(name)
}

impl Operator {
    /// Starts an operator that watches only the namespace of `env`, with the service account of
    /// `deploy/rbac.yaml` unless another is named.
    pub async fn start(env: &Env, options: OperatorOptions) -> Result<Self> {
        let (namespace, account) = options
            .account
            .clone()
            .unwrap_or_else(|| ("process-operator".to_owned(), "process-operator".to_owned()));
        let server = options.kube_server.as_deref();
        let kubeconfig = match options.kubeconfig.clone() {
            Some(kubeconfig) => kubeconfig,
            None => env
                .testbed
                .service_account_kubeconfig(&namespace, &account, server)?,
        };
        let instance = options
            .instance
            .clone()
            .unwrap_or_else(|| "operator-0".to_owned());
        let dir = std::env::temp_dir().join("process-operator-tests");
        std::fs::create_dir_all(&dir)?;
        let log = dir.join(format!("{}-{instance}-{}.log", env.namespace, unique()));
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = options
            .temporal_address
            .as_deref()
            .unwrap_or(&env.temporal_address);
        let program = options.program.clone().unwrap_or_else(binary);
        let mut command = Command::new(&program);
        command
            .arg("run")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--watch-namespace", &env.namespace])
            .args(["--worker-temporal-address", &env.temporal_pod_address])
            .args(["--instance", &instance])
            .args(["--drain-scale-down-delay-seconds", "1"])
            .args(["--drain-delete-delay-seconds", "0"])
            .args(["--sweep-seconds", "5"])
            .args(["--outage-seconds", "6"])
            .env("KUBECONFIG", &kubeconfig)
            .env("RUST_BACKTRACE", "1");
        match &options.temporal_profile {
            Some((file, profile)) => command
                .env_remove("TEMPORAL_ADDRESS")
                .env_remove("TEMPORAL_NAMESPACE")
                .env("TEMPORAL_CONFIG_FILE", file)
                .env("TEMPORAL_PROFILE", profile),
            None => command
                .env("TEMPORAL_ADDRESS", address)
                // Before the further arguments, which may name another one.
                .args(["--temporal-namespace", &env.control]),
        };
        let child = command
            .args(&options.args)
            .envs(options.env.iter().cloned())
            .stdin(Stdio::null())
            // Both append: what one writes is not written over by the other.
            .stdout(File::options().append(true).create(true).open(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let operator = Self {
            pid: i32::try_from(child.id())?,
            child: Mutex::new(Some(child)),
            http: format!("127.0.0.1:{port}"),
            log,
        };
        if !options.unready {
            operator.ready().await?;
        }
        Ok(operator)
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&self) -> Result<()> {
        until("the operator is ready", SOON, async || {
            anyhow::ensure!(!self.ended(), "it has ended; see {}", self.log.display());
            let (code, text) = self.get("/readyz").await?;
            anyhow::ensure!(code == 200, "{code} {text}");
            Ok(())
        })
        .await
    }

    /// `host:port` of its HTTP server.
    pub fn address(&self) -> &str {
        &self.http
    }

    /// A request to its HTTP server.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&self.http).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.http
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let code = answer.split(' ').nth(1).unwrap_or_default().parse()?;
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default();
        Ok((code, body))
    }

    /// SIGKILL. Can be called from a proxy's hook.
    pub fn kill(&self) {
        // Gone already is as good.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        self.reap();
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }

    /// SIGTERM, and the time until it has ended.
    pub async fn stop(&self) -> Result<Duration> {
        let started = std::time::Instant::now();
        self.signal(Signal::SIGTERM)?;
        until(
            "the operator stops after SIGTERM",
            Duration::from_secs(30),
            async || {
                anyhow::ensure!(self.ended(), "still running");
                Ok(())
            },
        )
        .await?;
        Ok(started.elapsed())
    }

    /// Whether the process has ended.
    pub fn ended(&self) -> bool {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        child
            .as_mut()
            .is_none_or(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Exit code, when the process has ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        child.as_mut()?.try_wait().ok()??.code()
    }

    fn reap(&self) {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            let _ = child.wait();
        }
    }

    /// Its log so far.
    pub fn log_text(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if !self.ended() {
            self.kill();
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn unique() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_micros())
}
