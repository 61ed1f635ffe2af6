//! What settled Processes cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use process_operator_faultproxy::audit::AuditFilter;
use process_operator_harness::{Env, Operator, is_current};

use crate::gauge::{Spent, memory};
use crate::shown::Shown;

/// Before a window, if that is not shorter.
const SETTLING: Duration = Duration::from_secs(180);

/// Waits until all are Current. Each change of routing takes the server's workflows some time.
pub(crate) async fn all_current(env: &Env, operator: &Operator, count: usize) -> Result<()> {
    let (started, before) = (Instant::now(), Spent::by(env, operator)?);
    let ours = [env.control.as_str(), env.apps.as_str()];
    let requests = temporal_requests(env, &ours).await?;
    Shown::watch(env)
        .wait("all are current", Duration::from_secs(900), |all| {
            let current = all.values().filter(|process| is_current(process, "v1"));
            (current.count() >= count).then_some(())
        })
        .await?;
    println!(
        "workers poll -> all {count} Current: {:.1} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "  CPU seconds until then: {:.1?}",
        before.since(env, operator)?
    );
    let grown = grown(requests, temporal_requests(env, &ours).await?);
    println!("  Temporal requests until then, polls aside: {grown:?}");
    Ok(())
}

/// Requests by operation in these Temporal namespaces.
pub(crate) async fn temporal_requests(
    env: &Env,
    namespaces: &[&str],
) -> Result<BTreeMap<String, f64>> {
    let url = env
        .testbed
        .state()
        .temporal_metrics_url
        .clone()
        .unwrap_or_default();
    let text = env.fetch(&url).await?;
    // As the server writes names into its metrics.
    let namespaces: Vec<String> = namespaces
        .iter()
        .map(|name| name.replace('-', "_"))
        .collect();
    let mut found = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("service_requests{"))
    {
        let label = |name: &str| {
            let rest = line.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let (Some(namespace), Some(operation)) = (label("namespace"), label("operation")) else {
            continue;
        };
        if !namespaces.contains(&namespace) || label("service_name").as_deref() != Some("frontend")
        {
            continue;
        }
        let value: f64 = line.rsplit_once(' ').context("metric")?.1.parse()?;
        *found.entry(operation).or_default() += value;
    }
    Ok(found)
}

/// What has come to be asked, polls aside.
fn grown(before: BTreeMap<String, f64>, after: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut grown = after;
    for (operation, before) in before {
        grown.entry(operation).and_modify(|after| *after -= before);
    }
    grown.retain(|operation, count| *count > 0.0 && !operation.starts_with("Poll"));
    grown
}

/// Requests of the operator in a window, by what they are.
pub(crate) struct Asked {
    pub(crate) kubernetes: BTreeMap<String, f64>,
    pub(crate) temporal: BTreeMap<String, f64>,
}

/// What settled Processes add to the requests of none, for each and an hour.
pub(crate) fn print_per_process(none: &Asked, some: &Asked, count: usize, window: Duration) {
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let of_each = 3600.0 / window.as_secs_f64() / count as f64;
    for (server, none, some) in [
        ("Kubernetes", &none.kubernetes, &some.kubernetes),
        ("Temporal", &none.temporal, &some.temporal),
    ] {
        // What is asked of a whole Temporal namespace or of all objects, however many there are.
        let fixed = |what: &str| {
            [
                "leases",
                "watch ",
                "list ",
                "DescribeNamespace",
                "List",
                "RecordWorkerHeartbeat",
            ]
            .iter()
            .any(|it| what.contains(it))
        };
        let sum = |asked: &BTreeMap<String, f64>, is_fixed: bool| -> f64 {
            let chosen = asked.iter().filter(|(what, _)| fixed(what) == is_fixed);
            chosen.map(|(_, count)| count).sum()
        };
        println!(
            "  {server} requests of a settled Process per hour: {:.1}; of the sweep, the Lease and lists together in \
             the window: {:.0} without Processes, {:.0} with them",
            (sum(some, false) - sum(none, false)) * of_each,
            sum(none, true),
            sum(some, true),
        );
    }
}

/// One window: memory, CPU and requests of the operator, CPU of the servers.
pub(crate) async fn window(
    env: &Env,
    operator: &Operator,
    what: &str,
    window: Duration,
) -> Result<Asked> {
    // What has just happened is to fade first.
    tokio::time::sleep(window.min(SETTLING)).await;
    let mark = env.audit.mark()?;
    let before = Spent::by(env, operator)?;
    let ours = [env.control.as_str(), env.apps.as_str()];
    let requests = temporal_requests(env, &ours).await?;
    tokio::time::sleep(window).await;
    let minutes = window.as_secs_f64() / 60.0;
    let mut spent = before.since(env, operator)?;
    println!(
        "{what}, window {} s: RSS {:.1} MiB (anonymous {:.1}, peak {:.1}); CPU {:.2} s/min",
        window.as_secs(),
        memory(operator.pid, "VmRSS:")?,
        memory(operator.pid, "RssAnon:")?,
        memory(operator.pid, "VmHWM:")?,
        spent.remove(Spent::OPERATOR).unwrap_or_default() / minutes,
    );
    for (name, seconds) in spent {
        println!("  {name}: CPU {:.2} s/min", seconds / minutes);
    }
    let filter = AuditFilter::any().service_account("process-operator", "process-operator");
    let mut by_kind: BTreeMap<String, f64> = BTreeMap::new();
    for entry in env.audit.select(mark, &filter)? {
        let resource = entry
            .object_ref
            .as_ref()
            .map(|object| object.resource.clone())
            .unwrap_or_default();
        *by_kind
            .entry(format!("{} {resource}", entry.verb))
            .or_default() += 1.0;
    }
    println!("  Kubernetes requests in the window: {by_kind:?}");
    let grown = grown(requests, temporal_requests(env, &ours).await?);
    println!("  Temporal requests in the window, polls aside: {grown:?}");
    Ok(Asked {
        kubernetes: by_kind,
        temporal: grown,
    })
}
