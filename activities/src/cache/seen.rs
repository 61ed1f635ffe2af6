//! What is kept of an object.

use jiff::Timestamp;
use process_operator_crds::names::ProcessKey;
use process_operator_crds::spec::Versioning;

use crate::authorship::Authorship;
use crate::dependencies::Needed;
use crate::registry::Source;

/// An owned Deployment as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Name of the Process, from its label.
    pub process: String,
    /// Build id of its pods, from its label.
    pub build_id: String,
    /// uid of the Process that it was made for.
    pub owner_uid: String,
    /// The namespace owns it too.
    pub held: bool,
    /// `metadata.generation`.
    pub generation: i64,
    /// Being deleted.
    pub deleting: bool,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `status.readyReplicas`.
    pub ready_replicas: i32,
    /// All replicas of the present template are ready.
    pub available: bool,
    /// Hash over the set of fields that we own.
    pub fields: String,
    /// `metadata.resourceVersion`, as an opaque mark of this state.
    pub resource_version: String,
}

impl Workload {
    /// Without pods, as wanted.
    pub(crate) fn is_stopped(&self) -> bool {
        self.replicas == 0 && self.available && self.ready_replicas == 0
    }
}

/// An owned CronJob as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// uid of the Process that it was made for.
    pub owner_uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Being deleted.
    pub deleting: bool,
    /// Hash over the set of fields that we own.
    pub fields: String,
    /// `metadata.resourceVersion`, as an opaque mark of this state.
    pub resource_version: String,
}

/// A version that drains, as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draining {
    /// Its build id.
    pub build_id: String,
    /// When it lost its traffic.
    pub since: Timestamp,
    /// When its policy is applied, if ever.
    pub deadline: Option<Timestamp>,
    /// Running workflows that hold it, as counted last.
    pub open: i64,
}

/// Temporal cannot be worked with, as published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreachable {
    /// Reason of the condition.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// A Process as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each mirrors one independent fact of the object"
)]
pub struct Neighbour {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.generation`.
    pub generation: i64,
    /// Being deleted.
    pub deleting: bool,
    /// `spec.temporal.namespace`; empty when the object cannot be read.
    pub temporal_namespace: String,
    /// `spec.temporal.taskQueue`.
    pub task_queue: String,
    /// `spec.rollout.versioning`.
    pub versioning: Versioning,
    /// `status.currentVersion.buildId` as published.
    pub current: Option<String>,
    /// `status.targetVersion.buildId` as published.
    pub target: Option<String>,
    /// Build id and ready pods of these two, as published.
    pub ready: Vec<(String, i32)>,
    /// Name of the ConfigMap with its definition, if it names one.
    pub definition: Option<String>,
    /// Where its definition is fetched from, if it names a registry.
    pub source: Option<Source>,
    /// Checksum of the definition as published; empty without one.
    pub checksum: String,
    /// Its version as published.
    pub definition_version: Option<i64>,
    /// Reason and message of the condition `DefinitionResolved` as published.
    pub resolved: (String, String),
    /// What it depends on.
    pub depends: Vec<Needed>,
    /// The condition `DependenciesReady` as published, if it is, with its message.
    pub depends_ready: Option<(bool, String)>,
    /// Type and status of each condition of the operator's.
    pub conditions: Vec<(String, String)>,
    /// Versions that drain.
    pub draining: Vec<Draining>,
    /// A rollout is under way, as published.
    pub rolling: bool,
    /// Our finalizer is present.
    pub finalizer: bool,
    /// The annotation `ameide.io/force-finalize` lets it go.
    pub forced: bool,
    /// Reason of the condition `Stalled`, when it is True.
    pub stalled: Option<String>,
    /// The condition `TemporalReachable`, if it is False; a lifecycle that is at work just then says so
    /// too.
    pub unreachable: Option<Unreachable>,
    /// `Degraded` is True.
    pub degraded: bool,
    /// Fingerprint of the annotation `ameide.io/request`; empty without one.
    pub request: String,
    /// Temporal namespace of the lifecycle that has published its status last.
    pub worked_from: Option<String>,
    /// Who has written its status.
    pub authorship: Authorship,
    /// `metadata.resourceVersion`, as an opaque mark of this state.
    pub resource_version: String,
}

impl Neighbour {
    /// Its key.
    pub fn key(&self) -> ProcessKey {
        ProcessKey {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}
