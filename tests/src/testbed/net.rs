//! The testbed's own bridge, and a guard that keeps the rest of the network out.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::paths::{BRIDGE, BRIDGE_ADDRESS, RUN, find_program};
use super::ports::{PRIVATE, Ports};
use super::process::run;
use super::refusal::refuse;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const GUARD: &str = "process_operator_testbed";
/// The tables of the testbed: its guard and those kube-proxy makes.
const TABLES: [(&str, &str); 3] = [("inet", GUARD), ("ip", "kube-proxy"), ("ip6", "kube-proxy")];

pub(super) fn tool(name: &str) -> Command {
    Command::new(find_program(name).unwrap_or_else(|| name.into()))
}

/// Refuses a machine whose network is used in a way the testbed would disturb.
pub(super) fn check_free() -> Result<()> {
    let addresses = run(tool("ip").args(["-oneline", "-4", "address", "show"]))?;
    if let Some(line) = addresses.lines().find(|line| {
        line.split_whitespace()
            .any(|word| word.starts_with("10.88.") || word.starts_with("10.96."))
    }) {
        let device = line.split_whitespace().nth(1).unwrap_or("?");
        refuse!(
            "The networks 10.88.0.0/16 and 10.96.0.0/16 must be free for the testbed, \
             but the interface {device} uses one of them: remove it first (for Podman's: `podman network rm`)."
        );
    }
    if let Some((family, table)) = existing_tables()?.first() {
        refuse!(
            "This machine already has the nft table `{family} {table}`, as a Kubernetes node has: \
             the testbed needs a machine that is none."
        );
    }
    Ok(())
}

/// Makes the bridge and switches IP forwarding on.
pub(super) fn create(ports: &Ports) -> Result<()> {
    run(tool("ip").args(["link", "add", BRIDGE, "type", "bridge"]))?;
    let address = format!("{BRIDGE_ADDRESS}/16");
    run(tool("ip").args(["address", "add", &address, "dev", BRIDGE]))?;
    run(tool("ip").args(["link", "set", BRIDGE, "up"]))?;
    guard(ports)?;
    let before = fs::read_to_string(FORWARD)?;
    if before.trim() != "1" {
        fs::write(forward_note(), before)?;
        fs::write(FORWARD, "1").context("IP forwarding cannot be switched on.")?;
    }
    Ok(())
}

/// Holds what IP forwarding was before.
fn forward_note() -> PathBuf {
    Path::new(RUN).join("ip_forward")
}

/// Keeps the rest of the network out, and the pods in. Temporal listens on
/// every address, because it can do that or one only, and both the loopback and
/// the bridge need it; the bridge's own addresses could be routed to by a
/// neighbour.
fn guard_rules(ports: &Ports) -> String {
    format!(
        r#"table inet {GUARD} {{
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname {{ "lo", "{BRIDGE}" }} accept
    ip daddr 10.88.0.0/16 drop
    tcp dport {{ {}, {}, {}, {}-{} }} drop
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname "{BRIDGE}" oifname != "{BRIDGE}" drop
    iifname != "{BRIDGE}" oifname "{BRIDGE}" drop
  }}
}}
"#,
        ports.get("temporal"),
        ports.get("temporal-http"),
        ports.get("temporal-membership"),
        PRIVATE.start(),
        PRIVATE.end(),
    )
}

fn guard(ports: &Ports) -> Result<()> {
    feed(tool("nft").args(["-f", "-"]), &guard_rules(ports))
        .context("nft did not accept the testbed's guard table.")
}

/// Runs a command that reads `input`.
pub(super) fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// CoreDNS has no other port to go to. Checked on the bridge, which is there
/// by then.
pub(super) fn check_dns_port() -> Result<()> {
    let address = (BRIDGE_ADDRESS, 53);
    if TcpListener::bind(address).is_err() || UdpSocket::bind(address).is_err() {
        refuse!(
            "Port 53 is in use on every address of this machine, and CoreDNS needs it on {BRIDGE_ADDRESS}: \
             stop the name server or have it listen on its own address only."
        );
    }
    Ok(())
}

/// Removes the bridge and the tables, and switches IP forwarding back.
pub(super) fn remove() {
    if exists() {
        run(tool("ip").args(["link", "delete", BRIDGE])).ok();
    }
    for (family, table) in existing_tables().unwrap_or_default() {
        run(tool("nft").args(["delete", "table", family, table])).ok();
    }
    if let Ok(before) = fs::read_to_string(forward_note()) {
        fs::write(FORWARD, before).ok();
    }
}

/// Whether the bridge is there.
pub(super) fn exists() -> bool {
    fs::exists(format!("/sys/class/net/{BRIDGE}")).unwrap_or(false)
}

/// The tables that are there.
pub(super) fn existing_tables() -> Result<Vec<(&'static str, &'static str)>> {
    let listed = run(tool("nft").args(["list", "tables"]))?;
    Ok(TABLES
        .into_iter()
        .filter(|(family, table)| {
            let line = format!("table {family} {table}");
            listed.lines().any(|listed| listed.trim() == line)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_names_what_temporal_listens_on() {
        let ports = Ports::private(*PRIVATE.start()).unwrap();
        let rules = guard_rules(&ports);
        assert!(rules.contains("17000-17999 } drop"), "{rules}");
        assert!(rules.contains(&format!("dport {{ {}, ", ports.get("temporal"))));
        assert_eq!(rules.matches('{').count(), rules.matches('}').count());
    }
}
