//! Metrics of worker queues: what waits for workers, and how many poll.
//!
//! Off unless asked for, since every look is a read on the server. A queue on which something moves is
//! looked at once in an interval, one on which nothing does more and more rarely.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use process_operator_activities::Context;
use process_operator_activities::cache::{Cache, Neighbour};
use process_operator_activities::temporal::queues::{Question, Side, look};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::metrics::Metrics;

/// How many intervals pass at most between two looks at a queue on which nothing moves.
const RAREST: u32 = 20;
/// The same where nobody could take a task: a backlog is to be seen soon.
const RAREST_UNSERVED: u32 = 4;
/// Versions of one Process that are asked about, the newest first.
const VERSIONS: usize = 4;

/// What was read last, by uid of the Process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings {
    all: Arc<Mutex<HashMap<String, Reading>>>,
    /// Names of objects and versions are labels too.
    names: bool,
}

#[derive(Debug)]
struct Reading {
    question: Question,
    sides: Vec<Side>,
}

impl Readings {
    pub(crate) fn new(names: bool) -> Self {
        Self {
            all: Arc::default(),
            names,
        }
    }

    fn keep(&self, uid: &str, reading: Option<Reading>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match reading {
            Some(reading) => all.insert(uid.to_owned(), reading),
            None => all.remove(uid),
        };
    }

    fn forget_others(&self, there: &HashMap<String, Plan>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|uid, _| there.contains_key(uid));
    }
}

/// When a Process is looked at next.
#[derive(Debug)]
struct Plan {
    due: Instant,
    /// Intervals until the look after that, if nothing moves.
    pause: u32,
    /// Another one is looked at now.
    question: Question,
}

impl Plan {
    fn new(question: Question) -> Self {
        Self {
            due: Instant::now(),
            pause: 1,
            question,
        }
    }

    /// A look has found something, or nothing.
    fn looked(&mut self, every: Duration, idle: bool, served: bool) {
        let most = if served { RAREST } else { RAREST_UNSERVED };
        self.pause = if idle { (self.pause * 2).min(most) } else { 1 };
        self.due = Instant::now() + every * self.pause;
    }
}

/// Looks for ever.
pub(crate) async fn run(context: Arc<Context>, metrics: Arc<Metrics>, every: Duration) {
    let readings = metrics.queues.clone();
    let mut plans: HashMap<String, Plan> = HashMap::new();
    let mut ticks = tokio::time::interval(every.min(Duration::from_secs(5)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut there = HashMap::new();
        for process in context.cache.processes() {
            let Some(question) = question(&process) else {
                continue;
            };
            let known = plans.remove(&process.uid);
            let plan = known.filter(|known| known.question == question);
            there.insert(process.uid, plan.unwrap_or_else(|| Plan::new(question)));
        }
        plans = there;
        readings.forget_others(&plans);
        for (uid, plan) in &mut plans {
            if plan.due > Instant::now() {
                continue;
            }
            match look(&context, &plan.question).await {
                Ok(sides) => {
                    Metrics::count(&metrics.queue_looks, "ok");
                    let idle = sides.iter().all(Side::idle);
                    plan.looked(every, idle, served(&context.cache, &plan.question));
                    let question = plan.question.clone();
                    readings.keep(uid, Some(Reading { question, sides }));
                }
                Err(fault) => {
                    Metrics::count(&metrics.queue_looks, fault.category.metric_label());
                    plan.looked(every, true, true);
                    // What is not known any more is not told any more.
                    readings.keep(uid, None);
                }
            }
        }
    }
}

/// `None` for a Process whose queue is not to be looked at.
fn question(process: &Neighbour) -> Option<Question> {
    if process.task_queue.is_empty() || process.unreachable.is_some() {
        return None;
    }
    let current = process.current.clone();
    let target = process.target.clone().filter(|_| process.target != current);
    let draining = process.draining.iter().rev();
    let versions = current
        .map(|build_id| ("current", build_id))
        .into_iter()
        .chain(target.map(|build_id| ("ramping", build_id)))
        .chain(draining.map(|drain| ("draining", drain.build_id.clone())))
        .take(VERSIONS)
        .collect();
    Some(Question {
        key: process.key(),
        temporal_namespace: process.temporal_namespace.clone(),
        task_queue: process.task_queue.clone(),
        versioning: process.versioning,
        versions,
    })
}

/// Some pod of the Process is ready.
fn served(cache: &Cache, question: &Question) -> bool {
    let key = &question.key;
    let workloads = cache.workloads_of(&key.namespace, &key.name, &key.uid);
    workloads.iter().any(|workload| workload.ready_replicas > 0)
}

/// Queues of one kind, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    backlog: i64,
    age: f64,
    unserved: f64,
    pollers: i64,
    added: f64,
    dispatched: f64,
}

impl Sum {
    fn add(&mut self, side: &Side) {
        let age = side.age.as_secs_f64();
        self.backlog += side.backlog;
        self.age = self.age.max(age);
        if side.pollers == 0 {
            self.unserved = self.unserved.max(age);
        }
        self.pollers += i64::try_from(side.pollers).unwrap_or(i64::MAX);
        self.added += side.added;
        self.dispatched += side.dispatched;
    }
}

type Labels = Vec<(&'static str, String)>;

impl Readings {
    fn sums(&self) -> BTreeMap<Labels, Sum> {
        let mut sums: BTreeMap<Labels, Sum> = BTreeMap::new();
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for reading in all.values() {
            for side in &reading.sides {
                let mut labels = vec![
                    (
                        "temporal_namespace",
                        reading.question.temporal_namespace.clone(),
                    ),
                    ("kind", side.kind.to_owned()),
                    ("role", side.role.to_owned()),
                ];
                if self.names {
                    let key = &reading.question.key;
                    labels.extend([
                        ("process_namespace", key.namespace.clone()),
                        ("process", key.name.clone()),
                        ("task_queue", side.task_queue.clone()),
                        ("build_id", side.build_id.clone()),
                    ]);
                }
                sums.entry(labels).or_default().add(side);
            }
        }
        sums
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sums = self.sums();
        if sums.is_empty() {
            return Ok(());
        }
        let mut whole = |name, help, value: fn(&Sum) -> i64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, sum) in &sums {
                ConstGauge::new(value(sum)).encode(family.encode_family(labels)?)?;
            }
            Ok::<_, fmt::Error>(())
        };
        whole(
            "process_worker_backlog_tasks",
            "Tasks that wait for a worker, as the server estimates",
            |sum| sum.backlog,
        )?;
        whole(
            "process_worker_pollers",
            "Workers that poll, once for each task queue",
            |sum| sum.pollers,
        )?;
        let mut part = |name, help, value: fn(&Sum) -> f64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, sum) in &sums {
                ConstGauge::new(value(sum)).encode(family.encode_family(labels)?)?;
            }
            Ok::<_, fmt::Error>(())
        };
        part(
            "process_worker_backlog_age_seconds",
            "How long the oldest task has waited",
            |sum| sum.age,
        )?;
        part(
            "process_worker_unserved_backlog_age_seconds",
            "How long the oldest task has waited on a task queue that nobody polls",
            |sum| sum.unserved,
        )?;
        part(
            "process_worker_tasks_added_per_second",
            "Tasks that came, a second, in the last half minute",
            |sum| sum.added,
        )?;
        part(
            "process_worker_tasks_dispatched_per_second",
            "Tasks that were handed to workers, a second, in the last half minute",
            |sum| sum.dispatched,
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn side(role: &'static str, backlog: i64, age: u64, pollers: usize) -> Side {
        Side {
            kind: "workflow",
            role,
            backlog,
            age: Duration::from_secs(age),
            pollers,
            ..Side::default()
        }
    }

    /// What looks at the queues of two Processes have found.
    pub(crate) fn readings(names: bool) -> Readings {
        let readings = Readings::new(names);
        for (uid, sides) in [
            ("a", vec![side("current", 3, 60, 1)]),
            ("b", vec![side("current", 4, 7, 0)]),
        ] {
            let process = Neighbour {
                name: format!("process-{uid}"),
                temporal_namespace: "apps".into(),
                task_queue: "tq".into(),
                ..Neighbour::default()
            };
            let question = question(&process).expect("a question");
            readings.keep(uid, Some(Reading { question, sides }));
        }
        readings
    }

    fn page(names: bool) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(readings(names)));
        let mut page = String::new();
        encode(&mut page, &registry).expect("a page");
        page
    }

    #[test]
    fn queues_are_added_up_and_nothing_is_named() {
        let page = page(false);
        let labels = "{temporal_namespace=\"apps\",kind=\"workflow\",role=\"current\"}";
        for (name, value) in [
            ("backlog_tasks", "7"),
            ("backlog_age_seconds", "60.0"),
            ("unserved_backlog_age_seconds", "7.0"),
            ("pollers", "1"),
        ] {
            let line = format!("process_worker_{name}{labels} {value}");
            assert!(page.contains(&line), "{line} is not in {page}");
        }
        assert!(!page.contains("process-a"), "{page}");
    }

    #[test]
    fn each_queue_is_named_when_asked_for() {
        let page = page(true);
        assert!(
            page.contains("process=\"process-a\"") && page.contains("process=\"process-b\""),
            "{page}"
        );
    }

    #[test]
    fn what_is_idle_is_looked_at_more_and_more_rarely() {
        let every = Duration::from_secs(30);
        let process = Neighbour {
            task_queue: "tq".into(),
            ..Neighbour::default()
        };
        let mut plan = Plan::new(question(&process).expect("a question"));
        let mut pauses = |idle, served| {
            plan.looked(every, idle, served);
            plan.pause
        };
        assert_eq!([pauses(true, true), pauses(true, true)], [2, 4]);
        assert_eq!(
            [pauses(true, true), pauses(true, true), pauses(true, true)],
            [8, 16, RAREST]
        );
        assert_eq!(pauses(true, false), RAREST_UNSERVED);
        assert_eq!(pauses(false, true), 1);
    }
}
