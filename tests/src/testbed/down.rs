//! Taking the testbed down, so that nothing of it is left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::paths::{BRIDGE, RUN, data_dir, state_file};
use super::state::{State, lock};
use super::{cgroup, external, mounts, net, policies, preflight};

/// In this order: nothing makes a pod again that was stopped.
const ORDER: [&str; 10] = [
    "kubelet",
    "kube-proxy",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "temporal-ui",
    "temporal",
    "kube-apiserver",
    "etcd",
    "containerd",
];

/// Stops everything the testbed started and removes everything it made.
/// `false` when there was nothing.
pub fn down() -> Result<bool> {
    let state = State::read().unwrap_or_default();
    if state.as_ref().is_some_and(|state| state.external) {
        external::forget()?;
        return Ok(true);
    }
    if state.is_none() && !anything_left() {
        return Ok(false);
    }
    preflight::root()?;
    preflight::check_owner()?;
    let _lock = lock("up.lock")?;
    // Read again: an `up` may have ended in the meantime.
    clean(State::read().unwrap_or_default().as_ref())?;
    Ok(true)
}

fn anything_left() -> bool {
    net::exists() || cgroup::exists() || fs::exists(RUN).unwrap_or(false)
}

/// [`stop_everything`], and the data and the state go as well.
pub(super) fn clean(state: Option<&State>) -> Result<()> {
    stop_everything(state)?;
    let data = data_dir()?;
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    Ok(())
}

/// Stops every process and removes what they left in the kernel. The logs stay.
pub(super) fn stop_everything(state: Option<&State>) -> Result<()> {
    if let Some(state) = state.filter(|state| state.is_of_this_boot()) {
        stop_components(state)?;
    }
    // Pods, shims, private Temporal servers, whatever a test left.
    if !cgroup::kill_all(Duration::from_secs(15)) {
        bail!(
            "Processes of the testbed do not end: {:?}.",
            cgroup::processes()
        );
    }
    let data = data_dir()?;
    mounts::unmount(&data);
    mounts::unmount(Path::new(RUN));
    policies::remove();
    net::remove();
    remove_strays(&data);
    if fs::exists(RUN)? {
        fs::remove_dir_all(RUN)?;
    }
    if !cgroup::remove(Duration::from_secs(15)) {
        bail!("The testbed's cgroup cannot be removed: something still runs in it.");
    }
    fs::remove_file(state_file()?).ok();
    check_nothing_left(&data)
}

fn stop_components(state: &State) -> Result<()> {
    // Ask all of a kind at once, in two steps: those that act on others first.
    for name in ORDER {
        if let Some(component) = state.components.get(name) {
            // etcd, the API server and the rest keep nothing that is needed
            // later; only containerd and kubelet are given time.
            let grace = match name {
                "kubelet" | "containerd" => Duration::from_secs(3),
                _ => Duration::ZERO,
            };
            component.running.stop(grace)?;
        }
    }
    Ok(())
}

/// Files that kubelet and the CNI library write at fixed places.
fn remove_strays(data: &Path) {
    let logs = Path::new("/var/log/containers");
    for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
        let ours = fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(data));
        if ours {
            fs::remove_file(entry.path()).ok();
        }
    }
    remove_cni_results(Path::new("/var/lib/cni/results"));
    // Each only goes when it is empty, and then it was made for the testbed.
    for dir in [
        "/var/log/containers",
        "/var/lib/cni/results",
        "/var/lib/cni",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet",
    ] {
        fs::remove_file(Path::new(dir).join("kubelet.sock")).ok();
        fs::remove_dir(dir).ok();
    }
}

/// The pods were killed without the plugins being told, which keep a file for
/// each: one of the testbed's network and one of the loopback.
fn remove_cni_results(dir: &Path) {
    let names = || fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in names() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let sandbox = name
            .strip_prefix("process-operator-testbed-")
            .and_then(|rest| rest.strip_suffix("-eth0"));
        if let Some(sandbox) = sandbox {
            fs::remove_file(dir.join(format!("cni-loopback-{sandbox}-lo"))).ok();
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// The promise of `down`, checked.
fn check_nothing_left(data: &Path) -> Result<()> {
    let mut left = Vec::new();
    if net::exists() {
        left.push(format!("bridge {BRIDGE}"));
    }
    for (family, table) in net::existing_tables().unwrap_or_default() {
        left.push(format!("nft table {family} {table}"));
    }
    for mount in mounts::under(data)
        .into_iter()
        .chain(mounts::under(Path::new(RUN)))
    {
        left.push(format!("mount {}", mount.display()));
    }
    if policies::left() {
        left.push("iptables rules or ipsets of the NetworkPolicies".to_owned());
    }
    if cgroup::exists() {
        left.push("cgroup".to_owned());
    }
    if !left.is_empty() {
        bail!(
            "After `down` this is left and must be removed by hand: {}.",
            left.join(", ")
        );
    }
    Ok(())
}
