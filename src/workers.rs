//! The Temporal workers: three task queues, one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use process_operator_activities::{Context, OperatorActivities};
use process_operator_workflows::contract::{QUEUE_MAIN, QUEUE_ROUTING, QUEUE_WAITS};
use process_operator_workflows::drain::ProcessDrain;
use process_operator_workflows::lifecycle::ProcessLifecycle;
use process_operator_workflows::rollout::ProcessRollout;
use temporalio_client::{Client, ClientOptions, Connection};
use temporalio_sdk::runtime::PollerBehavior;
use temporalio_sdk::runtime::worker_tuner::{FixedSizeSlotSupplier, TunerHolder};
use temporalio_sdk::{Runtime, Worker, WorkerOptions};
use tokio::sync::watch;

use crate::config::Config;
use crate::health::{Part, Readiness};
use crate::metrics::Metrics;
use crate::wear::{Counted, Wear};

/// Lifecycles at work at once. Of many new ones all get their Deployments before anything is told about them, as
/// far as they are at work; many more would hold each other up at the servers while the time of their
/// workflow tasks runs out. What waits, waits in Temporal.
const AT_WORK: usize = 128;
/// Changes of routing at work at once. The server lets ten begin in a second, and each may take some seconds, which it
/// waits for the server's own workflows.
const CHANGES: usize = 50;
/// Pause before a worker that ended by itself is started again.
const PAUSE: Duration = Duration::from_secs(2);

/// One of the three task queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Queue {
    Main,
    Waits,
    Routing,
}

impl Queue {
    fn name(self) -> &'static str {
        match self {
            Self::Main => QUEUE_MAIN,
            Self::Waits => QUEUE_WAITS,
            Self::Routing => QUEUE_ROUTING,
        }
    }
}

/// For `/readyz`: which workers have ended, and why. They are ready when all poll, in whatever order they end and are
/// started again.
struct Ended {
    readiness: Readiness,
    why: Mutex<BTreeMap<Queue, String>>,
}

impl Ended {
    fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            why: Mutex::default(),
        }
    }

    fn polls(&self, queue: Queue) {
        let mut ended = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        ended.remove(&queue);
        self.tell(&ended);
    }

    fn ends(&self, queue: Queue, why: String) {
        let mut ended = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert(queue, why);
        self.tell(&ended);
    }

    fn tell(&self, ended: &BTreeMap<Queue, String>) {
        match ended.first_key_value() {
            None => self.readiness.up(Part::Workers),
            Some((queue, why)) => self
                .readiness
                .down(Part::Workers, format!("{}: {why}", queue.name())),
        }
    }
}

/// Everything a worker is made of.
pub(crate) struct Workers {
    /// Arguments.
    pub config: Config,
    /// SDK runtime.
    pub runtime: Runtime,
    /// The workers' own.
    pub connection: Connection,
    /// For the activities.
    pub context: Arc<Context>,
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
}

impl Workers {
    /// Runs all workers until `stop` becomes true.
    pub(crate) async fn run(&self, stop: watch::Receiver<bool>) {
        let ended = Ended::new(self.readiness.clone());
        tokio::join!(
            self.keep(Queue::Main, &ended, stop.clone()),
            self.keep(Queue::Waits, &ended, stop.clone()),
            self.keep(Queue::Routing, &ended, stop),
        );
    }

    /// Keeps one worker running; replaces it when it ends or gets old.
    async fn keep(&self, queue: Queue, ended: &Ended, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.once(queue, ended, stop.clone()).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(
                        queue = queue.name(),
                        "worker ended: {error:#}; starting it again"
                    );
                    ended.ends(queue, format!("{error:#}"));
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                }
            }
            Metrics::count_kind(&self.metrics.worker_restarts, queue.name());
        }
    }

    async fn once(
        &self,
        queue: Queue,
        ended: &Ended,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let options = ClientOptions::new(self.context.control_namespace.clone()).build();
        let client = Client::new(self.connection.clone(), options)?;
        let wear = Arc::new(Wear::default());
        let counted = Counted {
            wear: wear.clone(),
            metrics: self.metrics.clone(),
        };
        let options = self.options(queue, counted)?;
        let mut worker = Worker::new(&self.runtime, client, options)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let shut_down = worker.shutdown_handle();
        let stopper = tokio::spawn(async move {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = wear.worn() => {
                    tracing::info!(queue = queue.name(), "worker is replaced by a fresh one");
                }
            }
            shut_down();
        });
        ended.polls(queue);
        tracing::info!(queue = queue.name(), "worker polls");
        let result = worker.run().await;
        stopper.abort();
        result.map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn options(&self, queue: Queue, counted: Counted) -> anyhow::Result<WorkerOptions> {
        let tuner = |workflows: usize, activities: usize, local: usize| {
            TunerHolder::builder()
                .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(workflows))
                .activity_task_slot_supplier(FixedSizeSlotSupplier::new(activities))
                .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(local))
                .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
                .build()
        };
        // Unversioned, with patch markers in the code: two neighbouring releases share a queue.
        let builder = WorkerOptions::new(queue.name())
            .graceful_shutdown_period(self.config.shutdown() / 2)
            .activity_inbound_interceptor(counted)
            .register_activities(OperatorActivities::new(self.context.clone()));
        Ok(match queue {
            Queue::Main => builder
                .register_workflow::<ProcessLifecycle>()?
                .register_workflow::<ProcessRollout>()?
                .register_workflow::<ProcessDrain>()?
                .tuner(tuner(AT_WORK, 50, AT_WORK))
                .max_cached_workflows(2_000_usize)
                .sticky_queue_schedule_to_start_timeout(Duration::from_secs(1))
                .workflow_task_poller_behavior(PollerBehavior::SimpleMaximum(8))
                .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(2))
                .build(),
            Queue::Waits => builder
                .tuner(tuner(2, 5_000, 1))
                .max_cached_workflows(0_usize)
                .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(4))
                .build(),
            Queue::Routing => builder
                // Kept by the server, and so for all replicas together.
                .max_task_queue_activities_per_second(f64::from(
                    self.config.routing_changes_per_second,
                ))
                .tuner(tuner(2, CHANGES, 1))
                .max_cached_workflows(0_usize)
                .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(2))
                .build(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_ready_when_the_last_one_polls_again() {
        let readiness = Readiness::new();
        let ended = Ended::new(readiness.clone());
        for queue in [Queue::Main, Queue::Waits, Queue::Routing] {
            ended.polls(queue);
        }
        assert_eq!(readiness.missing(Part::Workers), None);
        ended.ends(Queue::Main, "refused".to_owned());
        ended.ends(Queue::Waits, "refused".to_owned());
        ended.polls(Queue::Main);
        let why = readiness.missing(Part::Workers).unwrap_or_default();
        assert_eq!(why, format!("{QUEUE_WAITS}: refused"));
        ended.polls(Queue::Waits);
        assert_eq!(readiness.missing(Part::Workers), None);
    }
}
