//! What is seen, remembered and told of a deletion.

use jiff::Timestamp;
use process_operator_crds::spec::Deletion;
use serde::{Deserialize, Serialize};

use super::rollout::is_default;
use super::{ProcessKey, StepFailure};

/// What of a Process that is being deleted decides how it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeletionView {
    /// `metadata.deletionTimestamp`: what the deadline is counted from, whoever is there to see it.
    pub since: Timestamp,
    /// `spec.deletion`.
    pub policy: Deletion,
    /// Its Kubernetes namespace is on its way out: pods go whatever we do, and nothing can be made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub namespace_terminating: bool,
    /// Deleted with `--cascade=orphan`: everything is left as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub orphan: bool,
    /// The annotation `ameide.io/force-finalize` lets it go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// Where a deletion stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionStage {
    /// Schedules are paused, running workflows are waited for.
    #[default]
    Waiting,
    /// What is open has been asked to cancel.
    Cancelling,
    /// What is open is terminated.
    Terminating,
    /// Nothing holds the Process any more.
    Leaving,
}

/// How a deletion ends what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
pub enum CloseBy {
    /// Ask it to cancel.
    #[strum(to_string = "cancel")]
    Cancel,
    /// Terminate it.
    #[strum(to_string = "terminate")]
    Terminate,
}

/// Memory of a deletion. Lost with the lifecycle, it is rebuilt from the Process, but for when
/// cancelling began: that begins again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeletionState {
    /// Where it stands.
    pub stage: DeletionStage,
    /// When the deletion was first seen. `None` from an operator that did not keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// When this stage began.
    pub entered: Timestamp,
    /// How far the stage has come, as far as it has told.
    pub progress: DeletionProgress,
    /// The progress that history and Events have told.
    pub noted: DeletionProgress,
    /// How the stage ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<CloseRunsOutcome>,
    /// How often in succession its work has failed.
    #[serde(skip_serializing_if = "is_default")]
    pub failed: u32,
    /// Why nothing holds it any more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Everything is left as it is, records and routing too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub untouched: bool,
    /// What records are cleaned by, once the Process is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<LateStarts>,
}

/// How far a deletion has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeletionProgress {
    /// The stage it is about; a report of an earlier one is late.
    pub stage: DeletionStage,
    /// Workflows that are open; `None` before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// Those of them that were started after the deletion began. Runs in which older ones have gone on are
    /// among them: the server's index does not tell them apart.
    #[serde(skip_serializing_if = "is_default")]
    pub late: u64,
    /// When the oldest of them was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// Ids of some of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<String>,
    /// How many were asked to cancel, or terminated.
    #[serde(skip_serializing_if = "is_default")]
    pub acted: u64,
    /// Schedules that were paused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paused: Vec<String>,
    /// What does not work at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<StepFailure>,
}

/// Visibility query for everything that is open on some queues or on versions of some Worker Deployments,
/// whatever its versioning behaviour. No name of either can have a quote.
pub fn open_on(queues: &[&str], deployments: &[&str]) -> String {
    let quoted = |names: &[&str]| {
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        quoted.join(", ")
    };
    format!(
        "(TaskQueue IN ({}) OR TemporalWorkerDeployment IN ({})) AND ExecutionStatus = 'Running'",
        quoted(queues),
        quoted(deployments)
    )
}

/// Input of [`super::CloseRuns`]. While it stays the same, the activity goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CloseRunsInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// Their task queue.
    pub task_queue: String,
    /// Queues of its versions, where each has its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// When the deletion began, in whole seconds as Kubernetes tells it.
    pub since: Timestamp,
    /// When the deletion was first seen. `None` from an operator that did not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// Schedules that start workflows on the queue are paused first.
    pub pause_schedules: bool,
    /// The stage it carries out.
    pub stage: DeletionStage,
    /// How what is open is ended. `None`: it is only waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<CloseBy>,
    /// When it gives up. `None`: not before nothing is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Outcome of [`super::CloseRuns`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CloseRunsOutcome {
    /// What was seen last.
    pub progress: DeletionProgress,
    /// Nothing is open, or nothing can be: the Temporal namespace is gone.
    pub closed: bool,
    /// The Temporal namespace does not exist.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub namespace_gone: bool,
    /// Somebody else manages the Worker Deployment: what is open is not ours to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// Workflows that were started while the Process went: too late for its workers, too early for a
/// successor's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LateStarts {
    /// The task queue.
    pub task_queue: String,
    /// Queues of its versions, where each has its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// Those started until then: when its finalizer began to be taken away, or was about to.
    pub until: Timestamp,
    /// They are terminated; otherwise they are left and counted.
    pub terminate: bool,
}
