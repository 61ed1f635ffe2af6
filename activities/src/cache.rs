//! What the watcher has seen, in a few words per object.
//!
//! Activities use it to wait for a change and to know about neighbours; decisions about an object
//! itself always rest on a fresh read.

mod seen;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use process_operator_crds::names::ProcessKey;
use tokio::sync::watch;

pub use crate::newcomers::Newcomers;
pub use seen::{Draining, Job, Neighbour, Unreachable, Workload};

#[derive(Debug, Default)]
struct Inner {
    workloads: BTreeMap<(String, String), Workload>,
    jobs: BTreeMap<(String, String), Job>,
    /// Marks of the ConfigMaps that hold a routing, by namespace and Process.
    routes: BTreeMap<(String, String), String>,
    processes: HashMap<String, Neighbour>,
    own_writes: HashMap<String, (i64, String)>,
    leaving: HashMap<String, Instant>,
    /// Marks of what was published last, by uid of the Process.
    published: HashMap<String, String>,
    /// Names of Worker Deployments, by Temporal namespace, and when they were listed.
    worker_deployments: HashMap<String, (Instant, Arc<BTreeSet<String>>)>,
}

/// How long a deletion of ours is expected to take; one by hand later on is not taken for it.
const LEAVING: Duration = Duration::from_secs(30);

/// For how long a list of Worker Deployments tells what may be begun with: two sweeps at their usual pace.
const LISTED: Duration = Duration::from_secs(120);

/// Shared between the watcher (writes) and the activities (read).
#[derive(Debug, Clone)]
pub struct Cache {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
    /// Processes whose first Deployment is on its way.
    pub newcomers: Arc<Newcomers>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            changed: watch::channel(0).0,
            newcomers: Arc::default(),
        }
    }
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves plain data behind, never a half-made invariant.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver that is told of every change of a workload.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Stores a workload; returns the previous one.
    pub fn put_workload(&self, workload: Workload) -> Option<Workload> {
        let key = (workload.namespace.clone(), workload.name.clone());
        let previous = self.lock().workloads.insert(key, workload);
        self.changed.send_modify(|version| *version += 1);
        previous
    }

    /// Forgets a workload.
    pub fn remove_workload(&self, namespace: &str, name: &str) -> Option<Workload> {
        let mut inner = self.lock();
        let removed = inner
            .workloads
            .remove(&(namespace.to_owned(), name.to_owned()));
        if let Some(removed) = &removed {
            inner.own_writes.remove(&removed.uid);
            inner.leaving.remove(&removed.uid);
        }
        drop(inner);
        self.changed.send_modify(|version| *version += 1);
        removed
    }

    /// One workload.
    pub fn workload(&self, namespace: &str, name: &str) -> Option<Workload> {
        self.lock()
            .workloads
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Stores a CronJob; returns the previous one.
    pub fn put_job(&self, job: Job) -> Option<Job> {
        let key = (job.namespace.clone(), job.name.clone());
        self.lock().jobs.insert(key, job)
    }

    /// One CronJob.
    pub fn job(&self, namespace: &str, name: &str) -> Option<Job> {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().jobs.get(&key).cloned()
    }

    /// Forgets a CronJob.
    pub fn remove_job(&self, namespace: &str, name: &str) -> Option<Job> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut inner = self.lock();
        let removed = inner.jobs.remove(&key)?;
        inner.own_writes.remove(&removed.uid);
        inner.leaving.remove(&removed.uid);
        Some(removed)
    }

    /// All CronJobs of a Process, by its uid.
    pub fn jobs_of(&self, namespace: &str, uid: &str) -> Vec<Job> {
        self.lock()
            .jobs
            .range((namespace.to_owned(), String::new())..)
            .take_while(|((found, _), _)| found == namespace)
            .map(|(_, job)| job)
            .filter(|job| job.owner_uid == uid)
            .cloned()
            .collect()
    }

    /// Namespace and name of all CronJobs.
    pub fn all_jobs(&self) -> Vec<(String, String)> {
        self.lock().jobs.keys().cloned().collect()
    }

    /// Stores the mark of a Process's routing; returns the previous one.
    pub fn put_route(&self, namespace: &str, process: &str, mark: String) -> Option<String> {
        let key = (namespace.to_owned(), process.to_owned());
        self.lock().routes.insert(key, mark)
    }

    /// Forgets a Process's routing.
    pub fn remove_route(&self, namespace: &str, process: &str) -> Option<String> {
        let key = (namespace.to_owned(), process.to_owned());
        self.lock().routes.remove(&key)
    }

    /// The mark of a Process's routing, where a ConfigMap holds it.
    pub fn route(&self, namespace: &str, process: &str) -> Option<String> {
        let key = (namespace.to_owned(), process.to_owned());
        self.lock().routes.get(&key).cloned()
    }

    /// Namespace and Process of all routings.
    pub fn all_routes(&self) -> Vec<(String, String)> {
        self.lock().routes.keys().cloned().collect()
    }

    /// All workloads of a Process, by its uid.
    pub fn workloads_of(&self, namespace: &str, process: &str, uid: &str) -> Vec<Workload> {
        self.lock()
            .workloads
            .range((namespace.to_owned(), String::new())..)
            .take_while(|((found, _), _)| found == namespace)
            .map(|(_, workload)| workload)
            .filter(|workload| workload.process == process && workload.owner_uid == uid)
            .cloned()
            .collect()
    }

    /// All workloads.
    pub fn all_workloads(&self) -> Vec<Workload> {
        self.lock().workloads.values().cloned().collect()
    }

    /// Remembers what our own apply brought an object to, so that the watcher need not report it
    /// back to us. An optimisation: a needless signal is harmless.
    pub fn expect(&self, uid: &str, generation: i64, fields: &str) {
        self.lock()
            .own_writes
            .insert(uid.to_owned(), (generation, fields.to_owned()));
    }

    /// Whether this state is our own write.
    pub fn expected(&self, uid: &str, generation: i64, fields: &str) -> bool {
        self.lock()
            .own_writes
            .get(uid)
            .is_some_and(|(written, owned)| *written == generation && *owned == fields)
    }

    /// Remembers that we are about to delete an object.
    pub fn expect_gone(&self, uid: &str) {
        self.lock().leaving.insert(uid.to_owned(), Instant::now());
    }

    /// Whether an object goes by our own hand.
    pub fn leaves(&self, uid: &str) -> bool {
        self.lock()
            .leaving
            .get(uid)
            .is_some_and(|at| at.elapsed() < LEAVING)
    }

    /// Stores a Process; returns the previous one.
    pub fn put_process(&self, mut process: Neighbour) -> Option<Neighbour> {
        let mut inner = self.lock();
        if let Some(before) = inner.processes.get(&process.uid) {
            process.authorship = process.authorship.after(&before.authorship);
        }
        inner.processes.insert(process.uid.clone(), process)
    }

    /// Remembers the mark of a status that this replica has published.
    pub(crate) fn published(&self, uid: &str, mark: String) {
        self.lock().published.insert(uid.to_owned(), mark);
    }

    /// Mark of what others have put into the operator's part of a status; `None` when nobody has.
    pub fn foreign_status(&self, uid: &str) -> Option<String> {
        let inner = self.lock();
        let authorship = &inner.processes.get(uid)?.authorship;
        authorship.foreign(inner.published.get(uid))
    }

    /// Forgets a Process.
    pub fn remove_process(&self, uid: &str) -> Option<Neighbour> {
        let mut inner = self.lock();
        inner.published.remove(uid);
        inner.processes.remove(uid)
    }

    /// A Process by uid.
    pub fn process(&self, uid: &str) -> Option<Neighbour> {
        self.lock().processes.get(uid).cloned()
    }

    /// A Process by name.
    pub fn process_named(&self, namespace: &str, name: &str) -> Option<Neighbour> {
        self.lock()
            .processes
            .values()
            .find(|process| process.namespace == namespace && process.name == name)
            .cloned()
    }

    /// All Processes.
    pub fn processes(&self) -> Vec<Neighbour> {
        self.lock().processes.values().cloned().collect()
    }

    /// Temporal namespaces that Processes name.
    pub fn temporal_namespaces(&self) -> BTreeSet<String> {
        let inner = self.lock();
        let all = inner.processes.values();
        let named = all.map(|process| &process.temporal_namespace);
        named.filter(|name| !name.is_empty()).cloned().collect()
    }

    /// How many Processes there are.
    pub fn process_count(&self) -> usize {
        self.lock().processes.len()
    }

    /// Whether something of another Process of this name is there: its object, or Deployments made for it.
    pub(crate) fn has_predecessor(&self, key: &ProcessKey) -> bool {
        let inner = self.lock();
        let of_that_name = |process: &Neighbour| {
            process.namespace == key.namespace && process.name == key.name && process.uid != key.uid
        };
        let workloads = inner
            .workloads
            .range((key.namespace.clone(), String::new())..)
            .take_while(|((found, _), _)| *found == key.namespace);
        inner.processes.values().any(of_that_name)
            || workloads.into_iter().any(|(_, it)| it.process == key.name)
    }

    /// Remembers which Worker Deployments there are in a Temporal namespace.
    pub fn put_worker_deployments(
        &self,
        namespace: &str,
        names: BTreeSet<String>,
    ) -> Arc<BTreeSet<String>> {
        let names = Arc::new(names);
        let listed = (Instant::now(), names.clone());
        self.lock()
            .worker_deployments
            .insert(namespace.to_owned(), listed);
        names
    }

    /// Forgets that there is a Temporal namespace.
    pub fn remove_worker_deployments(&self, namespace: &str) {
        self.lock().worker_deployments.remove(namespace);
    }

    /// Which Worker Deployments there were in a Temporal namespace, if that is known of a short while ago.
    pub(crate) fn worker_deployments(&self, namespace: &str) -> Option<Arc<BTreeSet<String>>> {
        let mut inner = self.lock();
        inner
            .worker_deployments
            .retain(|_, (at, _)| at.elapsed() < LISTED);
        let (_, names) = inner.worker_deployments.get(namespace)?;
        Some(names.clone())
    }

    /// All Processes on one queue, but for one uid.
    pub fn on_queue(
        &self,
        temporal_namespace: &str,
        task_queue: &str,
        but: &str,
    ) -> Vec<Neighbour> {
        self.lock()
            .processes
            .values()
            .filter(|process| {
                process.uid != but
                    && process.task_queue == task_queue
                    && process.temporal_namespace == temporal_namespace
            })
            .cloned()
            .collect()
    }
}
