//! Sees every status that was ever written to a Process, past the proxies.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::status::VersionStatus;
use process_operator_crds::{Process, names};
use process_operator_harness::{Env, condition};
use tokio::task::JoinHandle;

/// Watches one name until dropped.
pub(crate) struct Observer {
    seen: Arc<Mutex<Vec<Process>>>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    pub(crate) fn start(env: &Env, name: &str) -> Self {
        let seen: Arc<Mutex<Vec<Process>>> = Arc::default();
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let changes = watcher(env.api::<Process>(), config)
            .default_backoff()
            .applied_objects();
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let mut changes = pin!(changes);
                while let Some(change) = changes.next().await {
                    if let Ok(process) = change {
                        seen.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(process);
                    }
                }
            }
        });
        Self { seen, task }
    }

    /// All states so far, in order.
    pub(crate) fn states(&self) -> Vec<Process> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether a condition ever had this status and reason.
    pub(crate) fn said(&self, type_: &str, status: &str, reason: &str) -> bool {
        self.states().iter().any(|process| {
            let (is, why, _) = condition(process, type_);
            is == status && why == reason
        })
    }

    /// I5 and the rule of conditions: observedGeneration never decreases and is never ahead,
    /// lastTransitionTime moves exactly when the status flips, and never back. What is told to be done is done.
    pub(crate) fn hold(&self) -> Result<()> {
        let mut before: BTreeMap<String, Process> = BTreeMap::new();
        for process in self.states() {
            let uid = process.uid().unwrap_or_default();
            is_done_when_told(&process)?;
            if let Some(before) = before.get(&uid)
                && !taken_away(before, &process)
            {
                follows(before, &process)?;
            }
            before.insert(uid, process);
        }
        Ok(())
    }
}

/// Who reads that it is ready, with nothing under way and nothing in the way, takes the spec for carried out.
fn is_done_when_told(process: &Process) -> Result<()> {
    let Some(status) = &process.status else {
        return Ok(());
    };
    let is = |type_: &str, status: &str| condition(process, type_).0 == status;
    let told = status.observed_generation == process.metadata.generation
        && is("Ready", "True")
        && !is("Reconciling", "True")
        && !is("Stalled", "True");
    // A suspended Process is left as it is, and where Temporal does not answer nothing can begin.
    let left =
        condition(process, "Progressing").1 == "Suspended" || is("TemporalReachable", "False");
    if !told || left || edited(process) {
        return Ok(());
    }
    let build = |version: &Option<VersionStatus>| version.as_ref().map(|it| it.build_id.clone());
    let (current, target) = (
        build(&status.current_version),
        build(&status.target_version),
    );
    ensure!(
        current == target,
        "told to be done with {current:?} current and {target:?} wanted (at {})",
        process.resource_version().unwrap_or_default()
    );
    Ok(())
}

/// What it tells of the current version is somebody else's word.
fn edited(process: &Process) -> bool {
    let others = process
        .managed_fields()
        .iter()
        .filter(|entry| entry.manager.as_deref() != Some(names::manager::OPERATOR));
    others
        .filter_map(|entry| entry.fields_v1.as_ref())
        .any(|fields| fields.0.pointer("/f:status/f:currentVersion").is_some())
}

/// Somebody else has removed all that the operator had told.
fn taken_away(before: &Process, after: &Process) -> bool {
    let told = |process: &Process| {
        let status = process.status.as_ref();
        status.is_some_and(|it| it.observed_generation.is_some() || it.workflow.is_some())
    };
    told(before) && !told(after)
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
