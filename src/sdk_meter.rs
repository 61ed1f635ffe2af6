//! The Temporal SDK's own metrics, in the page of the operator's.
//!
//! The exporter that comes with the SDK keeps its registry to itself and serves it on a port of its own.
//! This records into a collector instead, under the names that the exporter would give: `_total` for
//! counters, `_seconds` for durations.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use temporalio_common::telemetry::metrics::{
    self as sdk, CoreMeter, CounterBase, GaugeBase, GaugeF64Base, HistogramBase,
    HistogramDurationBase, HistogramF64Base, MetricAttributable, MetricAttributes,
    MetricParameters, NewAttributes, UpDownCounterBase, default_buckets_for,
};

/// Prefix of the SDK's metrics, which the names of buckets are without.
const PREFIX: &str = "temporal_";

/// Label of the SDK's metrics.
const TASK_QUEUE: &str = "task_queue";

/// In the order of their names.
type Labels = Vec<(String, String)>;
type Float = Gauge<f64, AtomicU64>;
type Bound<T> = Result<Box<T>, Box<dyn Error>>;

/// Upper bounds of a histogram.
#[derive(Debug, Clone)]
struct Buckets(Vec<f64>);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

#[derive(Debug, Clone)]
enum Instrument {
    Counter(Family<Labels, Counter>),
    Gauge(Family<Labels, Gauge>),
    Float(Family<Labels, Float>),
    Histogram(Family<Labels, Histogram, Buckets>),
}

impl Instrument {
    fn metric(&self) -> &dyn EncodeMetric {
        match self {
            Self::Counter(family) => family,
            Self::Gauge(family) => family,
            Self::Float(family) => family,
            Self::Histogram(family) => family,
        }
    }
}

#[derive(Debug)]
struct Described {
    help: String,
    instrument: Instrument,
}

/// What the SDK records; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct SdkMeter {
    all: Arc<Mutex<BTreeMap<String, Described>>>,
    /// Task queues are not told apart.
    queueless: bool,
}

impl Collector for SdkMeter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, described) in all.iter() {
            let metric = described.instrument.metric();
            if metric.is_empty() {
                continue;
            }
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, &described.help, None, kind)?)?;
        }
        Ok(())
    }
}

impl SdkMeter {
    /// The same for a client: what it asks about are task queues of users.
    pub(crate) fn for_client(&self) -> Self {
        Self {
            queueless: true,
            ..self.clone()
        }
    }

    fn attributes(&self, mut labels: HashMap<String, String>) -> MetricAttributes {
        if self.queueless {
            labels.remove(TASK_QUEUE);
        }
        // The variant that holds plain labels; the others belong to exporters of the SDK.
        MetricAttributes::NoOp(Arc::new(labels))
    }

    /// The instrument of this name; made when it is asked for first.
    fn instrument(
        &self,
        name: &str,
        params: &MetricParameters,
        make: impl FnOnce() -> Instrument,
    ) -> Instrument {
        let name = name.replace('-', "_");
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let described = all.entry(name).or_insert_with_key(|name| Described {
            help: if params.description.is_empty() {
                name.clone()
            } else {
                params.description.to_string()
            },
            instrument: make(),
        });
        described.instrument.clone()
    }

    fn gauges(&self, params: &MetricParameters) -> Arc<Gauges> {
        let made = self.instrument(
            &params.name,
            params,
            || Instrument::Gauge(Family::default()),
        );
        // The SDK does not give one name to two kinds.
        Arc::new(Gauges(match made {
            Instrument::Gauge(family) => family,
            _ => Family::default(),
        }))
    }

    fn histograms(&self, params: &MetricParameters, unit: &str) -> Arc<Histograms> {
        let name = if unit.is_empty() {
            params.name.to_string()
        } else {
            format!("{}_{unit}", params.name)
        };
        let bare = params.name.strip_prefix(PREFIX).unwrap_or(&params.name);
        let fresh =
            || Family::new_with_constructor(Buckets(default_buckets_for(bare, true).to_vec()));
        let made = self.instrument(&name, params, || Instrument::Histogram(fresh()));
        Arc::new(Histograms(match made {
            Instrument::Histogram(family) => family,
            _ => fresh(),
        }))
    }
}

fn labels(attributes: &MetricAttributes) -> Labels {
    let MetricAttributes::NoOp(labels) = attributes else {
        return Labels::new();
    };
    let mut labels: Labels = labels
        .iter()
        .map(|(name, value)| (name.replace('-', "_"), value.clone()))
        .collect();
    labels.sort();
    labels
}

impl CoreMeter for SdkMeter {
    fn new_attributes(&self, attribs: NewAttributes) -> MetricAttributes {
        self.attributes(attribs.into())
    }

    fn extend_attributes(
        &self,
        existing: MetricAttributes,
        attribs: NewAttributes,
    ) -> MetricAttributes {
        let mut all = match existing {
            MetricAttributes::NoOp(labels) => Arc::unwrap_or_clone(labels),
            _ => HashMap::new(),
        };
        all.extend(HashMap::<String, String>::from(attribs));
        self.attributes(all)
    }

    fn counter(&self, params: MetricParameters) -> sdk::Counter {
        let made = self.instrument(&params.name, &params, || {
            Instrument::Counter(Family::default())
        });
        sdk::Counter::new(Arc::new(Counters(match made {
            Instrument::Counter(family) => family,
            _ => Family::default(),
        })))
    }

    fn histogram(&self, params: MetricParameters) -> sdk::Histogram {
        sdk::Histogram::new(self.histograms(&params, &params.unit))
    }

    fn histogram_f64(&self, params: MetricParameters) -> sdk::HistogramF64 {
        sdk::HistogramF64::new(self.histograms(&params, &params.unit))
    }

    fn histogram_duration(&self, params: MetricParameters) -> sdk::HistogramDuration {
        sdk::HistogramDuration::new(self.histograms(&params, "seconds"))
    }

    fn gauge(&self, params: MetricParameters) -> sdk::Gauge {
        sdk::Gauge::new(self.gauges(&params))
    }

    fn gauge_f64(&self, params: MetricParameters) -> sdk::GaugeF64 {
        let made = self.instrument(&params.name, &params, || {
            Instrument::Float(Family::default())
        });
        sdk::GaugeF64::new(Arc::new(Floats(match made {
            Instrument::Float(family) => family,
            _ => Family::default(),
        })))
    }

    fn up_down_counter(&self, params: MetricParameters) -> sdk::UpDownCounter {
        sdk::UpDownCounter::new(self.gauges(&params))
    }
}

struct Counters(Family<Labels, Counter>);
struct Gauges(Family<Labels, Gauge>);
struct Floats(Family<Labels, Float>);
struct Histograms(Family<Labels, Histogram, Buckets>);

/// One series.
struct Series<M>(M);

/// What gives an instrument of ours its labels.
macro_rules! bound {
    ($($family:ty => $base:ident),* $(,)?) => {
        $(impl MetricAttributable<Box<dyn $base>> for $family {
            fn with_attributes(&self, attributes: &MetricAttributes) -> Bound<dyn $base> {
                let series = self.0.get_or_create(&labels(attributes)).clone();
                Ok(Box::new(Series(series)))
            }
        })*
    };
}

bound! {
    Counters => CounterBase,
    Gauges => GaugeBase,
    Gauges => UpDownCounterBase,
    Floats => GaugeF64Base,
    Histograms => HistogramBase,
    Histograms => HistogramF64Base,
    Histograms => HistogramDurationBase,
}

impl CounterBase for Series<Counter> {
    fn adds(&self, value: u64) {
        self.0.inc_by(value);
    }
}

impl GaugeBase for Series<Gauge> {
    fn records(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

impl UpDownCounterBase for Series<Gauge> {
    fn adds(&self, value: i64) {
        self.0.inc_by(value);
    }
}

impl GaugeF64Base for Series<Float> {
    fn records(&self, value: f64) {
        self.0.set(value);
    }
}

impl HistogramBase for Series<Histogram> {
    #[allow(clippy::cast_precision_loss, reason = "a histogram holds floats")]
    fn records(&self, value: u64) {
        self.0.observe(value as f64);
    }
}

impl HistogramF64Base for Series<Histogram> {
    fn records(&self, value: f64) {
        self.0.observe(value);
    }
}

impl HistogramDurationBase for Series<Histogram> {
    fn records(&self, value: Duration) {
        self.0.observe(value.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use temporalio_common::telemetry::metrics::MetricKeyValue;

    use super::*;

    #[test]
    fn names_are_those_of_the_sdks_own_exporter() {
        let meter = SdkMeter::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(meter.clone()));
        let base = meter.new_attributes(NewAttributes::new(vec![MetricKeyValue::new(
            "namespace",
            "control",
        )]));
        let both = meter.extend_attributes(
            base.clone(),
            NewAttributes::new(vec![MetricKeyValue::new("a-kind", "x")]),
        );
        let counter = meter.counter("temporal_worker_start".into());
        counter.add(2, &base);
        // Asked for once more, it is the same one.
        meter.counter("temporal_worker_start".into()).add(1, &both);
        let latency = meter.histogram_duration("temporal_workflow_endtoend_latency".into());
        latency.record(Duration::from_millis(100), &base);
        meter.gauge("temporal_num_pollers".into()).record(5, &base);
        let client = meter.for_client();
        let about = client.new_attributes(NewAttributes::new(vec![
            MetricKeyValue::new("operation", "DescribeTaskQueue"),
            MetricKeyValue::new("task_queue", "a-users-own"),
        ]));
        client.counter("temporal_request".into()).add(1, &about);
        let mut page = String::new();
        encode(&mut page, &registry).expect("a page");
        for line in [
            "temporal_worker_start_total{namespace=\"control\"} 2",
            "temporal_worker_start_total{a_kind=\"x\",namespace=\"control\"} 1",
            "temporal_workflow_endtoend_latency_seconds_bucket{le=\"0.1\",namespace=\"control\"} 1",
            "temporal_workflow_endtoend_latency_seconds_count{namespace=\"control\"} 1",
            "temporal_num_pollers{namespace=\"control\"} 5",
            "temporal_request_total{operation=\"DescribeTaskQueue\"} 1",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
        let types = page.matches("# TYPE temporal_worker_start counter").count();
        assert_eq!(types, 1, "{page}");
    }
}
