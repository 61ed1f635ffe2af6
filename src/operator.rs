//! Start-up and stop: what is waited for, what runs beside what.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::config::Kubeconfig;
use kube::{Api, ResourceExt as _};
use process_operator_activities::cache::Cache;
use process_operator_activities::registry::Registries;
use process_operator_activities::{Context, WorkerDefaults};
use temporalio_client::ConnectionOptions;
use temporalio_common::telemetry::metrics::CoreMeter;
use temporalio_common::telemetry::{TelemetryOptions, telemetry_init};
use temporalio_sdk::Runtime;
use temporalio_sdk::runtime::RuntimeOptions;
use tokio::sync::watch;

use crate::certificates::Certificates;
use crate::config::Config;
use crate::health::{Part, Readiness};
use crate::installation::{self, Installation};
use crate::metrics::Metrics;
use crate::queues::Readings;
use crate::sdk_meter::SdkMeter;
use crate::watcher::{self, Watcher};
use crate::workers::Workers;
use crate::{health, queues, temporal};

/// Runs the operator until SIGTERM or SIGINT. Neither Temporal nor the CRD has to be there at the
/// start: what is missing is waited for and shown on `/readyz`.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let config = config.settled(temporal::profile_namespace()?);
    let readiness = Readiness::new();
    let cache = Cache::default();
    let metrics = Metrics::new(&cache, Readings::new(config.queue_metrics_names));
    let (stopping, stop) = watch::channel(false);
    tokio::spawn(async move {
        signalled().await;
        tracing::info!("told to stop");
        stopping.send_replace(true);
    });
    let mut server_stop = stop.clone();
    let server = tokio::spawn(health::serve(
        config.listen,
        readiness.clone(),
        metrics.clone(),
        async move {
            let _ = server_stop.wait_for(|stop| *stop).await;
        },
    ));
    let registries = Arc::new(Registries::new(config.registries())?);
    let mut options = temporal::options(&config)?;
    options.metrics_meter =
        telemetry_init(telemetry(metrics.sdk.for_client()))?.get_temporal_metric_meter();
    // From now on: it is by new ones that a server may be reached at all.
    if let Some(certificates) = Certificates::take(&mut options)? {
        tokio::spawn(certificates.renew(config.clone(), metrics.clone()));
    }
    let (connected, connection) = watch::channel(None);
    let watcher = Watcher::start(watcher::Setup {
        config: config.clone(),
        client: kube_client(&config, &WATCHER).await?,
        cache: cache.clone(),
        registries: registries.clone(),
        connection,
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    });
    let starting = Box::pin(start(
        &config,
        options,
        (cache, registries),
        &connected,
        &readiness,
        metrics,
    ));
    // Until there are workers nothing is under way: told to stop, it need not wait for anything.
    if let Some(workers) = until(&stop, starting).await {
        let workers = workers?;
        let (context, metrics) = (workers.context.clone(), workers.metrics.clone());
        tokio::select! {
            () = queues(&config, context, metrics) => {}
            () = workers.run(stop.clone()) => {}
            () = late(&stop, config.shutdown()) => tracing::warn!("work is still running; leaving it to others"),
        }
    }
    watcher.join().await;
    server.await??;
    tracing::info!("stopped");
    Ok(())
}

/// Looks at task queues for ever, if that is asked for.
async fn queues(config: &Config, context: Arc<Context>, metrics: Arc<Metrics>) {
    match config.queue_looks() {
        Some(every) => queues::run(context, metrics, every).await,
        None => std::future::pending().await,
    }
}

/// Waits for what the workers need, and puts them together.
async fn start(
    config: &Config,
    mut options: ConnectionOptions,
    (cache, registries): (Cache, Arc<Registries>),
    connected: &watch::Sender<Option<watcher::Link>>,
    readiness: &Readiness,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Workers> {
    if config.drain_clock_speed > 1 {
        let speed = config.drain_clock_speed;
        tracing::warn!(
            speed,
            "the clock by which drains wait runs fast: this is for tests"
        );
    }
    let kube = kube_client(config, &ACTIVITIES).await?;
    let worker_address = temporal::worker_address(config, &options);
    let cluster_uid = cluster_uid(&kube, readiness).await;
    let installation = Installation::new(config, &cluster_uid);
    options.identity = installation.identity(config);
    let impatient = temporal::impatient(&options);
    let connection = temporal::connect(config, options, readiness).await;
    let asking = temporal::connect(config, impatient, readiness).await;
    if let Some(file) = config.temporal_api_key_file.clone() {
        let connections = [connection.clone(), asking.clone()];
        tokio::spawn(async move { temporal::renew(&file, &connections).await });
    }
    let own = &config.temporal_namespace;
    installation::alone(&connection, own, &installation, (readiness, &metrics)).await;
    let (registered, search_attributes) = watch::channel(false);
    temporal::register_search_attributes(&connection, &config.temporal_namespace, &registered)
        .await;
    let workers = Workers {
        runtime: Runtime::from_current_tokio(runtime_options(&metrics)?)
            .map_err(|error| anyhow::anyhow!("{error}"))?,
        connection: connection.clone(),
        context: Arc::new(Context::new(
            kube,
            asking,
            config.temporal_namespace.clone(),
            cluster_uid,
            WorkerDefaults {
                temporal_address: worker_address,
            },
            config.drains(),
            config.drain_clock(),
            config.kinds(),
            registries,
            search_attributes,
            cache,
            config.instance.clone(),
            metrics.clone(),
        )),
        config: config.clone(),
        readiness: readiness.clone(),
        metrics,
    };
    connected.send_replace(Some(watcher::Link {
        connection,
        search_attributes: registered,
        installation,
    }));
    Ok(workers)
}

/// What comes of `work`, or `None` when the operator was told to stop before.
async fn until<T>(stop: &watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let mut stop = stop.clone();
    tokio::select! {
        result = work => Some(result),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// Resolves when the time for running work is up.
async fn late(stop: &watch::Receiver<bool>, grace: Duration) {
    let _ = stop.clone().wait_for(|stop| *stop).await;
    tokio::time::sleep(grace).await;
}

/// What a client does when the API server fails or says nothing.
struct Manner {
    /// The client tries again by itself.
    retry: bool,
    /// Longest silence on a connection.
    silence: Duration,
}

/// The API server says something on a watch once a minute, if only how far it is.
const WATCHER: Manner = Manner {
    retry: true,
    silence: Duration::from_secs(90),
};
/// Retries belong to Temporal, which shows them.
const ACTIVITIES: Manner = Manner {
    retry: false,
    silence: Duration::from_secs(30),
};

async fn kube_client(config: &Config, manner: &Manner) -> anyhow::Result<kube::Client> {
    let mut kube_config = match &config.context {
        Some(context) => {
            let options = kube::config::KubeConfigOptions {
                context: Some(context.clone()),
                ..kube::config::KubeConfigOptions::default()
            };
            kube::Config::from_kubeconfig(&options).await?
        }
        None => kube::Config::infer().await?,
    };
    if kube_config.root_cert_file.is_none() {
        kube_config.root_cert_file = authority_file(config.context.as_deref());
    }
    kube_config.default_retry = manner.retry;
    kube_config.connect_timeout = Some(Duration::from_secs(5));
    kube_config.read_timeout = Some(manner.silence);
    // Counted from the request on, not from when the connection was last used.
    kube_config.reset_reader_on_write = true;
    Ok(kube::Client::try_from(kube_config)?)
}

/// The file with the authority of the API server that the kubeconfig names, if it does. It is read again from
/// time to time, as the one of a pod is, so that the authority can be replaced while the operator runs.
fn authority_file(context: Option<&str>) -> Option<PathBuf> {
    let kubeconfig = Kubeconfig::read().ok()?;
    let context = context.or(kubeconfig.current_context.as_deref())?;
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|it| it.name == context)?.context.as_ref()?;
    let mut clusters = kubeconfig.clusters.iter();
    let cluster = clusters.find(|it| it.name == context.cluster)?;
    let cluster = cluster.cluster.as_ref()?;
    if cluster.certificate_authority_data.is_some() {
        return None;
    }
    cluster.certificate_authority.as_ref().map(PathBuf::from)
}

/// uid of `kube-system`: what Kubernetes itself uses as the identity of a cluster.
async fn cluster_uid(client: &kube::Client, readiness: &Readiness) -> String {
    let api: Api<Namespace> = Api::all(client.clone());
    loop {
        match api.get("kube-system").await {
            Ok(namespace) => {
                readiness.up(Part::ApiServer);
                return namespace.uid().unwrap_or_default();
            }
            Err(error) => {
                tracing::warn!("cannot read namespace kube-system: {error:?}; trying again");
                readiness.down(Part::ApiServer, error.to_string());
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

/// The SDK records into the operator's own page. Its logs go where all logs go.
fn telemetry(meter: SdkMeter) -> TelemetryOptions {
    TelemetryOptions::builder()
        .metrics(Arc::new(meter) as Arc<dyn CoreMeter>)
        .build()
}

fn runtime_options(metrics: &Metrics) -> anyhow::Result<RuntimeOptions> {
    RuntimeOptions::builder()
        .telemetry_options(telemetry(metrics.sdk.clone()))
        .build()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    if let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_at_the_start_is_dropped_when_told_to_stop() {
        let (stopping, stop) = watch::channel(false);
        assert_eq!(until(&stop, async { 1 }).await, Some(1));
        stopping.send_replace(true);
        assert_eq!(until(&stop, std::future::pending::<u8>()).await, None);
    }

    #[tokio::test]
    async fn running_work_gets_its_grace_from_the_signal_on() {
        const GRACE: Duration = Duration::from_millis(40);
        let (stopping, stop) = watch::channel(false);
        let unasked = tokio::time::timeout(2 * GRACE, late(&stop, GRACE)).await;
        assert!(unasked.is_err(), "nobody has told it to stop");
        stopping.send_replace(true);
        let asked = std::time::Instant::now();
        late(&stop, GRACE).await;
        assert!(asked.elapsed() >= GRACE);
    }
}
