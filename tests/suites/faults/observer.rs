//! Sees every status that was ever written to a Process, past the proxies, and whether it was true.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::{Process, names};
use process_operator_harness::{Env, condition};
use tokio::task::{JoinHandle, JoinSet};

use crate::pinned::build_id;
use crate::routing::Sampler;

/// What a status says may be untrue for so long before the next status must say so: pods come and go by themselves.
const GRACE: Duration = Duration::from_secs(3);

/// Watches one name until dropped.
pub(crate) struct Observer {
    seen: Arc<Mutex<Vec<(Instant, Process)>>>,
    untrue: Arc<Mutex<Vec<String>>>,
    routing: Sampler,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who looks at the Deployments whenever a status says Ready.
#[derive(Clone)]
struct Verifier {
    name: String,
    processes: Api<Process>,
    deployments: Api<Deployment>,
}

impl Verifier {
    /// What the status of `state` says that is not so, if it still says it after a while.
    async fn untrue(self, state: Process) -> Option<String> {
        let deadline = Instant::now() + GRACE;
        loop {
            let labels = format!("ameide.io/process={}", self.name);
            let params = ListParams::default().labels(&labels);
            let found = self.deployments.list(&params).await.ok()?;
            let why = wrong(&state, &found.items)?;
            let now = self.processes.get_opt(&self.name).await.ok()??;
            if now.resource_version() != state.resource_version() {
                return None;
            }
            if Instant::now() > deadline {
                let version = state.resource_version().unwrap_or_default();
                return Some(format!("I5: Ready at {version}, and {why}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Why a Process that is ready by its status is not: the Deployment of the current version does not have the template that
/// is wanted, or is not rolled out.
fn wrong(state: &Process, deployments: &[Deployment]) -> Option<String> {
    let status = state.status.as_ref()?;
    let fresh = status.observed_generation == state.metadata.generation;
    if !fresh || condition(state, "Ready").0 != "True" {
        return None;
    }
    let Some(current) = status.current_version.as_ref().map(|it| &it.build_id) else {
        return Some("there is no current version".to_owned());
    };
    let Some(of_current) = deployments.iter().find(|it| build_id(it) == current) else {
        return Some(format!("{current} has no Deployment"));
    };
    let spec = of_current.spec.as_ref()?;
    let target = status.target_version.as_ref().map(|it| &it.build_id);
    if target == Some(current) {
        let wanted = names::Version::of(state).ok()?.build_id;
        let pod = spec.template.spec.as_ref()?;
        let image = pod.containers.first()?.image.as_ref();
        if wanted.as_str() != current || image != Some(&state.spec.image) {
            return Some(format!("{current} with {image:?} is not {wanted}"));
        }
        if spec.replicas != Some(state.spec.replicas) {
            return Some(format!("{current} has {:?} pods", spec.replicas));
        }
    }
    let is = of_current.status.clone().unwrap_or_default();
    let rolled_out = is.observed_generation >= of_current.metadata.generation
        && [is.replicas, is.updated_replicas, is.ready_replicas] == [spec.replicas; 3];
    (!rolled_out).then(|| format!("{current} is not rolled out: {is:?}"))
}

impl Observer {
    pub(crate) fn start(env: &Env, name: &str) -> Self {
        let seen: Arc<Mutex<Vec<(Instant, Process)>>> = Arc::default();
        let untrue: Arc<Mutex<Vec<String>>> = Arc::default();
        let verifier = Verifier {
            name: name.to_owned(),
            processes: env.api(),
            deployments: env.api(),
        };
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let changes = watcher(env.api::<Process>(), config)
            .default_backoff()
            .applied_objects();
        let task = tokio::spawn({
            let (seen, untrue) = (Arc::clone(&seen), Arc::clone(&untrue));
            async move {
                let mut changes = pin!(changes);
                let mut looks = JoinSet::new();
                while let Some(change) = changes.next().await {
                    let Ok(process) = change else { continue };
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((Instant::now(), process.clone()));
                    let (verifier, untrue) = (verifier.clone(), Arc::clone(&untrue));
                    looks.spawn(async move {
                        let found = verifier.untrue(process).await;
                        untrue
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .extend(found);
                    });
                    while looks.try_join_next().is_some() {}
                }
            }
        });
        Self {
            seen,
            untrue,
            routing: Sampler::start(env, name),
            task,
        }
    }

    /// All states so far, in order.
    pub(crate) fn states(&self) -> Vec<Process> {
        self.timed().into_iter().map(|(_, state)| state).collect()
    }

    fn timed(&self) -> Vec<(Instant, Process)> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// I5: whenever the status said Ready about the present generation, it was so. For scenarios in which nobody
    /// meddles with Deployments and pods: the operator may be dead when it happens.
    pub(crate) fn was_true(&self) -> Result<()> {
        let untrue = self.untrue.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(untrue.is_empty(), "{}", untrue.join("\n"));
        Ok(())
    }

    /// Whether a condition ever had this status and reason.
    pub(crate) fn said(&self, type_: &str, status: &str, reason: &str) -> bool {
        self.states().iter().any(|process| {
            let (is, why, _) = process_operator_harness::condition(process, type_);
            is == status && why == reason
        })
    }

    /// I6, I5 and the rule of conditions: observedGeneration never decreases and is never ahead,
    /// lastTransitionTime moves exactly when the status flips, and never back.
    pub(crate) fn hold(&self) -> Result<()> {
        let states = self.timed();
        self.routing.hold(&states)?;
        let mut before: BTreeMap<String, Process> = BTreeMap::new();
        for (_, process) in states {
            let uid = process.uid().unwrap_or_default();
            if let Some(before) = before.get(&uid) {
                follows(before, &process)?;
            }
            before.insert(uid, process);
        }
        Ok(())
    }
}

fn follows(before: &Process, after: &Process) -> Result<()> {
    let version = after.resource_version().unwrap_or_default();
    let observed = |process: &Process| {
        process
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
    };
    ensure!(
        observed(before) <= observed(after),
        "I5: observedGeneration went from {:?} to {:?} at {version}",
        observed(before),
        observed(after)
    );
    ensure!(
        observed(after) <= after.metadata.generation,
        "I5: observedGeneration {:?} of generation {:?}",
        observed(after),
        after.metadata.generation
    );
    let conditions = |process: &Process| {
        let status = process.status.clone().unwrap_or_default();
        status
            .conditions
            .into_iter()
            .map(|condition| (condition.type_.clone(), condition))
            .collect::<BTreeMap<_, _>>()
    };
    let old = conditions(before);
    for (type_, new) in conditions(after) {
        let Some(old) = old.get(&type_) else { continue };
        let moved = old.last_transition_time != new.last_transition_time;
        ensure!(
            !moved || old.status != new.status,
            "lastTransitionTime of {type_} moved from {:?} to {:?} while it stayed {} (at {version})",
            old.last_transition_time,
            new.last_transition_time,
            new.status
        );
        ensure!(
            old.last_transition_time.0 <= new.last_transition_time.0,
            "lastTransitionTime of {type_} went back (at {version})"
        );
    }
    Ok(())
}
