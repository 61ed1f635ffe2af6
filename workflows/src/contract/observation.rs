//! What one look at the world gives the plan.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use process_operator_crds::spec::Versioning;

use super::{ProcessKey, Settings, StepFailure};

/// One consistent look at Kubernetes and Temporal, taken by the `observe` activity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Observation {
    /// The Process; `None` when it is gone or was re-created with another uid.
    pub process: Option<ProcessView>,
    /// Why the stored object cannot be read as a `Process` (it slipped past an older schema).
    pub invalid: Option<String>,
    /// Versions known to Kubernetes (a Deployment or a ControllerRevision), by build id.
    pub versions: BTreeMap<String, VersionView>,
    /// Mark of the live status; compared with the one left by our last publication.
    pub status: String,
    /// What Temporal says about the Worker Deployment.
    pub routing: Routing,
    /// Deployments of ours that no version has a place for, with their uids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub strays: BTreeMap<String, String>,
    /// CronJobs that are wanted or there, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cron_jobs: BTreeMap<String, CronJobView>,
    /// `<namespace>/<name>` of an older Process that owns the task queue.
    pub queue_holder: Option<String>,
    /// The operator's settings that decisions depend on; recorded so that decisions replay.
    pub settings: Settings,
    /// Ids of open children, asked for only when a lifecycle starts with an empty memory.
    pub children: Vec<String>,
    /// `status.history` as published, and by which run; read only when a lifecycle starts with an
    /// empty memory.
    pub history: (String, Vec<super::Transition>),
    /// `status.lastRequest` as published; read only when a lifecycle starts with an empty memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request: Option<super::LastRequest>,
    /// What was decided about versions, as the status tells it; read only when a lifecycle starts with
    /// an empty memory, which would otherwise try again what was given up.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub decided: Decided,
    /// Of a new Process, as the watch has shown it: neither Kubernetes nor Temporal was asked, and only its Deployment
    /// can be decided on.
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub first: bool,
    /// The look failed; nothing else in here can be relied on.
    pub failure: Option<StepFailure>,
}

/// What stays decided until the spec changes or somebody asks for something else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Decided {
    /// The version that was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<super::FailedVersion>,
    /// The version that was brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone: Option<super::Undone>,
}

/// The parts of a Process that decisions depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each mirrors one independent fact of the object"
)]
pub struct ProcessView {
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// How it is being deleted. `None` when it is not, when it cannot be read, or from an operator
    /// that waited for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<super::DeletionView>,
    /// Our finalizer is present.
    pub finalizer: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// `spec.replicas`, per live version.
    pub replicas: i32,
    /// `spec.image`.
    pub image: String,
    /// The definition that the workers are to read. `None` when the spec names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<DefinitionView>,
    /// Domains and Agents that must be there. `None` when the spec names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<DependenciesView>,
    /// The image is named by a tag that is expected to move.
    pub tag_may_move: bool,
    /// `spec.temporal.namespace`.
    pub temporal_namespace: String,
    /// `spec.temporal.taskQueue`.
    pub task_queue: String,
    /// Build id that the spec asks for.
    pub build_id: String,
    /// Name of the Deployment of that build id.
    pub deployment_name: String,
    /// `spec.rollout.versioning`.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
    /// `spec.rollout.progressDeadlineSeconds`.
    pub progress_deadline_seconds: i64,
    /// The rest of `spec.rollout`.
    pub policy: super::RolloutPolicy,
    /// `spec.rollout.paused`.
    pub paused: bool,
    /// `spec.rollout.revisionHistoryLimit`.
    pub revision_history_limit: Option<i32>,
    /// `spec.drain`, with the operator's defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<super::DrainPolicy>,
    /// The annotation `ameide.io/request`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<super::Annotation>,
    /// Fingerprint of that annotation; empty without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_mark: String,
}

/// How the executions of one version are told from those of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeptApart {
    /// By what.
    #[serde(skip_serializing_if = "Versioning::is_default")]
    pub versioning: Versioning,
    /// Task queue of the Process; read only where versions have queues of their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task_queue: String,
}

impl KeptApart {
    /// By Temporal, which payloads leave out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// For a Process.
    pub fn of(process: &ProcessView) -> Self {
        if process.versioning.is_default() {
            return Self::default();
        }
        Self {
            versioning: process.versioning,
            task_queue: process.task_queue.clone(),
        }
    }

    /// Visibility query for the running executions that hold a version: Pinned ones, since others move
    /// on by themselves; or those on its queue.
    pub fn holding(&self, key: &ProcessKey, build_id: &str) -> String {
        if !self.is_default() {
            let queue = self.queue(build_id);
            return format!("TaskQueue = '{queue}' AND ExecutionStatus = 'Running'");
        }
        format!(
            "TemporalWorkerDeploymentVersion = '{}:{build_id}' \
             AND TemporalWorkflowVersioningBehavior = 'Pinned' AND ExecutionStatus = 'Running'",
            key.worker_deployment()
        )
    }

    /// The queue of a version.
    pub fn queue(&self, build_id: &str) -> String {
        process_operator_crds::names::task_queue(self.versioning, &self.task_queue, build_id)
    }
}

/// Objects of other operators that must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DependenciesView {
    /// How many are named.
    pub named: u32,
    /// What is wrong with those that are not there or not Ready, in words.
    pub lacking: Vec<String>,
}

/// Why a definition is not known, or not known to be the present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionFailure {
    /// Goes into the conditions.
    pub reason: process_operator_crds::Reason,
    /// For people; names the field or flag, and the fix.
    #[serde(default)]
    pub message: String,
}

/// A definition in a ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefinitionView {
    /// Name of the ConfigMap.
    pub config_map: String,
    /// Checksum of its content; empty when it is not there.
    pub checksum: String,
    /// Its version, if it says a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Why what it says of its version is none, in words; empty when there is nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unversioned: String,
    /// Why it may not be read; empty when it may.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// What is wrong with the registry that it comes from. Without a checksum there is nothing to use;
    /// otherwise what was fetched before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<DefinitionFailure>,
}

impl DefinitionView {
    /// Whether the ConfigMap is there.
    pub fn found(&self) -> bool {
        !self.checksum.is_empty()
    }
}

/// One version as Kubernetes knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VersionView {
    /// Name of its ControllerRevision, and of its Deployment unless [`Self::workload`] says another.
    pub name: String,
    /// Name of its Deployment, where that is not [`Self::name`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Image of its worker container.
    pub image: String,
    /// Its ControllerRevision exists, so that its Deployment can be re-made.
    pub revision: bool,
    /// Its copy of the definition is lost, and can be made again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub definition_lost: bool,
    /// Hash of the Deployment that should be there; compared with [`DeploymentView::applied`].
    pub desired: String,
    /// When it was last current, if it is retired and kept for a rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired: Option<Timestamp>,
    /// Its Deployment, if there is one.
    pub deployment: Option<DeploymentView>,
    /// The Process is being deleted, its Deployment has no pods, and something is open that needs them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub needed: bool,
}

impl VersionView {
    /// Name of its Deployment.
    pub fn deployment_name(&self) -> &str {
        self.workload.as_deref().unwrap_or(&self.name)
    }
}

/// A CronJob of the Process: wanted, there, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CronJobView {
    /// Its name in the spec; empty when the spec does not have it.
    pub job: String,
    /// Hash of the CronJob that should be there; empty as long as there is no version to build it from.
    pub desired: String,
    /// `metadata.uid`, if it is there.
    pub uid: Option<String>,
    /// `metadata.generation`.
    pub generation: i64,
    /// It is being deleted.
    pub deleting: bool,
    /// Hash written at the last apply (an annotation).
    pub applied: String,
    /// Hash over the set of fields that we own.
    pub fields: String,
}

/// An owned Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each mirrors one independent fact of the object"
)]
pub struct DeploymentView {
    /// `metadata.uid`; fences writes.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Its controller is not this Process: never touched.
    pub foreign: bool,
    /// Made for this Process, but without an owner: Kubernetes has orphaned it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub orphaned: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `status.readyReplicas`.
    pub ready_replicas: i32,
    /// All replicas of the present template are ready and the controller has seen the spec.
    pub available: bool,
    /// Hash written at the last apply (an annotation).
    pub applied: String,
    /// Hash over the set of fields that we own; it changes when somebody else writes one of them.
    pub fields: String,
    /// What is wrong with the pods of the version that serves, in words; empty while nothing is, or while
    /// nothing is known of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// The Worker Deployment's routing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Routing {
    /// Whether the rest can be relied on.
    pub state: RoutingState,
    /// Build id of the Current version.
    pub current: Option<String>,
    /// Build id of the Ramping version.
    pub ramping: Option<String>,
    /// Percentage of new executions that it takes.
    pub percent: i32,
    /// Build id whose pods are replacing those of the Current version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoting: Option<String>,
    /// The routing has gone and is known from the published status only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// Mark of the object that holds the routing; another content has another one. Empty where
    /// Temporal holds it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mark: String,
    /// When each version was last current, for those that ever were.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub served: BTreeMap<String, Timestamp>,
    /// When each version lost its traffic, or got work again without being routed to, for those
    /// that are not routed to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<String, Timestamp>,
    /// Who holds the Worker Deployment, when it is not us, not a predecessor and not nobody.
    pub foreign_manager: Option<String>,
    /// All versions the server has a record of.
    pub versions: BTreeMap<String, VersionState>,
    /// For people, when something is wrong.
    pub message: String,
}

/// How much is known about the routing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoutingState {
    /// The server answered.
    Known,
    /// The Temporal namespace does not exist.
    NamespaceNotFound,
    /// The operator may not look at that Temporal namespace.
    Forbidden,
    /// The server did not answer or its answer is not understood; nothing may be retired.
    #[default]
    #[serde(other)]
    Unknown,
}

/// `WorkerDeploymentVersionStatus` of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionState {
    /// Registered by the API, no poller yet.
    Created,
    /// Polling, never routed to.
    Inactive,
    /// New executions go here.
    Current,
    /// A share of new executions goes here.
    Ramping,
    /// Held by running pinned workflows.
    Draining,
    /// Nothing holds it.
    Drained,
    /// Not one of the above: treated as in use.
    #[default]
    #[serde(other)]
    Unknown,
}
