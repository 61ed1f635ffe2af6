//! The watcher: turns changes in Kubernetes into one small signal each, and decides nothing.
//!
//! * [`watch`]: what Kubernetes says.
//! * [`workloads`], [`routing`]: the Deployments and ConfigMaps among it.
//! * [`presence`]: whether Kubernetes says anything at all.
//! * [`again`]: against a watch that does not say everything.
//! * [`registries`], [`turn`]: where definitions are fetched from, and which replica does it.
//! * [`signaler`]: how a signal reaches its lifecycle, also when Temporal is away.
//! * [`sweep`]: what Kubernetes cannot tell.
//! * [`abandoned`]: what a Process leaves that went without the operator.
//! * [`outage`]: what is said while Temporal is away, when no workflow can say it; [`sights`] and
//!   [`lease`]: what is known of that here, and by other replicas.
//! * [`transitions`]: Events about it.
//! * [`refusals`]: watches that the API server refuses.
//! * [`others`]: whether somebody else does the same work.

mod abandoned;
mod again;
mod cron_jobs;
mod definitions;
mod dependencies;
mod deployments;
mod lease;
mod neighbour;
mod others;
mod outage;
mod presence;
mod refusals;
mod registries;
mod routing;
mod sights;
mod signaler;
mod sweep;
mod transitions;
mod turn;
mod watch;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use process_operator_activities::cache::Cache;
use process_operator_activities::registry::Registries;
use process_operator_workflows::contract::ProcessKey;
use temporalio_client::Connection;
use tokio::sync::{Notify, mpsc, watch as channel};
use tokio::task::JoinSet;

pub(crate) use signaler::Signaler;

use crate::config::Config;
use crate::health::Readiness;
use crate::installation::Installation;
use crate::metrics::Metrics;

/// Longest wait for an answer of the API server to anything but a watch.
const ANSWER: Duration = Duration::from_secs(10);

/// Gives a request its time limit: the client itself would wait much longer.
async fn answered<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    tokio::time::timeout(ANSWER, request)
        .await
        .unwrap_or_else(|_| {
            let why = format!("no answer in {} s", ANSWER.as_secs());
            Err(kube::Error::Service(why.into()))
        })
}

/// The way to Temporal, once there is one.
#[derive(Clone)]
pub(crate) struct Link {
    /// Connection to the server.
    pub connection: Connection,
    /// Whether search attributes may be set.
    pub search_attributes: channel::Sender<bool>,
    /// Which installation this replica is of.
    pub installation: Installation,
}

/// What the watcher is made of.
pub(crate) struct Setup {
    /// Arguments.
    pub config: Config,
    /// Kubernetes client.
    pub client: kube::Client,
    /// Filled here, read by activities.
    pub cache: Cache,
    /// Registries that definitions may come from.
    pub registries: Arc<Registries>,
    /// Resolves when Temporal is connected.
    pub connection: channel::Receiver<Option<Link>>,
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Becomes true when the operator is told to stop.
    pub stop: channel::Receiver<bool>,
}

/// What the tasks of the watcher share.
#[derive(Clone)]
struct Shared {
    config: Config,
    client: kube::Client,
    cache: Cache,
    connection: channel::Receiver<Option<Link>>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    signaler: Signaler,
    /// Number of first lists that are complete: before all are, what is not cached may still exist.
    lists: channel::Sender<usize>,
    /// Processes that have gone.
    gone: mpsc::UnboundedSender<ProcessKey>,
    /// Namespace and name of ConfigMaps that a Process has begun or ceased to name.
    definitions: mpsc::UnboundedSender<(String, String)>,
    /// Some Process has depended on something.
    depended: channel::Sender<bool>,
    /// A watch has failed, or something else that the API server is asked for all the time.
    interrupted: Arc<Notify>,
    /// Watches that are refused.
    refusals: refusals::Refusals,
    /// Processes that another operator works on too.
    contested: others::Contested,
    /// Registries that definitions may come from.
    registries: Arc<Registries>,
    /// What the tasks that ask them have to know.
    sources: mpsc::UnboundedSender<registries::News>,
    /// What the ConfigMaps with fetched definitions say.
    kept: registries::Known,
    /// Some Process has named a registry.
    registries_needed: channel::Sender<bool>,
    /// It is this replica that asks them.
    turn: channel::Receiver<bool>,
}

/// Kinds that are followed.
const KINDS: usize = 4;

impl Shared {
    /// Waits until the first lists of all kinds are complete in all watched namespaces. `false`
    /// when the watch has ended before.
    async fn listed(&self) -> bool {
        let mut lists = self.lists.subscribe();
        lists.wait_for(|lists| self.complete(*lists)).await.is_ok()
    }

    /// Whether so many first lists are all of them.
    fn complete(&self, lists: usize) -> bool {
        lists >= KINDS * self.config.watch_namespaces.len().max(1)
    }

    /// Waits for the first connection.
    async fn link(&self) -> Option<Link> {
        let mut connection = self.connection.clone();
        connection.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The running watcher.
pub(crate) struct Watcher {
    tasks: JoinSet<()>,
}

impl Watcher {
    /// Starts all tasks. Each ends when the operator is told to stop.
    pub(crate) fn start(setup: Setup) -> Self {
        let signaler = Signaler::new(
            setup.connection.clone(),
            &setup.config,
            setup.metrics.clone(),
        );
        let (gone, went) = mpsc::unbounded_channel();
        let (definitions, named) = mpsc::unbounded_channel();
        let (sources, asked) = mpsc::unbounded_channel();
        let (holds, turn) = channel::channel(false);
        let shared = Shared {
            config: setup.config,
            client: setup.client,
            cache: setup.cache,
            connection: setup.connection,
            readiness: setup.readiness,
            metrics: setup.metrics,
            signaler,
            lists: channel::channel(0).0,
            gone,
            definitions,
            depended: channel::channel(false).0,
            interrupted: Arc::default(),
            refusals: refusals::Refusals::default(),
            contested: others::Contested::default(),
            registries: setup.registries,
            sources,
            kept: registries::Known::default(),
            registries_needed: channel::channel(false).0,
            turn,
        };
        let mut tasks = JoinSet::new();
        let stop = setup.stop;
        spawn(&mut tasks, &stop, watch::run(shared.clone()));
        spawn(&mut tasks, &stop, sweep::run(shared.clone()));
        spawn(&mut tasks, &stop, abandoned::run(shared.clone(), went));
        spawn(&mut tasks, &stop, dependencies::run(shared.clone()));
        spawn(&mut tasks, &stop, definitions::run(shared.clone(), named));
        spawn(&mut tasks, &stop, registries::run(shared.clone(), asked));
        // It has something to do at the end.
        tasks.spawn(turn::run(shared.clone(), holds, stop.clone()));
        spawn(&mut tasks, &stop, refusals::run(shared.clone()));
        spawn(&mut tasks, &stop, others::run(shared.clone()));
        spawn(&mut tasks, &stop, outage::run(shared));
        Self { tasks }
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

fn spawn(
    tasks: &mut JoinSet<()>,
    stop: &channel::Receiver<bool>,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let mut stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = task => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
}
