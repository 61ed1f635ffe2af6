//! What the watcher sees, counted when somebody asks.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use process_operator_activities::cache::{Cache, Neighbour};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Upper bounds of the time that a drain has left, in seconds, and how they are called.
const LEFT: [(i64, &str); 4] = [
    (0, "overdue"),
    (3_600, "hour"),
    (86_400, "day"),
    (604_800, "week"),
];

/// Gauges over all Processes. Every replica sees all of them: take the maximum, not the sum.
#[derive(Debug)]
pub(crate) struct Gauges {
    cache: Cache,
}

impl Gauges {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache }
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let seen = Seen::of(&self.cache.processes(), Timestamp::now());
        let mut conditions = encoder.encode_descriptor(
            "processes_by_condition",
            "Processes, by type and status of a condition",
            None,
            MetricType::Gauge,
        )?;
        for ((condition, status), count) in &seen.conditions {
            let labels = [("condition", condition.as_str()), ("status", status)];
            ConstGauge::new(*count).encode(conditions.encode_family(&labels)?)?;
        }
        let mut drains = encoder.encode_descriptor(
            "drains",
            "Versions that drain, by the time that is left before their deadline",
            None,
            MetricType::Gauge,
        )?;
        for (left, count) in &seen.drains {
            let labels = [("left", *left)];
            ConstGauge::new(*count).encode(drains.encode_family(&labels)?)?;
        }
        let oldest = encoder.encode_descriptor(
            "drain_oldest_seconds",
            "How long ago the oldest version that drains lost its traffic",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(seen.oldest).encode(oldest)?;
        let open = encoder.encode_descriptor(
            "drain_open_workflows",
            "Running workflows that hold versions which drain",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(seen.open).encode(open)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    conditions: BTreeMap<(String, String), i64>,
    drains: BTreeMap<&'static str, i64>,
    oldest: i64,
    open: i64,
}

impl Seen {
    fn of(processes: &[Neighbour], now: Timestamp) -> Self {
        let mut seen = Self::default();
        let all = LEFT.iter().map(|(_, left)| *left);
        // What is not there is 0: an alert over it must not go silent.
        seen.drains = all.chain(["more", "none"]).map(|left| (left, 0)).collect();
        for process in processes {
            for condition in &process.conditions {
                *seen.conditions.entry(condition.clone()).or_default() += 1;
            }
            for drain in &process.draining {
                *seen.drains.entry(left(drain.deadline, now)).or_default() += 1;
                seen.open += drain.open;
                let age = now.duration_since(drain.since).as_secs();
                seen.oldest = seen.oldest.max(age);
            }
        }
        seen
    }
}

fn left(deadline: Option<Timestamp>, now: Timestamp) -> &'static str {
    let Some(deadline) = deadline else {
        return "none";
    };
    let seconds = deadline.duration_since(now).as_secs();
    let bound = LEFT.iter().find(|(bound, _)| seconds <= *bound);
    bound.map_or("more", |(_, left)| left)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use process_operator_activities::cache::Draining;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn draining(since: i64, deadline: Option<i64>, open: i64) -> Draining {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        Draining {
            build_id: "v1".into(),
            since: at(since),
            deadline: deadline.map(at),
            open,
        }
    }

    #[test]
    fn drains_are_sorted_by_what_is_left_of_their_time() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000);
        for (deadline, wanted) in [
            (None, "none"),
            (Some(999_999), "overdue"),
            (Some(1_000_000), "overdue"),
            (Some(1_003_600), "hour"),
            (Some(1_003_601), "day"),
            (Some(1_604_800), "week"),
            (Some(1_604_801), "more"),
        ] {
            let drain = draining(0, deadline, 0);
            assert_eq!(left(drain.deadline, now), wanted, "{deadline:?}");
        }
    }

    #[test]
    fn all_processes_are_counted_and_what_there_is_none_of_is_zero() {
        let process = |uid: &str, ready: &str, draining: Vec<Draining>| Neighbour {
            uid: uid.into(),
            conditions: vec![("Ready".into(), ready.into())],
            draining,
            ..Neighbour::default()
        };
        let cache = Cache::default();
        cache.put_process(process("a", "True", vec![draining(0, None, 3)]));
        cache.put_process(process("b", "True", vec![draining(60, Some(1), 4)]));
        cache.put_process(process("c", "False", Vec::new()));
        let mut registry = Registry::with_prefix("process_operator");
        registry.register_collector(Box::new(Gauges::new(cache)));
        let mut page = String::new();
        encode(&mut page, &registry).expect("a page");
        for line in [
            "process_operator_processes_by_condition{condition=\"Ready\",status=\"True\"} 2",
            "process_operator_processes_by_condition{condition=\"Ready\",status=\"False\"} 1",
            "process_operator_drains{left=\"none\"} 1",
            "process_operator_drains{left=\"overdue\"} 1",
            "process_operator_drains{left=\"week\"} 0",
            "process_operator_drain_open_workflows 7",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
    }
}
