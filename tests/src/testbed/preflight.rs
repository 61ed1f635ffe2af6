//! Whether this machine can carry the testbed; what can be installed is.

use std::env::consts::OS;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::paths::{CGROUP, RUN, cache_dir, cni_plugins, find_program};
use super::process::run;
use super::refusal::refuse;
use super::state::lock;
use super::{cgroup, net};

/// What must be installed: a Debian package and a program that shows it is.
type Packages = [(&'static str, &'static str)];

/// For the testbed itself.
const PACKAGES: &Packages = &[
    ("runc", "runc"),
    ("nftables", "nft"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("iproute2", "ip"),
];

/// For those who look at the Temporal UI as people do.
const BROWSER: &Packages = &[
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
];

/// For those who let `NetworkPolicies` hold.
const POLICIES: &Packages = &[("ipset", "ipset")];

/// A browser and the program that leads it.
#[derive(Debug, Clone)]
pub struct Browser {
    /// Chromium.
    pub program: PathBuf,
    /// What speaks `WebDriver`.
    pub driver: PathBuf,
}

/// The browser, installed when it is missing.
pub fn browser() -> Result<Browser> {
    // Several tests may ask at once.
    let _lock = lock("packages.lock")?;
    install_packages("A look at the Temporal UI", || absent(BROWSER))?;
    let [program, driver] = ["chromium", "chromedriver"].map(find_program);
    Ok(Browser {
        program: program.context("Chromium has vanished.")?,
        driver: driver.context("The driver of Chromium has vanished.")?,
    })
}

/// What filters packets by sets of addresses, installed when it is missing.
pub(super) fn policies() -> Result<()> {
    let _lock = lock("packages.lock")?;
    install_packages("The enforcement of NetworkPolicies", || absent(POLICIES))
}

/// What is asked of the machine before anything is built.
pub(super) fn machine() -> Result<()> {
    if OS != "linux" {
        refuse!(
            "The testbed starts a real kubelet and needs Linux, not {OS}: \
             use an existing cluster with --context and --temporal-address."
        );
    }
    root()?;
    install_packages("The testbed", missing)
}

/// Notes whose testbed it is that runs on this machine.
pub(super) fn own() -> Result<()> {
    fs::write(owner(), cache_dir()?.as_os_str().as_encoded_bytes())?;
    Ok(())
}

fn owner() -> PathBuf {
    Path::new(RUN).join("owner")
}

/// There is one bridge, so there is one testbed on a machine.
pub(super) fn check_owner() -> Result<()> {
    let other = fs::read_to_string(owner()).map(PathBuf::from);
    if let Ok(other) = other
        && other != cache_dir()?
        && other.exists()
    {
        refuse!(
            "The testbed on this machine was started with another cache: \
             run the command with PROCESS_OPERATOR_CACHE={}.",
            other.display()
        );
    }
    Ok(())
}

/// What is asked before anything is started: no other node, no remains.
pub(super) fn free() -> Result<()> {
    check_owner()?;
    if net::exists() || cgroup::exists() || !super::mounts::under(Path::new(RUN)).is_empty() {
        refuse!(
            "Parts of an earlier testbed are left on this machine (cgroup {CGROUP}, {RUN}): \
             run `cargo xtask down` first."
        );
    }
    net::check_free()
}

/// Refuses anybody but root.
pub(super) fn root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        refuse!(
            "The testbed makes a bridge, cgroups and containers and needs root: \
             use sudo, or an existing cluster with --context and --temporal-address."
        );
    }
    Ok(())
}

/// Those of which there is no program.
fn absent(packages: &Packages) -> Vec<&'static str> {
    let programs = packages
        .iter()
        .filter(|(_, program)| find_program(program).is_none());
    programs.map(|(package, _)| *package).collect()
}

fn missing() -> Vec<&'static str> {
    let mut missing = absent(PACKAGES);
    if cni_plugins().is_none() {
        missing.push("containernetworking-plugins");
    }
    missing
}

/// Installs what `who` needs and `missing` finds missing.
fn install_packages(who: &str, missing: impl Fn() -> Vec<&'static str>) -> Result<()> {
    let wanted = missing();
    if wanted.is_empty() {
        return Ok(());
    }
    let list = wanted.join(" ");
    if find_program("apt-get").is_none() {
        refuse!(
            "{who} needs what Debian calls {list}: install it with this system's package manager."
        );
    }
    eprintln!("Installing Debian packages: {list}");
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(&wanted)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // The lists of a fresh machine are empty or old: the first try may fail.
    let lists = fs::read_dir("/var/lib/apt/lists").map_or(0, Iterator::count);
    if lists < 3 || install().is_err() {
        run(Command::new("apt-get").args(["update", "--quiet"])).ok();
        install().ok();
    }
    let left = missing();
    if !left.is_empty() {
        refuse!(
            "Debian packages are missing and could not be installed: run `apt-get install {}`.",
            left.join(" ")
        );
    }
    Ok(())
}
