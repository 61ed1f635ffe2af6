//! Ports: the usual ones, or free ones where those are taken.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Where further Temporal servers listen; the guard knows the range.
pub(super) const PRIVATE: RangeInclusive<u16> = 17_000..=17_999;

const USUAL: [(&str, u16); 21] = [
    ("apiserver", 6443),
    ("etcd", 2379),
    ("etcd-peer", 2380),
    ("controller-manager", 10257),
    ("scheduler", 10259),
    ("kubelet", 10250),
    ("kubelet-health", 10248),
    ("kube-proxy-health", 10256),
    ("kube-proxy-metrics", 10249),
    ("coredns-health", 10053),
    ("temporal", 7233),
    ("temporal-http", 7243),
    ("temporal-membership", 6933),
    ("temporal-history", 7234),
    ("temporal-history-membership", 6934),
    ("temporal-matching", 7235),
    ("temporal-matching-membership", 6935),
    ("temporal-worker", 7239),
    ("temporal-worker-membership", 6939),
    ("temporal-metrics", 8000),
    ("temporal-ui", 8233),
];

/// The ports of one testbed, by what listens there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ports(BTreeMap<String, u16>);

impl Ports {
    /// The usual ones, each replaced by a free one when something listens there.
    pub(super) fn choose() -> Result<Self> {
        let mut ports = BTreeMap::new();
        for (name, usual) in USUAL {
            let port = if is_free(usual) { usual } else { any_free()? };
            ports.insert(name.to_owned(), port);
        }
        Ok(Self(ports))
    }

    pub(super) fn get(&self, name: &str) -> u16 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The ports of a private Temporal server: free ones in [`PRIVATE`],
    /// looked for from `start` on.
    pub(super) fn private(start: u16) -> Result<Self> {
        let names = USUAL.iter().map(|(name, _)| *name);
        let names = names.filter(|name| name.starts_with("temporal") && *name != "temporal-ui");
        let mut free = (start..=*PRIVATE.end())
            .chain(*PRIVATE.start()..start)
            .filter(|port| is_free(*port));
        let ports = names.map(|name| {
            let port = free.next().context(
                "No port from 17000 to 17999 is free for another Temporal server: stop what listens there.",
            )?;
            Ok((name.to_owned(), port))
        });
        Ok(Self(ports.collect::<Result<_>>()?))
    }

    pub(super) fn highest(&self) -> u16 {
        self.0.values().copied().max().unwrap_or(*PRIVATE.start())
    }
}

fn is_free(port: u16) -> bool {
    // A listener on any one address makes this fail as well.
    TcpListener::bind(("0.0.0.0", port)).is_ok()
}

fn any_free() -> Result<u16> {
    let listener = TcpListener::bind("0.0.0.0:0").context("No port is free.")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }

    #[test]
    fn a_usual_port_that_is_taken_is_replaced() {
        // Taken by this, or by a testbed that is up.
        let _taken = TcpListener::bind("127.0.0.1:8233");
        let port = Ports::choose().unwrap().get("temporal-ui");
        assert_ne!(port, 8233);
    }

    #[test]
    fn private_ports_differ() {
        let ports = Ports::private(17_995).unwrap();
        let mut all: Vec<u16> = ports.0.values().copied().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ports.0.len());
        assert!(all.iter().all(|port| PRIVATE.contains(port)));
    }
}
