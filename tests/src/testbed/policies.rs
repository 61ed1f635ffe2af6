//! What lets `NetworkPolicies` hold while a test wants it. All other tests do without: it looks at every packet of every
//! pod, and at every pod again whenever one comes or goes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::check::{Check, wait_until_ready};
use super::net::{feed, tool};
use super::paths::{NODE, RUN, SERVICES, data_dir, find_program};
use super::process::{Launch, Running, run, wait_for};
use super::state::{Component, State, lock};
use super::{go, preflight};

const NAME: &str = "policies";
/// Beginnings of the names of the chains that it makes in the table `filter`.
const CHAINS: [&str; 3] = ["KUBE-ROUTER-", "KUBE-NWPLCY-", "KUBE-POD-FW-"];
/// And of its sets of addresses.
const SETS: [&str; 2] = ["KUBE-SRC-", "KUBE-DST-"];
/// Whether packets from pod to pod, which the bridge passes on by itself, are filtered like others.
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// `NetworkPolicies` hold, in all namespaces, until this is dropped.
#[derive(Debug)]
pub struct Enforcer {
    running: Running,
    /// Another process that wants one waits.
    _lock: File,
}

impl Enforcer {
    /// The one of this process, started if need be.
    pub fn get() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Enforcer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(enforcer) = shared.upgrade() {
            return Ok(enforcer);
        }
        let enforcer = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&enforcer);
        Ok(enforcer)
    }

    fn start() -> Result<Self> {
        let state = State::read()?.filter(|state| state.ready && !state.external);
        let state =
            state.context("Only in the testbed it is known what enforces NetworkPolicies.")?;
        preflight::policies()?;
        let program = go::tool(NAME)?;
        let lock = lock("policies.lock")?;
        // Of a test that was killed.
        if let Some(earlier) = noted() {
            earlier.stop(Duration::ZERO)?;
        }
        remove();
        filter_bridged()?;
        let log = data_dir()?.join(format!("logs/{NAME}.log"));
        let args = [
            format!("--kubeconfig={}", state.kubeconfig.display()),
            format!("--node={NODE}"),
            format!("--services={SERVICES}"),
        ];
        let launch = Launch::new(&program, log, args);
        let running = launch.spawn()?;
        let enforcer = Self {
            running,
            _lock: lock,
        };
        fs::write(note(), serde_json::to_vec(&running)?)?;
        enforcer.wait(launch)?;
        Ok(enforcer)
    }

    /// Until its chains are there; the rules follow as fast as those of a policy that is new.
    fn wait(&self, launch: Launch) -> Result<()> {
        let iptables = find_program("iptables").context("iptables is not installed.")?;
        let mut words = vec![iptables.display().to_string()];
        let look = "--wait --table filter --list-rules KUBE-ROUTER-FORWARD";
        words.extend(look.split(' ').map(str::to_owned));
        let component = Component {
            launch,
            running: self.running,
            checks: vec![Check::Command(words)],
            stopped: false,
        };
        wait_until_ready(
            &[(&NAME.to_owned(), &component)],
            [(NAME, component.checks.as_slice())],
            Duration::from_mins(1),
        )
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        // Whatever is left when this fails goes with the testbed.
        self.running.stop(Duration::from_secs(5)).ok();
        remove();
    }
}

fn note() -> PathBuf {
    Path::new(RUN).join("policies.json")
}

fn noted() -> Option<Running> {
    serde_json::from_slice(&fs::read(note()).ok()?).ok()
}

/// Holds what [`BRIDGED`] was before.
fn bridged_note() -> PathBuf {
    Path::new(RUN).join("bridge-nf-call-iptables")
}

fn filter_bridged() -> Result<()> {
    if !fs::exists(BRIDGED)? {
        run(tool("modprobe").arg("br_netfilter")).ok();
    }
    let before = fs::read_to_string(BRIDGED)
        .context("This kernel has no br_netfilter: packets between pods cannot be filtered.")?;
    if before.trim() != "1" {
        fs::write(bridged_note(), before)?;
        fs::write(BRIDGED, "1").context("Filtering on bridges cannot be switched on.")?;
    }
    Ok(())
}

/// Removes the rules and sets of an enforcer that does not run any more.
pub(super) fn remove() {
    remove_rules().ok();
    remove_sets().ok();
    if let Ok(before) = fs::read_to_string(bridged_note()) {
        fs::write(BRIDGED, before).ok();
        fs::remove_file(bridged_note()).ok();
    }
    fs::remove_file(note()).ok();
}

/// Whether any rule or set is there.
pub(super) fn left() -> bool {
    rules().is_ok_and(|rules| rules.lines().any(is_ours)) || sets().is_ok_and(|it| !it.is_empty())
}

fn is_ours(rule: &str) -> bool {
    CHAINS.iter().any(|chain| rule.contains(chain))
}

/// The rules of others, as `iptables-restore` reads them.
fn of_others(rules: &str) -> String {
    let others = rules.lines().filter(|rule| !is_ours(rule));
    others.fold(String::new(), |text, rule| text + rule + "\n")
}

/// Whether such rules do anything.
fn any(rules: &str) -> bool {
    rules.lines().any(|line| {
        line.starts_with("-A ") || (line.starts_with(':') && !line.contains(" ACCEPT "))
    })
}

fn rules() -> Result<String> {
    run(tool("iptables-save").args(["--table", "filter"]))
}

fn remove_rules() -> Result<()> {
    let rules = rules()?;
    if !rules.lines().any(is_ours) {
        return Ok(());
    }
    let others = of_others(&rules);
    feed(
        tool("iptables-restore").args(["--wait", "--table", "filter"]),
        &others,
    )?;
    // A table that is there for nothing was made for this. It goes if it is one of nft.
    if !any(&others) {
        run(tool("nft").args(["delete", "table", "ip", "filter"])).ok();
    }
    Ok(())
}

fn sets() -> Result<Vec<String>> {
    let names = run(tool("ipset").args(["list", "-name"]))?;
    let ours = names
        .lines()
        .filter(|name| SETS.iter().any(|ours| name.starts_with(ours)));
    Ok(ours.map(str::to_owned).collect())
}

fn remove_sets() -> Result<()> {
    // The kernel lets go of the rules that use a set a moment after they are gone.
    let gone = wait_for(Duration::from_secs(5), || {
        let sets = sets().unwrap_or_default();
        for set in &sets {
            run(tool("ipset").args(["destroy", set])).ok();
        }
        sets.is_empty()
    });
    ensure!(gone, "sets are left");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "*filter
:INPUT ACCEPT [7:9]
:FORWARD ACCEPT [0:0]
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-POD-FW-A - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kube-router netpol - X\" -j KUBE-ROUTER-FORWARD
-A KUBE-POD-FW-A -d 10.88.0.2/32 -m addrtype --src-type LOCAL -j ACCEPT
COMMIT
";

    #[test]
    fn what_is_removed_leaves_the_rules_of_others() {
        let left = of_others(OURS);
        assert_eq!(
            left,
            "*filter\n:INPUT ACCEPT [7:9]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"
        );
        assert!(!any(&left));
        let more = OURS.replace("COMMIT", "-A FORWARD -i docker0 -j ACCEPT\nCOMMIT");
        assert!(any(&of_others(&more)));
        let shut = OURS.replace("FORWARD ACCEPT", "FORWARD DROP");
        assert!(any(&of_others(&shut)));
    }
}
