//! What the operator reports: `status` of a `Process`.

#![allow(
    unreachable_pub,
    reason = "the KubeSchema derive copies each struct, `pub` included, into a function body"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{schema, spec::DrainOnTimeout};

/// Most versions that `status.draining` lists; further ones still drain.
pub const MAX_DRAINING: usize = 100;

/// Most entries of `status.history`; the oldest is dropped.
pub const MAX_HISTORY: usize = 10;

/// Highest version that a definition can have: numbers beyond are not the same in all that read JSON.
pub const MAX_DEFINITION_VERSION: i64 = crate::crd::EXACT_INTEGER;

/// What the operator has observed. Everything here can be read anew from the cluster and from
/// Temporal; nothing is kept only here.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// State of the Process in detail; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The version that takes new workflows. Absent until a first version does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<VersionStatus>,

    /// The version that spec asks for. Equal to the current version when nothing is being rolled
    /// out. Absent until a first version is deployed; from then on `spec.temporal` is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<VersionStatus>,

    /// The rollout of the target version. Absent when none is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,

    /// Versions that take no new workflows and are kept until those pinned to them have ended, the
    /// oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["buildId".into()]))]
    pub draining: Vec<DrainingVersion>,

    /// The definition as it was read last. Absent without `spec.definitionRef.configMapRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<DefinitionStatus>,

    /// Task queue that new workflows should be started on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 264))]
    pub task_queue: Option<String>,

    /// The workflow that looks after this Process, for the Temporal UI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowRef>,

    /// The last 10 transitions, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub history: Vec<HistoryEntry>,

    /// What became of the last request made through annotation `ameide.io/request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<RequestStatus>,

    /// Worker pods of the current version, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,

    /// Label selector of the worker pods of the current version, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,

    /// How many versions there are: current, target, draining, and kept for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub version_count: Option<i32>,
}

/// A version of the workers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Build id of the version in Temporal.
    #[schemars(length(min = 1, max = 255))]
    pub build_id: String,

    /// Image of the version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub image: String,

    /// Deployment in the namespace of the Process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub deployment_name: String,

    /// Worker pods of the version.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub replicas: i32,

    /// Worker pods of the version that are ready.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ready_replicas: i32,

    /// When the version became current, or target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// A definition that was read.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionStatus {
    /// Its version, from label `ameide.io/definition-version` of the ConfigMap. Absent when that is
    /// no whole number from 0 to 9007199254740991.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub version: Option<i64>,

    /// `sha256:` and the checksum over the entries of the ConfigMap in the order of their keys: of each
    /// the key, a line feed, the number of bytes, a line feed, and the bytes.
    #[schemars(length(max = 71))]
    pub checksum: String,
}

/// How far a rollout has come.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// What is under way, for example `Starting`, `Pausing` or `Analyzing`; see the conditions for
    /// why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub stage: String,

    /// The step that is under way, counted from 1; 0 before the first.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub step: i32,

    /// How many steps there are.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub steps: i32,

    /// Percentage of new workflows that the target version takes.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub weight: i32,

    /// When the present pause ends. Absent when nothing but a person or an event ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step_time: Option<Time>,

    /// When the rollout began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_time: Option<Time>,

    /// When the workers of the target version must be ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,

    /// Who or what holds the rollout, and how it goes on; the last gate and its result.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What became of a request.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// `id` of the request.
    #[schemars(length(max = 128))]
    pub id: String,

    /// `verb` of the request.
    #[schemars(length(max = 64))]
    pub verb: String,

    /// `Accepted` or `Refused`.
    #[schemars(length(max = 64))]
    pub result: String,

    /// What follows from it, or why it was refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// When it was handled.
    pub time: Time,
}

/// A version that takes no new workflows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainingVersion {
    /// Build id of the version in Temporal.
    #[schemars(length(min = 1, max = 255))]
    pub build_id: String,

    /// Deployment in the namespace of the Process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub deployment_name: String,

    /// When the version stopped taking new workflows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,

    /// When `onTimeout` is applied to the workflows that still run on it. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,

    /// Running workflows that are pinned to the version, as last counted: a small change shows
    /// late. Absent until they have been counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub open_workflows: Option<i64>,

    /// When the oldest of them was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_start_time: Option<Time>,

    /// What happens to them at the deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<DrainOnTimeout>,
}

/// A workflow of the operator.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRef {
    /// Temporal namespace that the workflow runs in.
    #[schemars(length(max = 255))]
    pub namespace: String,

    /// Workflow id.
    #[schemars(length(max = 512))]
    pub id: String,

    /// Run id of the present run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub run_id: Option<String>,
}

/// Something that happened to the Process.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When it happened.
    pub time: Time,

    /// What happened, in a few words.
    #[schemars(length(max = 256))]
    pub what: String,

    /// Build id of the version it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub build_id: Option<String>,

    /// Why it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,

    /// Who did it: the operator, or a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub actor: Option<String>,
}
