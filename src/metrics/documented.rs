//! `docs/metrics.md` has every metric of the operator, with the type and the labels that it is served with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use process_operator_activities::Meter as _;
use process_operator_activities::cache::Cache;

use super::Metrics;
use crate::queues::tests::readings;

/// Type and labels.
type Shape = (String, BTreeSet<String>);

/// From the tables of the page: a metric, its type, its labels, its unit, and what it means.
fn documented() -> BTreeMap<String, Shape> {
    let mut found = BTreeMap::new();
    for line in include_str!("../../docs/metrics.md").lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, unit, meaning] = cells[..] else {
            continue;
        };
        let Some(name) = name.strip_prefix('`').and_then(|it| it.strip_suffix('`')) else {
            continue;
        };
        assert!(!meaning.is_empty(), "{name} has no meaning");
        let seconds = name.ends_with("_seconds");
        assert_eq!(unit == "seconds", seconds, "{name}: {unit}");
        // Every second one is between backticks.
        let labels = labels.split('`').skip(1).step_by(2);
        let shape = (kind.to_owned(), labels.map(str::to_owned).collect());
        let before = found.insert(name.to_owned(), shape);
        assert!(before.is_none(), "{name} is there twice");
    }
    found
}

/// From a page in the text format.
fn served(page: &str) -> BTreeMap<String, Shape> {
    let mut found = BTreeMap::new();
    let mut series = BTreeSet::new();
    for line in page.lines().rev() {
        // From the end: what describes a metric stands before its series.
        let Some(described) = line.strip_prefix("# ") else {
            let labels = line
                .split_once('{')
                .and_then(|(_, rest)| rest.split_once('}'));
            let labels = labels.into_iter().flat_map(|(labels, _)| labels.split(','));
            let names = labels.filter_map(|label| Some(label.split_once('=')?.0));
            series.extend(names.filter(|name| *name != "le").map(str::to_owned));
            continue;
        };
        let mut words = described.split(' ');
        if words.next() == Some("TYPE")
            && let (Some(name), Some(kind)) = (words.next(), words.next())
        {
            let name = match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            found.insert(name, (kind.to_owned(), std::mem::take(&mut series)));
        }
    }
    found
}

/// Has a value of everything: what has none is not on the page.
fn full() -> Arc<Metrics> {
    let metrics = Metrics::new(&Cache::default(), readings(false));
    // All of them, so that a new one cannot be forgotten here.
    let Metrics {
        registry: _,
        signals,
        signal_seconds: _,
        watch_events,
        processes: _,
        temporal_up: _,
        namespaces_up: _,
        certificates_waiting: _,
        crd_missing: _,
        other_installations: _,
        contested: _,
        sweeps,
        sweep_seconds: _,
        sweep_findings,
        stuck_workflows: _,
        outage_writes: _,
        definition_fetches,
        worker_restarts,
        errors: _,
        queue_looks,
        queues: _,
        sdk: _,
        signals_pending: _,
        events: _,
        rollout_seconds: _,
        activity_seconds: _,
    } = &*metrics;
    for family in [signals, sweeps, definition_fetches, queue_looks] {
        Metrics::count(family, "ok");
    }
    for family in [watch_events, sweep_findings, worker_restarts] {
        Metrics::count_kind(family, "a kind");
    }
    metrics.namespace_up("apps", true);
    metrics.activity("observe".into(), false, Duration::ZERO);
    metrics.fault("internal");
    metrics.event("RolloutStarted");
    metrics.rollout("completed", 1.0);
    metrics
}

#[test]
fn every_metric_is_documented_as_it_is_served_and_no_other() {
    let mut documented = documented();
    // A suite looks at those of the SDK, on a page with all that a rollout leaves there.
    documented.retain(|name, _| !name.starts_with("temporal_"));
    let mut served = served(&full().render());
    // Without a Process there is none of these.
    let conditions = ["condition", "status"].map(str::to_owned);
    let gauge = ("gauge".to_owned(), BTreeSet::from(conditions));
    served.insert("process_operator_processes_by_condition".into(), gauge);
    for (name, shape) in &served {
        let told = documented.remove(name);
        assert_eq!(told.as_ref(), Some(shape), "docs/metrics.md: {name}");
    }
    assert!(documented.is_empty(), "there is no {documented:?}");
}
