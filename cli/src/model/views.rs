//! What is shown, also as JSON and YAML.

use jiff::Timestamp;
use serde::Serialize;

use crate::phase::Phase;
use crate::pods::PodView;

/// A Process with everything that belongs to it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tree {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) phase: Phase,
    pub(crate) image: String,
    pub(crate) task_queue: String,
    pub(crate) temporal_namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workflow: Option<WorkflowView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<RolloutView>,
    pub(crate) versions: Vec<VersionView>,
    /// Conditions that are not as they are when all is well.
    pub(crate) conditions: Vec<ConditionView>,
    /// Oldest first.
    pub(crate) history: Vec<ActionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_request: Option<RequestView>,
    /// Kinds that the caller may not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unseen: Vec<String>,
}

/// The lifecycle in Temporal.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowView {
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) run_id: String,
}

/// How far a rollout has come.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RolloutView {
    pub(crate) build_id: String,
    pub(crate) stage: String,
    pub(crate) step: i32,
    pub(crate) steps: i32,
    pub(crate) weight: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<Timestamp>,
    /// The next timer: what happens then, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<(String, Timestamp)>,
    pub(crate) message: String,
}

/// Where a version stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum VersionState {
    /// Takes new workflows.
    Current,
    /// Takes this percentage of them.
    Ramping(i32),
    /// Is being started.
    Starting,
    /// Takes none, and nothing rolls it out now.
    NotRouted,
    /// Kept until the workflows that are pinned to it have ended.
    Draining,
    /// Has drained; its Deployment is still there.
    Retiring,
    /// Kept without pods for a rollback.
    Kept,
}

/// One version.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionView {
    pub(crate) build_id: String,
    pub(crate) state: VersionState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drain: Option<DrainView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deployment: Option<DeploymentView>,
    pub(crate) pods: Vec<PodView>,
}

/// How an old version ends.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DrainView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_workflows: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oldest: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_timeout: Option<String>,
}

/// A Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeploymentView {
    pub(crate) name: String,
    pub(crate) ready: i32,
    pub(crate) replicas: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<Timestamp>,
}

/// A condition that says something.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConditionView {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// An entry of the history.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ActionView {
    pub(crate) time: Timestamp,
    pub(crate) what: String,
    pub(crate) build_id: String,
    pub(crate) actor: String,
    pub(crate) reason: String,
}

/// What became of the last request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestView {
    pub(crate) id: String,
    pub(crate) verb: String,
    pub(crate) result: String,
    pub(crate) message: String,
    pub(crate) time: Timestamp,
}
