//! The Temporal workers: three task queues, one process.

use std::sync::Arc;
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
/// Pause before a worker that ended by itself is started again.
const PAUSE: Duration = Duration::from_secs(2);

/// One of the three task queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        tokio::join!(
            self.keep(Queue::Main, stop.clone()),
            self.keep(Queue::Waits, stop.clone()),
            self.keep(Queue::Routing, stop),
        );
    }

    /// Keeps one worker running; replaces it when it ends or gets old.
    async fn keep(&self, queue: Queue, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.once(queue, stop.clone()).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(
                        queue = queue.name(),
                        "worker ended: {error:#}; starting it again"
                    );
                    self.readiness
                        .down(Part::Workers, format!("{}: {error:#}", queue.name()));
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                }
            }
            Metrics::count_kind(&self.metrics.worker_restarts, queue.name());
        }
    }

    async fn once(&self, queue: Queue, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
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
        if queue == Queue::Main {
            self.readiness.up(Part::Workers);
        }
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
                .tuner(tuner(2, 10, 1))
                .max_cached_workflows(0_usize)
                .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(2))
                .build(),
        })
    }
}
