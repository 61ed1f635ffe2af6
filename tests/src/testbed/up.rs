//! Bringing the testbed up.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::check::{Check, crash_report, wait_until_ready};
use super::components::{Part, Plan};
use super::go::{self, Binaries};
use super::paths::{BRIDGE_ADDRESS, NODE, RUN, data_dir};
use super::ports::{PRIVATE, Ports};
use super::process::{run, wait_for};
use super::state::{Component, State, boot, lock};
use super::{Testbed, cgroup, config, down, images, net, preflight, temporal};

/// What `up` found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was running.
    AlreadyUp,
    /// It was up, and a part of it that had ended was started again.
    Repaired,
    /// It was not up.
    Started,
}

/// Builds what is missing from the cache; starts nothing.
pub fn prepare() -> Result<()> {
    preflight::machine()?;
    go::build()?;
    Ok(())
}

/// Brings the testbed up, or back up when a part of it has ended.
pub fn up() -> Result<Outcome> {
    if let Some(state) = State::read()?
        && state.external
        && state.ready
    {
        return Ok(Outcome::AlreadyUp);
    }
    preflight::machine()?;
    let _lock = lock("up.lock")?;
    if let Some(state) = State::read()? {
        if state.is_of_this_boot() && state.ready {
            return repair(&state);
        }
        // An `up` that was interrupted, or a machine that was restarted.
        down::clean(Some(&state))?;
    }
    // Before the build, which may take long.
    preflight::free()?;
    let bin = go::build()?;
    let begun = Instant::now();
    if let Err(error) = start(&bin) {
        // The logs stay until the next start; nothing else does.
        down::stop_everything(State::read()?.as_ref()).ok();
        return Err(error);
    }
    eprintln!("Up after {:.1} s.", begun.elapsed().as_secs_f32());
    Ok(Outcome::Started)
}

/// Starts again what has ended since, and says what that was.
fn repair(state: &State) -> Result<Outcome> {
    let mut outcome = Outcome::AlreadyUp;
    for (name, component) in &state.components {
        if component.running.is_alive() {
            continue;
        }
        outcome = Outcome::Repaired;
        if component.stopped {
            eprintln!("{name} was stopped: starting it.");
        } else {
            eprintln!("{}Starting it again.", crash_report(name, component));
        }
        Testbed::current()?.start_component(name)?;
    }
    Ok(outcome)
}

fn start(bin: &Binaries) -> Result<()> {
    let data = data_dir()?;
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    for dir in ["logs", "pod-logs", "kubelet/volume-plugins"] {
        fs::create_dir_all(data.join(dir))?;
    }
    fs::create_dir_all(RUN)?;
    preflight::own()?;

    let ports = Ports::choose()?;
    let server = format!("https://{BRIDGE_ADDRESS}:{}", ports.get("apiserver"));
    config::write_all(&data, &ports, &server)?;
    temporal::write_config(&data.join("temporal"), &ports)?;
    let mut state = new_state(&data, ports.clone(), server, bin)?;
    state.write()?;
    cgroup::create()?;
    net::create(&ports)?;
    net::check_dns_port()?;

    let plan = Plan {
        bin,
        data: &data,
        ports: &ports,
    };
    launch(&mut state, plan.first()?)?;
    let mut awaited = Awaited::new();
    // Both take a while and neither needs the other.
    let pause = images::pause_archive(bin.path("pause")?)?;
    awaited.wait(&state, &FIRST)?;
    let testbed = Testbed {
        state: state.clone(),
    };
    let import = std::thread::spawn(move || testbed.image_import(&pause));
    awaited.wait(&state, &SECOND)?;
    launch(&mut state, plan.second()?)?;
    apply_objects(&plan)?;
    import
        .join()
        .map_err(|_| anyhow::anyhow!("The import of the pause image failed."))??;
    awaited.wait(&state, &THIRD)?;
    temporal::make_default_namespace(&ports)?;
    let node_ready = plan.kubectl(&[
        "wait",
        "--for=condition=Ready",
        &format!("node/{NODE}"),
        "--timeout=2s",
    ])?;
    wait_for_checks(&state, "kubelet", &[node_ready])?;
    awaited.told("the node");
    state.ready = true;
    state.write()
}

fn new_state(data: &Path, ports: Ports, server: String, bin: &Binaries) -> Result<State> {
    let frontend = ports.get("temporal");
    Ok(State {
        kubeconfig: data.join("kubeconfig/admin.yaml"),
        kubectl: bin.path("kubectl")?.to_path_buf(),
        apiserver_url: server,
        ca_file: Some(data.join("pki/ca.crt")),
        temporal_address: format!("127.0.0.1:{frontend}"),
        temporal_pod_address: "temporal-frontend.temporal.svc:7233".to_owned(),
        temporal_metrics_url: Some(format!(
            "http://127.0.0.1:{}/metrics",
            ports.get("temporal-metrics")
        )),
        ui_url: Some(format!("http://127.0.0.1:{}", ports.get("temporal-ui"))),
        audit_log: Some(data.join("logs/audit.log")),
        ctr: Some(bin.path("ctr")?.to_path_buf()),
        temporal_server: Some(bin.path("temporal-server")?.to_path_buf()),
        ports,
        boot: boot(),
        next_private_port: *PRIVATE.start(),
        ..State::default()
    })
}

fn launch(state: &mut State, parts: Vec<Part>) -> Result<()> {
    for part in parts {
        let running = part.launch.spawn()?;
        state.components.insert(
            part.name.to_owned(),
            Component {
                launch: part.launch,
                running,
                checks: part.checks,
                stopped: false,
            },
        );
        // At once: an `up` that is interrupted must not lose a process.
        state.write()?;
    }
    Ok(())
}

/// What is waited for, in the order in which it can be.
const FIRST: [&str; 1] = ["containerd"];
const SECOND: [&str; 2] = ["etcd", "kube-apiserver"];
const THIRD: [&str; 7] = [
    "temporal",
    "temporal-ui",
    "kubelet",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
];

/// How much of it is there.
struct Awaited {
    begun: Instant,
    left: usize,
}

impl Awaited {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            // And the node.
            left: FIRST.len() + SECOND.len() + THIRD.len() + 1,
        }
    }

    fn wait(&mut self, state: &State, names: &[&str]) -> Result<()> {
        for name in names {
            let component = state.components.get(*name);
            let component = component.with_context(|| format!("{name} was not started."))?;
            wait_for_checks(state, name, &component.checks)?;
            self.told(name);
        }
        Ok(())
    }

    fn told(&mut self, name: &str) {
        self.left -= 1;
        eprintln!("{}", ready(name, self.begun.elapsed(), self.left));
    }
}

fn ready(name: &str, elapsed: Duration, left: usize) -> String {
    let left = match left {
        0 => String::new(),
        left => format!(", {left} left"),
    };
    format!(
        "  {name} is ready after {:.1} s{left}",
        elapsed.as_secs_f32()
    )
}

fn wait_for_checks(state: &State, name: &str, checks: &[Check]) -> Result<()> {
    let watched: Vec<_> = state.components.iter().collect();
    wait_until_ready(&watched, [(name, checks)], Duration::from_mins(2))
}

/// The Services of what runs on the host, and CoreDNS's rights.
fn apply_objects(plan: &Plan<'_>) -> Result<()> {
    let kubectl = plan.bin.path("kubectl")?;
    let mut error = None;
    // The namespace kube-system appears shortly after the API server.
    let applied = wait_for(Duration::from_secs(30), || {
        let result = run(Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(plan.data.join("kubeconfig/admin.yaml"))
            .args(["apply", "--server-side", "--filename"])
            .arg(plan.data.join("config/objects.yaml")));
        error = result.err();
        error.is_none()
    });
    match error {
        Some(error) if !applied => {
            bail!(error.context("The cluster's first objects were not accepted."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_and_what_is_left_is_told() {
        let elapsed = Duration::from_secs_f32(3.21);
        assert_eq!(
            ready("etcd", elapsed, 8),
            "  etcd is ready after 3.2 s, 8 left"
        );
        assert_eq!(
            ready("the node", elapsed, 0),
            "  the node is ready after 3.2 s"
        );
    }
}
