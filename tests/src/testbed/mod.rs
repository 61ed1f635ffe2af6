//! The testbed: a real Kubernetes cluster and a real Temporal on this machine.
//!
//! `cargo xtask up` builds and starts it; a suite asks [`Testbed::current`]
//! where everything is.

mod cgroup;
mod check;
mod components;
mod config;
mod down;
mod external;
mod go;
mod images;
mod mounts;
mod net;
mod paths;
mod pki;
mod policies;
mod ports;
mod preflight;
mod private;
mod process;
mod refusal;
mod state;
mod status;
mod temporal;
mod up;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

pub use down::down;
pub use external::{External, use_existing};
pub use go::worker as go_worker;
pub use images::{
    Base, Contents, OPERATOR_ENV, archive, archive_of, digests, write as write_archive,
};
pub use paths::cache_dir;
pub use policies::Enforcer;
pub use preflight::{Browser, browser};
pub use private::PrivateTemporal;
pub use refusal::Refusal;
pub use state::State;
pub use status::{Report, status};
pub use up::{Outcome, prepare, up};

use check::wait_until_ready;
use process::run;

/// The running testbed.
#[derive(Debug, Clone)]
pub struct Testbed {
    state: State,
}

impl Testbed {
    /// The testbed that is up.
    pub fn current() -> Result<Self> {
        let state = State::read()?.filter(|state| state.ready && state.is_of_this_boot());
        let state = state.context("The testbed is not up: run `cargo xtask up`.")?;
        Ok(Self { state })
    }

    /// Addresses and files.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Admin's kubeconfig. The operator must never be given it.
    pub fn kubeconfig(&self) -> &Path {
        &self.state.kubeconfig
    }

    /// `kubectl` as admin.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.state.kubectl);
        command.arg("--kubeconfig").arg(&self.state.kubeconfig);
        command
    }

    /// The program that reads objects as JSON and says what Helm, Flux and other users of kstatus make of
    /// them, a line each. Built if need be.
    pub fn kstatus(&self) -> Result<Command> {
        Ok(Command::new(go::tool("kstatus")?))
    }

    /// `helm` as admin, with no files of the user's. `home` is where it keeps its own. For an existing
    /// cluster the one that is installed, if there is one.
    pub fn helm(&self, home: &Path) -> Result<Command> {
        let installed = self.state.external.then(|| paths::find_program("helm"));
        let program = match installed.flatten() {
            Some(program) => program,
            None => go::tool("helm")?,
        };
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", &self.state.kubeconfig)
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"));
        Ok(command)
    }

    /// Makes a namespace in which `PodSecurity` enforces `restricted`.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        let object = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "latest",
                },
            },
        });
        let mut kubectl = self
            .kubectl()
            .args(["create", "--filename", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("kubectl cannot be run.")?;
        if let Some(mut stdin) = kubectl.stdin.take() {
            stdin.write_all(&serde_json::to_vec(&object)?)?;
        }
        if !kubectl.wait()?.success() {
            bail!("The namespace {name} was not made.");
        }
        Ok(())
    }

    /// Waits until a namespace that is being deleted is gone. One that nobody deletes is an error.
    pub fn await_no_namespace(&self, name: &str) -> Result<()> {
        let phase = "--output=jsonpath={.status.phase}";
        let get = ["get", "namespace", name, "--ignore-not-found", phase];
        if run(self.kubectl().args(get))?.trim() == "Active" {
            bail!(
                "The namespace {name} is there, and nobody deletes it: an earlier run has left it. Delete what is in it, and \
                 then run `kubectl delete namespace {name}`."
            );
        }
        let namespace = format!("namespace/{name}");
        run(self
            .kubectl()
            .args(["wait", "--for=delete", &namespace, "--timeout=120s"]))
        .map(drop)
    }

    /// A kubeconfig with a token of the service account, good for a day.
    /// `server` replaces the API server's URL: a proxy in between, which with
    /// `http://` needs no certificate.
    pub fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
        server: Option<&str>,
    ) -> Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let token = run(self.kubectl().args([
            "create",
            "token",
            name,
            "--namespace",
            namespace,
            "--duration=24h",
        ]))?;
        let ca = self.state.ca_file.clone().unwrap_or_default();
        let text = config::kubeconfig(
            server.unwrap_or(&self.state.apiserver_url),
            &ca,
            &format!("{namespace}:{name}"),
            token.trim(),
            namespace,
        )?;
        let dir = paths::data_dir()?.join("service-accounts");
        fs::create_dir_all(&dir)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(
            "{namespace}-{name}-{}-{count}.yaml",
            std::process::id()
        ));
        write_private(&path, &text)?;
        Ok(path)
    }

    /// Imports an image archive into the node. `false` when the cluster is an
    /// existing one to which nobody here knows the way.
    pub fn image_import(&self, archive: &Path) -> Result<bool> {
        let Some(ctr) = &self.state.ctr else {
            let context = self.state.context.as_deref().unwrap_or_default();
            return external::image_import(context, archive);
        };
        // What was imported stays: no image is ever collected.
        let note = images::note(archive)?;
        if note.is_current() {
            return Ok(true);
        }
        run(Command::new(ctr)
            .args(["--address", &format!("{}/containerd.sock", paths::RUN)])
            .args(["--namespace", "k8s.io", "images", "import", "--local"])
            .arg(archive))?;
        note.write()?;
        Ok(true)
    }

    /// Lets a name of an image mean what another one means, as a tag that is pushed again does. `false` when the
    /// cluster is an existing one.
    pub fn image_tag(&self, from: &str, name: &str) -> Result<bool> {
        let Some(ctr) = &self.state.ctr else {
            return Ok(false);
        };
        run(Command::new(ctr)
            .args(["--address", &format!("{}/containerd.sock", paths::RUN)])
            .args(["--namespace", "k8s.io", "images", "tag", "--force"])
            .args([from, name]))?;
        Ok(true)
    }

    /// Stops a component as a crash would, without warning, and leaves it so.
    pub fn stop_component(&self, name: &str) -> Result<()> {
        let running = State::update(|state| {
            let component = find(state, name)?;
            component.stopped = true;
            Ok(component.running)
        })?;
        running.stop(Duration::ZERO)
    }

    /// Starts a component that has ended, and waits until it is ready.
    pub fn start_component(&self, name: &str) -> Result<()> {
        let component = State::update(|state| {
            let component = find(state, name)?;
            if !component.running.is_alive() {
                component.running = component.launch.spawn()?;
            }
            component.stopped = false;
            Ok(component.clone())
        })?;
        let owned = name.to_owned();
        wait_until_ready(
            &[(&owned, &component)],
            [(name, component.checks.as_slice())],
            Duration::from_mins(1),
        )
    }

    /// Holds a component still: its connections stay open and nothing answers.
    pub fn pause_component(&self, name: &str) -> Result<()> {
        signal(name, Signal::SIGSTOP)
    }

    /// Lets a held component go on.
    pub fn resume_component(&self, name: &str) -> Result<()> {
        signal(name, Signal::SIGCONT)
    }

    /// The process id of a component, to measure what it uses.
    pub fn component_pid(&self, name: &str) -> Result<i32> {
        let mut state = Self::current()?.state;
        Ok(find(&mut state, name)?.running.pid)
    }

    /// The log of a component.
    pub fn component_log(&self, name: &str) -> Result<PathBuf> {
        let mut state = self.state.clone();
        Ok(find(&mut state, name)?.launch.log.clone())
    }
}

fn signal(name: &str, signal: Signal) -> Result<()> {
    // Read anew: another test may have started it again since.
    let mut state = Testbed::current()?.state;
    find(&mut state, name)?.running.signal(signal)
}

fn find<'a>(state: &'a mut State, name: &str) -> Result<&'a mut state::Component> {
    if state.external {
        bail!("The cluster is an existing one: its {name} is not ours to touch.");
    }
    let known = state
        .components
        .keys()
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let component = state.components.get_mut(name);
    component.with_context(|| format!("{name} is not a component; those are {known}."))
}

/// Writes a file that holds a secret.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be written.", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}
