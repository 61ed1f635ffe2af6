//! Connecting, polling and stopping.

use crate::{
    activities::WorkerActivities,
    config::{Behavior, Config},
    health::Health,
    workflows::{Quick, Renews, TimersAndActivity, Verify, WaitForSignal},
};
use anyhow::{Context as _, anyhow};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use temporalio_client::{
    Client, ClientOptions, ConnectionOptions, envconfig::LoadClientConfigProfileOptions,
    grpc::WorkflowService, tonic::IntoRequest,
};
use temporalio_common::{
    protos::temporal::api::{
        enums::v1::TaskQueueType, taskqueue::v1::TaskQueue,
        workflowservice::v1::DescribeTaskQueueRequest,
    },
    telemetry::{PrometheusExporterOptions, TelemetryOptions, start_prometheus_metric_exporter},
    worker::{VersioningBehavior, WorkerDeploymentOptions, WorkerDeploymentVersion},
};
use temporalio_sdk::{
    Runtime, Worker, WorkerOptions,
    runtime::{
        PollerBehavior, RuntimeOptions,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder},
    },
};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

/// Activities in flight get this long to end after the worker was told to stop; then they are
/// cancelled and retried elsewhere.
pub const GRACE: Duration = Duration::from_secs(10);

/// When the worker gives up waiting for itself to stop. Below the 30 s after which Kubernetes
/// kills, so that there is still a log line about it.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Without this a connection attempt to an address that swallows packets would last for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to look for ourselves among the task queue's pollers before believing it anyway.
const POLLING_LIMIT: Duration = Duration::from_secs(10);

const TLS_FILES: [&str; 3] = [
    "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
];

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(5);

// Small numbers: the pod should fit into 64 MiB, and its workflows are tiny.
const CACHED_WORKFLOWS: usize = 100;
const WORKFLOW_SLOTS: usize = 20;
const LOCAL_ACTIVITY_SLOTS: usize = 20;
/// The client library's minimum with a workflow cache.
const WORKFLOW_POLLERS: usize = 2;
const ACTIVITY_POLLERS: usize = 2;

/// Says when to stop; clones hear the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A stop that the sender gives by sending `true`, or by going away.
    #[must_use]
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Returns when it is time to stop.
    pub async fn requested(&self) {
        // An error means that nobody can tell us any more; that, too, is the end.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}

/// Reads how to reach Temporal: address, namespace, TLS and API key, from the environment in the
/// way all Temporal clients do.
pub fn connection_options(config: &Config) -> anyhow::Result<(ConnectionOptions, ClientOptions)> {
    // The client library says only that some file is not there.
    for name in TLS_FILES {
        if let Ok(path) = std::env::var(name) {
            std::fs::read(&path).with_context(|| format!("{name}: {path} cannot be read"))?;
        }
    }
    let (mut connection, client) =
        ClientOptions::load_from_config(LoadClientConfigProfileOptions::default())
            // This error type cannot be sent between threads.
            .map_err(|error| anyhow!("the Temporal connection settings are wrong: {error}"))?;
    connection.identity = config.identity();
    connection.connect_timeout = Some(CONNECT_TIMEOUT);
    Ok((connection, client))
}

/// Works until told to stop. Temporal being away is no reason to end: this tries again for ever.
pub async fn serve(config: &Config, health: &Health, stop: &Stop) -> anyhow::Result<()> {
    let runtime = runtime(config)?;
    let mut retry_in = FIRST_RETRY;
    loop {
        let began = Instant::now();
        let Err(problem) = work(&runtime, config, health, stop).await else {
            return Ok(());
        };
        health.set_ready(false);
        if began.elapsed() > LAST_RETRY * 2 {
            retry_in = FIRST_RETRY; // It did work for a while.
        }
        warn!(
            address = config.address,
            namespace = config.namespace,
            retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or_default(),
            error = format!("{problem:#}"),
            "no work from Temporal, trying again"
        );
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = stop.requested() => return Ok(()),
        }
        retry_in = (retry_in * 2).min(LAST_RETRY);
    }
}

fn runtime(config: &Config) -> anyhow::Result<Runtime> {
    let mut telemetry = TelemetryOptions::builder().build();
    if let Some(port) = config.metrics_port {
        let exporter = PrometheusExporterOptions::builder()
            .socket_addr(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            .global_tags(config.metric_labels().into_iter().collect())
            .counters_total_suffix(true)
            .unit_suffix(true)
            .use_seconds_for_durations(true)
            .build();
        let server = start_prometheus_metric_exporter(exporter)
            .with_context(|| format!("metrics cannot be served on port {port}"))?;
        info!(address = %server.bound_addr, "serving /metrics");
        telemetry.metrics = Some(server.meter);
    }
    let options = RuntimeOptions::builder()
        .telemetry_options(telemetry)
        .build()
        .map_err(|error| anyhow!(error))?;
    Ok(Runtime::from_current_tokio(options)?)
}

/// One connection's life. `Ok` means that the worker was stopped on request.
async fn work(
    runtime: &Runtime,
    config: &Config,
    health: &Health,
    stop: &Stop,
) -> anyhow::Result<()> {
    // Read anew for each attempt: mounted certificates may have been renewed.
    let (connection, client) = connection_options(config)?;
    let client = tokio::select! {
        client = Client::connect(connection, client) => client?,
        () = stop.requested() => return Ok(()),
    };
    info!(address = config.address, "connected to Temporal");

    let mut worker = Worker::new(runtime, client.clone(), worker_options(config)?)?;
    let shut_down = worker.shutdown_handle();
    let run = worker.run();
    tokio::pin!(run);
    let announce = async {
        wait_until_polling(client, config).await;
        health.set_ready(true);
        info!(task_queue = config.task_queue, "polling");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = &mut run => {
            result?;
            return Err(anyhow!("the worker ended without being asked to"));
        }
        () = announce => {}
        () = stop.requested() => {}
    }

    health.set_ready(false);
    info!(
        "stopping: no new work, {} s for work in flight",
        GRACE.as_secs()
    );
    shut_down();
    match tokio::time::timeout(STOP_LIMIT, run).await {
        Ok(Ok(())) => info!("stopped"),
        Ok(Err(problem)) => warn!(error = %problem, "stopped with an error"),
        Err(_) => error!("not stopped after {} s, leaving", STOP_LIMIT.as_secs()),
    }
    Ok(())
}

fn worker_options(config: &Config) -> anyhow::Result<WorkerOptions> {
    let tuner = TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(WORKFLOW_SLOTS))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(config.max_activities))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(LOCAL_ACTIVITY_SLOTS))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    let for_factory = config.clone();
    Ok(WorkerOptions::new(config.task_queue.clone())
        .register_activities(WorkerActivities::new(config))
        .register_workflow::<Quick>()?
        .register_workflow::<Renews>()?
        .register_workflow::<TimersAndActivity>()?
        .register_workflow::<Verify>()?
        .register_workflow_with_factory::<WaitForSignal, _>(move || {
            WaitForSignal::new(&for_factory)
        })?
        .maybe_deployment_options(deployment_options(config))
        .max_cached_workflows(CACHED_WORKFLOWS)
        .tuner(tuner)
        .workflow_task_poller_behavior(PollerBehavior::SimpleMaximum(WORKFLOW_POLLERS))
        .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(
            ACTIVITY_POLLERS.min(config.max_activities),
        ))
        .graceful_shutdown_period(GRACE)
        .build())
}

// ANCHOR: versioning
/// None leaves the client library's default: unversioned, with a checksum of the program as build
/// id, as any worker that was written without versioning in mind.
fn deployment_options(config: &Config) -> Option<WorkerDeploymentOptions> {
    if let Some(version) = config.version() {
        let behavior = match version.behavior {
            Behavior::Pinned => VersioningBehavior::Pinned,
            Behavior::AutoUpgrade => VersioningBehavior::AutoUpgrade,
        };
        let version = WorkerDeploymentVersion::builder()
            .deployment_name(version.deployment_name)
            .build_id(version.build_id)
            .build();
        return Some(
            WorkerDeploymentOptions::new(version)
                .use_worker_versioning(true)
                .default_versioning_behavior(behavior)
                .build(),
        );
    }
    let named = !config.build_id.is_empty() && !config.faults.ignore_versioning;
    named.then(|| WorkerDeploymentOptions::from_build_id(config.build_id.clone()))
}
// ANCHOR_END: versioning

/// Returns when Temporal sees this process among the task queue's pollers.
///
/// The client library does not say when its first poll is out, and a pod that is ready before it
/// polls would make a rollout look further than it is.
async fn wait_until_polling(mut client: Client, config: &Config) {
    let identity = config.identity();
    let look = async {
        loop {
            let request = DescribeTaskQueueRequest {
                namespace: config.namespace.clone(),
                task_queue: Some(TaskQueue {
                    name: config.task_queue.clone(),
                    ..Default::default()
                }),
                task_queue_type: TaskQueueType::Workflow.into(),
                ..Default::default()
            };
            match client.describe_task_queue(request.into_request()).await {
                Ok(answer) => {
                    let pollers = answer.into_inner().pollers;
                    if pollers.iter().any(|poller| poller.identity == identity) {
                        return;
                    }
                }
                Err(status) => debug!(error = %status, "the task queue's pollers are not known"),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    if tokio::time::timeout(POLLING_LIMIT, look).await.is_err() {
        // Not allowed to look, or a task queue so wide that our poll is not listed: polling is
        // what the worker does once it is connected, so call it that.
        warn!("this worker is not among the task queue's pollers yet");
    }
}
