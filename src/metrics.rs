//! Metrics of the operator, on `/metrics`, and beside them those of worker queues and of the Temporal SDK.
//! No object names, uids or error texts as labels.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use process_operator_activities::Meter;
use process_operator_activities::cache::Cache;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::gauges::Gauges;
use crate::queues::Readings;
use crate::sdk_meter::SdkMeter;

#[cfg(test)]
mod documented;

/// Of the operator's own metrics.
const PREFIX: &str = "process_operator";

/// Label `result`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    /// `ok` or the metric label of an error category.
    pub result: String,
}

/// Label `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    /// What was watched or found.
    pub kind: String,
}

/// Label `category`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CategoryLabel {
    /// Metric label of an error category.
    pub category: &'static str,
}

/// Label `temporal_namespace`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct NamespaceLabel {
    /// Name of a Temporal namespace.
    pub temporal_namespace: String,
}

/// Label `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    /// Reason of an Event.
    pub reason: String,
}

/// Label `outcome`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    /// `completed` or `failed`.
    pub outcome: &'static str,
}

/// Labels of what an activity took.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ActivityLabel {
    /// Name of the activity.
    pub activity: String,
    /// `ok` or `failed`.
    pub result: &'static str,
}

/// From a read that is answered at once to a wait of weeks.
const ACTIVITY_SECONDS: [f64; 11] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0,
];
/// From all at once to steps of days.
const ROLLOUT_SECONDS: [f64; 10] = [
    2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0,
];

/// All metrics.
pub(crate) struct Metrics {
    registry: Registry,
    /// Signals sent to lifecycles.
    pub signals: Family<ResultLabel, Counter>,
    /// Time from a change seen to its signal accepted by Temporal.
    pub signal_seconds: Histogram,
    /// Watch events by kind.
    pub watch_events: Family<KindLabel, Counter>,
    /// Processes seen.
    pub processes: Gauge,
    /// 1 while Temporal answers.
    pub temporal_up: Gauge,
    /// The same for each Temporal namespace in use.
    namespaces_up: Family<NamespaceLabel, Gauge>,
    /// 1 while there are certificates for Temporal that cannot be used.
    pub certificates_waiting: Gauge,
    /// 1 while the CRD is missing.
    pub crd_missing: Gauge,
    /// Other installations in the operator's Temporal namespace.
    pub other_installations: Gauge,
    /// Processes that another operator works on too.
    pub contested: Gauge,
    /// Sweeps by result.
    pub sweeps: Family<ResultLabel, Counter>,
    /// Duration of a sweep.
    pub sweep_seconds: Gauge<f64, AtomicU64>,
    /// What sweeps found to report.
    pub sweep_findings: Family<KindLabel, Counter>,
    /// Workflows of the operator whose workflow tasks fail again and again.
    pub stuck_workflows: Gauge,
    /// Writes of outage conditions.
    pub outage_writes: Counter,
    /// Questions to registries of definitions, by result.
    pub definition_fetches: Family<ResultLabel, Counter>,
    /// Times a worker was replaced by a fresh one.
    pub worker_restarts: Family<KindLabel, Counter>,
    /// Failed looks, steps and waits.
    pub errors: Family<CategoryLabel, Counter>,
    /// Looks at task queues.
    pub queue_looks: Family<ResultLabel, Counter>,
    /// What they have read.
    pub queues: Readings,
    /// What the Temporal SDK records.
    pub sdk: SdkMeter,
    /// Signals waiting for Temporal.
    pub signals_pending: Gauge<i64, AtomicI64>,
    /// Events recorded.
    events: Family<ReasonLabel, Counter>,
    /// How long rollouts took.
    rollout_seconds: Family<OutcomeLabel, Histogram>,
    /// How long activities took.
    activity_seconds: Family<ActivityLabel, Histogram>,
}

impl Metrics {
    /// Registers everything; the operator's own under the prefix `process_operator`.
    #[allow(clippy::too_many_lines, reason = "one line or two for each metric")]
    pub(crate) fn new(cache: &Cache, queues: Readings) -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::default(),
            queue_looks: Family::default(),
            queues,
            sdk: SdkMeter::default(),
            signals: Family::default(),
            signal_seconds: Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            watch_events: Family::default(),
            processes: Gauge::default(),
            temporal_up: Gauge::default(),
            namespaces_up: Family::default(),
            certificates_waiting: Gauge::default(),
            crd_missing: Gauge::default(),
            other_installations: Gauge::default(),
            contested: Gauge::default(),
            sweeps: Family::default(),
            sweep_seconds: Gauge::default(),
            sweep_findings: Family::default(),
            stuck_workflows: Gauge::default(),
            outage_writes: Counter::default(),
            definition_fetches: Family::default(),
            worker_restarts: Family::default(),
            errors: Family::default(),
            signals_pending: Gauge::default(),
            events: Family::default(),
            rollout_seconds: Family::new_with_constructor(|| Histogram::new(ROLLOUT_SECONDS)),
            activity_seconds: Family::new_with_constructor(|| Histogram::new(ACTIVITY_SECONDS)),
        };
        let registry = metrics.registry.sub_registry_with_prefix(PREFIX);
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the operator", version);
        registry.register(
            "signals",
            "Signals sent to lifecycle workflows, by result",
            metrics.signals.clone(),
        );
        registry.register_with_unit(
            "signal",
            "Time from a change seen to its signal accepted",
            Unit::Seconds,
            metrics.signal_seconds.clone(),
        );
        registry.register(
            "watch_events",
            "Watch events, by kind",
            metrics.watch_events.clone(),
        );
        registry.register(
            "processes",
            "Processes seen by the watcher",
            metrics.processes.clone(),
        );
        registry.register(
            "temporal_up",
            "1 while Temporal answers",
            metrics.temporal_up.clone(),
        );
        registry.register(
            "temporal_namespace_up",
            "1 while Temporal answers for a Temporal namespace in use",
            metrics.namespaces_up.clone(),
        );
        registry.register(
            "temporal_certificates_waiting",
            "1 while there are new certificates for Temporal that cannot be used",
            metrics.certificates_waiting.clone(),
        );
        registry.register(
            "crd_missing",
            "1 while the CRD is not installed",
            metrics.crd_missing.clone(),
        );
        registry.register(
            "other_installations",
            "Other installations that work in the operator's Temporal namespace",
            metrics.other_installations.clone(),
        );
        registry.register(
            "contested_processes",
            "Processes that an operator in another Temporal namespace works on too",
            metrics.contested.clone(),
        );
        registry.register("sweeps", "Sweeps, by result", metrics.sweeps.clone());
        registry.register_with_unit(
            "sweep_last",
            "Duration of the last sweep",
            Unit::Seconds,
            metrics.sweep_seconds.clone(),
        );
        registry.register(
            "sweep_findings",
            "What sweeps reported to lifecycles, by kind",
            metrics.sweep_findings.clone(),
        );
        registry.register(
            "stuck_workflows",
            "Workflows of the operator whose workflow tasks fail again and again",
            metrics.stuck_workflows.clone(),
        );
        registry.register(
            "outage_writes",
            "Conditions written about an outage",
            metrics.outage_writes.clone(),
        );
        registry.register(
            "worker_restarts",
            "Workers replaced by fresh ones, by task queue",
            metrics.worker_restarts.clone(),
        );
        registry.register(
            "signals_pending",
            "Signals waiting to be accepted",
            metrics.signals_pending.clone(),
        );
        registry.register(
            "errors",
            "Failed looks, steps and waits of activities, by category",
            metrics.errors.clone(),
        );
        registry.register(
            "queue_looks",
            "Looks at the task queues of a Process, by result",
            metrics.queue_looks.clone(),
        );
        registry.register_collector(Box::new(Gauges::new(cache.clone())));
        metrics.register_work();
        let registry = &mut metrics.registry;
        registry.register_collector(Box::new(metrics.queues.clone()));
        registry.register_collector(Box::new(metrics.sdk.clone()));
        Arc::new(metrics)
    }

    /// What is done, by rollouts and activities.
    fn register_work(&mut self) {
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register(
            "definition_fetches",
            "Questions to registries of definitions, by result",
            self.definition_fetches.clone(),
        );
        registry.register(
            "events",
            "Events recorded by this replica, by reason",
            self.events.clone(),
        );
        registry.register_with_unit(
            "rollout",
            "Time from the beginning of a rollout to its end, by outcome",
            Unit::Seconds,
            self.rollout_seconds.clone(),
        );
        registry.register_with_unit(
            "activity",
            "Time that activities took, by name and result",
            Unit::Seconds,
            self.activity_seconds.clone(),
        );
    }

    /// An activity has ended.
    pub(crate) fn activity(&self, activity: String, failed: bool, took: Duration) {
        let result = if failed { "failed" } else { "ok" };
        self.activity_seconds
            .get_or_create(&ActivityLabel { activity, result })
            .observe(took.as_secs_f64());
    }

    /// A Temporal namespace was pinged.
    pub(crate) fn namespace_up(&self, namespace: &str, up: bool) {
        let temporal_namespace = namespace.to_owned();
        self.namespaces_up
            .get_or_create(&NamespaceLabel { temporal_namespace })
            .set(up.into());
    }

    /// A Temporal namespace is not used any more.
    pub(crate) fn forget_namespace(&self, namespace: &str) {
        let temporal_namespace = namespace.to_owned();
        self.namespaces_up
            .remove(&NamespaceLabel { temporal_namespace });
    }

    /// So many other installations work in the operator's Temporal namespace.
    pub(crate) fn others(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.other_installations.set(count);
    }

    /// The page, in the `OpenMetrics` text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts one result.
    pub(crate) fn count(family: &Family<ResultLabel, Counter>, result: &str) {
        family
            .get_or_create(&ResultLabel {
                result: result.to_owned(),
            })
            .inc();
    }

    /// Counts one of a kind.
    pub(crate) fn count_kind(family: &Family<KindLabel, Counter>, kind: &str) {
        family
            .get_or_create(&KindLabel {
                kind: kind.to_owned(),
            })
            .inc();
    }
}

impl Meter for Metrics {
    fn fault(&self, category: &'static str) {
        self.errors.get_or_create(&CategoryLabel { category }).inc();
    }

    fn event(&self, reason: &str) {
        let reason = reason.to_owned();
        self.events.get_or_create(&ReasonLabel { reason }).inc();
    }

    fn rollout(&self, outcome: &'static str, seconds: f64) {
        self.rollout_seconds
            .get_or_create(&OutcomeLabel { outcome })
            .observe(seconds);
    }
}
