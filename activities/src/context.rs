//! What activities need from the process they run in.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ApiResource;
use kube::core::{DynamicObject, PartialObjectMeta};
use process_operator_crds::{Process, names};
use process_operator_workflows::contract::{DrainPolicy, ProcessKey, Settings};
use temporalio_client::Connection;
use tokio::sync::{Semaphore, watch};

use crate::budget::{Budgets, Change, Turn};
use crate::cache::Cache;
use crate::clock::DrainClock;
use crate::dependencies::Kinds;
use crate::error::Fault;
use crate::registry::Registries;
use crate::shared::SharedLook;
use crate::temporal::open::Questions;
use crate::temporal::schedules::Schedules;

/// What every worker is given unless its Process says otherwise.
#[derive(Debug, Clone, Default)]
pub struct WorkerDefaults {
    /// `TEMPORAL_ADDRESS` of workers whose Process names no connection Secret.
    pub temporal_address: String,
}

/// Counts what activities do.
pub trait Meter: Send + Sync {
    /// Something failed, with the metric label of its category.
    fn fault(&self, category: &'static str);
    /// An Event was recorded; one that was there already is not counted again.
    fn event(&self, reason: &str);
    /// A rollout has ended after so many seconds.
    fn rollout(&self, outcome: &'static str, seconds: f64);
}

/// Shared by all activities of one operator process.
pub struct Context {
    /// Kubernetes client without retries of its own: Temporal owns retries and shows them.
    pub kube: kube::Client,
    /// Connection to the Temporal server.
    pub connection: Connection,
    /// Temporal namespace of the operator's own workflows.
    pub control_namespace: String,
    /// uid of the namespace `kube-system`: tells this cluster from others on the same server.
    pub cluster_uid: String,
    /// For the workers.
    pub workers: WorkerDefaults,
    /// How old versions end unless their Process says otherwise.
    pub drains: DrainPolicy,
    /// By which they wait.
    pub(crate) drain_clock: DrainClock,
    /// Kinds of other operators that a Process may depend on.
    pub kinds: Kinds,
    /// Registries that definitions may come from.
    pub registries: Arc<Registries>,
    /// Whether our search attributes are registered.
    pub search_attributes: watch::Receiver<bool>,
    /// What the watcher has seen.
    pub cache: Cache,
    /// Pod name, or host name outside a cluster; goes into Events.
    pub instance: String,
    /// Counts what happens.
    pub meter: Arc<dyn Meter>,
    recent: Mutex<HashMap<String, Recent>>,
    budgets: Budgets,
    namespaces: Mutex<HashMap<String, Arc<NamespaceLook>>>,
    names: Mutex<HashMap<String, Arc<NamesLook>>>,
    schedules: Mutex<HashMap<String, Arc<SharedLook<Arc<Schedules>>>>>,
    questions: Mutex<HashMap<String, Arc<Questions>>>,
    /// For calls that only hasten an answer: a server that is slow because it is busy gets few.
    pub(crate) hints: Semaphore,
}

/// The object of an observation.
pub(crate) struct Recent {
    pub(crate) process: Arc<Process>,
    /// When it was asked for.
    pub(crate) asked_at: Instant,
}

/// Such calls on their way at once.
const HINTS: usize = 4;

/// What is shared of a Kubernetes namespace: its metadata, if it is there.
pub(crate) type NamespaceLook = SharedLook<Option<PartialObjectMeta<Namespace>>>;

/// What is shared of the names of Worker Deployments in a Temporal namespace.
pub(crate) type NamesLook = SharedLook<Arc<BTreeSet<String>>>;

impl Context {
    /// Puts a context together.
    #[allow(clippy::too_many_arguments)] // built once, at start-up
    pub fn new(
        kube: kube::Client,
        connection: Connection,
        control_namespace: String,
        cluster_uid: String,
        workers: WorkerDefaults,
        drains: DrainPolicy,
        drain_clock: DrainClock,
        kinds: Kinds,
        registries: Arc<Registries>,
        search_attributes: watch::Receiver<bool>,
        cache: Cache,
        instance: String,
        meter: Arc<dyn Meter>,
    ) -> Self {
        Self {
            kube,
            connection,
            control_namespace,
            cluster_uid,
            workers,
            drains,
            drain_clock,
            kinds,
            registries,
            search_attributes,
            cache,
            instance,
            meter,
            recent: Mutex::default(),
            budgets: Budgets::default(),
            namespaces: Mutex::default(),
            names: Mutex::default(),
            schedules: Mutex::default(),
            questions: Mutex::default(),
            hints: Semaphore::new(HINTS),
        }
    }

    /// Counts a fault.
    pub(crate) fn count(&self, fault: Fault) -> Fault {
        self.meter.fault(fault.category.metric_label());
        fault
    }

    /// Processes of a namespace, untyped: one that does not fit the present schema can be read,
    /// corrected and deleted too.
    pub(crate) fn processes(&self, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<Process>(&());
        Api::namespaced_with(self.kube.clone(), namespace, &resource)
    }

    /// Identity under which routing of a Process is changed.
    pub fn manager_identity(&self, uid: &str) -> String {
        names::ManagerIdentity::new(&self.cluster_uid, uid).to_string()
    }

    /// Settings that decisions depend on.
    pub fn settings(&self, key: &ProcessKey) -> Settings {
        Settings {
            search_attributes: *self.search_attributes.borrow(),
            scale_down_delay_seconds: self.drains.scale_down_delay_seconds,
            manager_identity: self.manager_identity(&key.uid),
            control_namespace: self.control_namespace.clone(),
            rules: Settings::RULES,
        }
    }

    /// Keeps the object of an observation for the `act` that follows it, in most cases within milliseconds.
    pub(crate) fn remember(&self, recent: Recent) {
        let uid = recent.process.metadata.uid.clone().unwrap_or_default();
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid, recent);
    }

    /// Takes the remembered object; used once, so that memory stays small.
    pub(crate) fn recall(&self, uid: &str) -> Option<Recent> {
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid)
    }

    /// Looks at a Kubernetes namespace.
    pub(crate) fn namespace_look(&self, namespace: &str) -> Arc<NamespaceLook> {
        of(&self.namespaces, namespace)
    }

    /// Looks at which Worker Deployments there are in a Temporal namespace.
    pub(crate) fn names_in(&self, namespace: &str) -> Arc<NamesLook> {
        of(&self.names, namespace)
    }

    /// Looks at the schedules of a Temporal namespace.
    pub(crate) fn schedules_of(&self, namespace: &str) -> Arc<SharedLook<Arc<Schedules>>> {
        of(&self.schedules, namespace)
    }

    /// Questions about what is open in a Temporal namespace.
    pub(crate) fn questions_of(&self, namespace: &str) -> Arc<Questions> {
        of(&self.questions, namespace)
    }

    /// Waits for the turn of a read of Worker Deployments in a Temporal namespace.
    pub async fn read_turn(&self, temporal_namespace: &str) {
        self.budgets.read(temporal_namespace).await;
    }

    /// The same for a read that a wait repeats: many that wait for what does not come must not keep a
    /// change of routing waiting.
    pub(crate) async fn poll_turn(&self, temporal_namespace: &str) {
        self.budgets.poll(temporal_namespace).await;
    }

    /// Waits for the turn of a read of a task queue in a Temporal namespace. The server allows many more of them than of
    /// Worker Deployments.
    pub(crate) async fn queue_turn(&self, temporal_namespace: &str) {
        self.budgets.queue(temporal_namespace).await;
    }

    /// Waits for the turn of something that is done to an execution in a Temporal namespace.
    pub(crate) async fn action_turn(&self, temporal_namespace: &str) {
        self.budgets.action(temporal_namespace).await;
    }

    /// Waits for the turn of a change that counts against what the server allows of them in a Temporal namespace.
    pub(crate) async fn change_turn(&self, temporal_namespace: &str, what_for: Change) -> Turn {
        self.budgets.change(temporal_namespace, what_for).await
    }
}

/// What is shared in one namespace.
fn of<T: Default>(all: &Mutex<HashMap<String, Arc<T>>>, namespace: &str) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(namespace.to_owned()).or_default().clone()
}
