//! What the plan asks the `act` activity to do.

use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use process_operator_crds::conditions::NewCondition;
use serde::{Deserialize, Serialize};

/// One write to Kubernetes. Steps are carried out in order; the first failure ends the list, but for what is
/// no condition of the rest: a CronJob, or an Event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all_fields = "camelCase")]
pub enum Step {
    /// Add our finalizer.
    EnsureFinalizer,
    /// Create the ControllerRevision (when missing) and server-side apply the Deployment.
    ApplyVersion {
        /// The version.
        build_id: String,
        /// Name of its Deployment, and of its ControllerRevision unless `kept_as` says another.
        name: String,
        /// Name of its ControllerRevision, where that is not `name`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept_as: Option<String>,
        /// uid of the Deployment as observed; `None` when it has to be created.
        uid: Option<String>,
        /// Its ControllerRevision was observed.
        revision: bool,
        /// `spec.replicas`.
        replicas: i32,
    },
    /// Delete a version's Deployment and ControllerRevision.
    DeleteVersion {
        /// Name of both.
        name: String,
        /// uid of the Deployment as observed.
        uid: Option<String>,
    },
    /// Server-side apply a CronJob, built from the Current version.
    ApplyCronJob {
        /// Name of the CronJob.
        name: String,
        /// Name in the spec.
        job: String,
        /// uid as observed; `None` when it has to be created.
        uid: Option<String>,
        /// Build id of the Current version.
        current: String,
        /// Name of that version's ControllerRevision.
        kept_as: String,
    },
    /// Delete a CronJob that the spec does not name any more.
    DeleteCronJob {
        /// Name of the CronJob.
        name: String,
        /// uid as observed.
        uid: String,
    },
    /// Make the object that holds the routing again, after it was lost.
    RestoreRouting {
        /// Build id of the Current version.
        current: String,
    },
    /// Restart the pods of a version, as `kubectl rollout restart` does.
    RestartVersion {
        /// Name of its Deployment.
        name: String,
        /// uid of the Deployment as observed.
        uid: String,
        /// Mark of the restart; the same one restarts nothing.
        at: Timestamp,
    },
    /// Publish status, when it differs from what is there.
    PublishStatus {
        /// The complete status.
        status: Box<StatusView>,
    },
    /// Record an Event about the Process. Its name derives from `id`, so a repetition is refused by the API server.
    Event {
        /// Unique per occurrence.
        id: String,
        /// Normal or Warning.
        kind: EventType,
        /// Unique, specific reason.
        reason: String,
        /// What was done or tried.
        action: String,
        /// For people.
        note: String,
        /// The version it is about; empty for none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        build_id: String,
    },
    /// Remove our finalizer; always last.
    RemoveFinalizer,
}

impl Step {
    /// Id of the Event that it records, if it does.
    pub fn event(&self) -> Option<String> {
        match self {
            Self::Event { id, .. } => Some(id.clone()),
            _ => None,
        }
    }
}

/// Type of a Kubernetes Event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// For information.
    #[default]
    Normal,
    /// Something a person may have to act on.
    Warning,
}

/// Why a look or a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepFailure {
    /// Decides retry, condition, Event and metric.
    pub category: ErrorCategory,
    /// For people; names the object and the fix.
    pub message: String,
    /// Whoever refused asked not to be asked again before so many seconds are over (`Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl StepFailure {
    /// A failure of a known category.
    pub fn new(category: ErrorCategory, message: impl Into<String>) -> Self {
        Self {
            category,
            message: message.into(),
            retry_after_seconds: None,
        }
    }
}

/// Outcome of a list of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ActOutcome {
    /// Field-set hash of each Deployment that was applied, by name, and of each CronJob, by `cronjob/`
    /// and its name.
    pub applied: std::collections::BTreeMap<String, String>,
    /// The step that failed, if one did.
    pub failure: Option<StepFailure>,
    /// Mark of the live status after it was published.
    pub status: Option<String>,
    /// The Process changed since it was observed: nothing more was done, look again.
    pub superseded: bool,
    /// What failed and kept nothing else from being done: a CronJob. The status was left to whoever can
    /// put that in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<StepFailure>,
    /// Ids of the Events that were not recorded. `None` from an operator that did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<Vec<String>>,
    /// When its finalizer began to be taken away: not before that it was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub let_go: Option<jiff::Timestamp>,
}

/// Status of the Process, complete but for what needs the live object (transition times).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusView {
    /// The generation acted on.
    pub observed_generation: i64,
    /// All conditions that we own.
    pub conditions: Vec<NewCondition>,
    /// The version that new executions go to.
    pub current: Option<VersionStatus>,
    /// The version that the spec asks for.
    pub target: Option<VersionStatus>,
    /// Versions being retired.
    pub draining: Vec<VersionStatus>,
    /// The queue that starters use.
    pub task_queue: String,
    /// Temporal namespace, id and run id of the lifecycle.
    pub workflow: [String; 3],
    /// The last transitions, oldest first.
    pub history: Vec<super::Transition>,
    /// Pods of the current version, ready or not.
    pub replicas: i32,
    /// Label selector of the current version's pods.
    pub selector: String,
    /// Versions that exist in Kubernetes, those kept for a rollback included.
    pub version_count: i32,
    /// The rollout under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// The definition that was read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<super::DefinitionView>,
    /// The last request by annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request: Option<super::LastRequest>,
}

/// A rollout in status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RolloutView {
    /// What is under way.
    pub stage: String,
    /// The step under way, from 1.
    pub step: i32,
    /// Number of steps.
    pub steps: i32,
    /// Percentage of new executions.
    pub weight: i32,
    /// When the present pause ends.
    pub next_step_time: Option<Timestamp>,
    /// When it began.
    pub started_time: Option<Timestamp>,
    /// When the workers must serve.
    pub deadline: Option<Timestamp>,
    /// For people.
    pub message: String,
}

/// One version in status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VersionStatus {
    /// Build id.
    pub build_id: String,
    /// Image.
    pub image: String,
    /// Deployment.
    pub deployment_name: String,
    /// Wanted pods.
    pub replicas: i32,
    /// Ready pods.
    pub ready_replicas: i32,
    /// Since when it has this role.
    pub since: Option<Timestamp>,
    /// How far its drain has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<super::DrainProgress>,
}
