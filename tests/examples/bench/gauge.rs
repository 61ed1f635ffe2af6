//! Reading memory and CPU of processes.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use process_operator_harness::{Env, Operator};

/// CPU seconds that a process has used, with its ended threads.
fn cpu_seconds(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces; what follows it does not.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("stat")?
        .1
        .split_whitespace()
        .collect();
    let ticks = |n: usize| {
        fields
            .get(n)
            .and_then(|text| text.parse::<f64>().ok())
            .context("stat")
    };
    // Fields 14 and 15 of proc(5), in ticks of 10 ms on Linux.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// CPU seconds that the operator and the servers have used, by name.
pub(crate) struct Spent(BTreeMap<&'static str, f64>);

impl Spent {
    pub(crate) const OPERATOR: &'static str = "operator";

    pub(crate) fn by(env: &Env, operator: &Operator) -> Result<Self> {
        let mut spent = BTreeMap::from([(Self::OPERATOR, cpu_seconds(operator.pid)?)]);
        for name in [
            "kube-apiserver",
            "temporal",
            "etcd",
            "kube-controller-manager",
        ] {
            spent.insert(name, cpu_seconds(env.server_pid(name)?)?);
        }
        Ok(Self(spent))
    }

    /// What has come since this look.
    pub(crate) fn since(
        &self,
        env: &Env,
        operator: &Operator,
    ) -> Result<BTreeMap<&'static str, f64>> {
        let mut spent = Self::by(env, operator)?.0;
        for (name, before) in &self.0 {
            spent.entry(name).and_modify(|now| *now -= before);
        }
        Ok(spent)
    }
}

/// A line of `/proc/<pid>/status` in MiB.
pub(crate) fn memory(pid: i32, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status
        .lines()
        .find(|text| text.starts_with(line))
        .context("status")?;
    let kib: f64 = found.split_whitespace().nth(1).context("status")?.parse()?;
    Ok(kib / 1024.0)
}

/// How many processes want a core, over 1, 5 and 15 minutes.
pub(crate) fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let loads: Vec<&str> = text.split_whitespace().take(3).collect();
    Ok(loads.join(" "))
}

/// The value below which `share` of the sorted values lie.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1));
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}
