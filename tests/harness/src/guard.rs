//! Whether versions keep their pods as long as something runs on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::names;
use process_operator_crds::spec::Versioning;

use crate::SOON;
use crate::env::Env;
use crate::temporal::Temporal;
use crate::wait::until;

/// How many workflows held the version when the pod was told to stop; `None` until they are counted.
type Stops = BTreeMap<String, (String, Option<usize>)>;

/// Watches the pods of a Process. When one is told to stop, it counts what runs on its version: nothing may
/// then. A policy or a person may have ended or moved the workflows before.
pub(crate) struct VersionGuard {
    process: String,
    stops: Arc<Mutex<Stops>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for VersionGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What runs on a version: pinned to it, or started on a queue of its own.
fn held(env: &str, process: &str, queue: &str, build_id: &str) -> String {
    let own = names::task_queue(Versioning::TaskQueuePerVersion, queue, build_id);
    format!(
        "(TemporalWorkerDeploymentVersion = '{env}/{process}:{build_id}' AND \
         TemporalWorkflowVersioningBehavior = 'Pinned' OR TaskQueue = '{own}') AND ExecutionStatus = 'Running'"
    )
}

impl VersionGuard {
    fn start(env: &Env, process: &str, queue: &str) -> Self {
        let stops = Arc::<Mutex<Stops>>::default();
        let into = stops.clone();
        let config = watcher::Config::default().labels(&format!("ameide.io/process={process}"));
        let pods = env.api::<Pod>();
        let (temporal, apps) = (env.temporal.clone(), env.apps.clone());
        let (namespace, of) = (env.namespace.clone(), process.to_owned());
        let queue = queue.to_owned();
        let task = tokio::spawn(async move {
            let mut changes =
                std::pin::pin!(watcher(pods, config).default_backoff().touched_objects());
            while let Some(change) = changes.next().await {
                let Ok(pod) = change else { continue };
                let uid = pod.uid().unwrap_or_default();
                if pod.metadata.deletion_timestamp.is_none() || lock(&into).contains_key(&uid) {
                    continue;
                }
                let build_id = pod.labels().get(names::label::BUILD_ID).cloned();
                let build_id = build_id.unwrap_or_default();
                lock(&into).insert(uid.clone(), (build_id.clone(), None));
                let query = held(&namespace, &of, &queue, &build_id);
                let count = counted(temporal.clone(), apps.clone(), query).await;
                lock(&into).insert(uid, (build_id, count));
            }
        });
        Self {
            process: process.to_owned(),
            stops,
            task,
        }
    }

    fn stops(&self) -> Stops {
        lock(&self.stops).clone()
    }
}

/// A server that is just restarted is asked again.
async fn counted(temporal: Temporal, apps: String, query: String) -> Option<usize> {
    let asked = async {
        loop {
            if let Ok(found) = temporal.list(&apps, &query).await {
                break found.len();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked)
        .await
        .ok()
}

impl Env {
    /// From now on no pod of a Process may be told to stop while something runs on its version.
    /// [`Invariants::hold`](crate::Invariants::hold) says whether one was.
    pub fn guard_versions(&self, process: &str) {
        let guard = VersionGuard::start(self, process, &format!("{process}-tq"));
        self.guards().push(guard);
    }

    /// Somebody has said that pods may go while workflows are open.
    pub fn unguard_versions(&self) {
        self.guards().clear();
    }

    fn guards(&self) -> MutexGuard<'_, Vec<VersionGuard>> {
        lock(&self.guards)
    }

    /// No pod was told to stop too early. The build ids of all that were told to, by uid.
    pub(crate) async fn pods_left_alone(&self) -> Result<BTreeMap<String, String>> {
        let stops = until("each pod that stopped is judged", SOON, async || {
            let mut all = Vec::new();
            for guard in self.guards().iter() {
                ensure!(
                    !guard.task.is_finished(),
                    "the watch of {} has ended",
                    guard.process
                );
                for (uid, (build_id, count)) in guard.stops() {
                    let count = count.with_context(|| format!("not yet: one of {build_id}"))?;
                    all.push((uid, build_id, count));
                }
            }
            anyhow::Ok(all)
        })
        .await?;
        let early: Vec<_> = stops.iter().filter(|(_, _, count)| *count > 0).collect();
        ensure!(
            early.is_empty(),
            "pods were told to stop while so many workflows ran on their version: {early:?}"
        );
        Ok(stops
            .into_iter()
            .map(|(uid, build_id, _)| (uid, build_id))
            .collect())
    }

    /// Whether a guard looks after a Process.
    pub(crate) fn is_guarded(&self, process: &str) -> bool {
        self.guards().iter().any(|guard| guard.process == process)
    }
}
