//! `spec.rollout`: how a new version takes over.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canary::{Analysis, Gate, RolloutStep};

/// How a new version takes over.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.steps) || self.steps.size() == 0 || self.strategy == 'Canary'")
    .message("rollout.steps must not be set unless rollout.strategy is Canary: other strategies have no steps")
    .reason(Reason::FieldValueForbidden)
    .field_path(".steps"))]
#[x_kube(validation = Rule::new("self.strategy != 'Canary' || (has(self.steps) && self.steps.size() > 0)")
    .message("rollout.steps must have at least one step when rollout.strategy is Canary")
    .reason(Reason::FieldValueRequired)
    .field_path(".steps"))]
#[x_kube(validation = Rule::new("!has(self.steps) || self.steps.all(s, self.steps.filter(t, t.weight == s.weight).size() == 1)")
    .message("rollout.steps must have strictly increasing weights: two steps have the same weight")
    .reason(Reason::FieldValueInvalid)
    .field_path(".steps"))]
#[x_kube(validation = Rule::new("!has(self.steps) || self.steps.map(s, s.weight).isSorted()")
    .message("rollout.steps must have strictly increasing weights: a step has a lower weight than the one before")
    .reason(Reason::FieldValueInvalid)
    .field_path(".steps"))]
#[x_kube(validation = Rule::new("!has(self.versioning) || self.versioning != 'None' || !(has(self.gate) || (has(self.steps) && self.steps.exists(s, has(s.gate))))")
    .message("rollout.gate and steps[].gate must not be set when rollout.versioning is None: a gate cannot be sent to one version")
    .reason(Reason::FieldValueForbidden)
    .field_path(".versioning"))]
#[x_kube(validation = Rule::new("!has(self.versioning) || self.versioning != 'None' || !(has(self.analysis) || (has(self.steps) && self.steps.exists(s, has(s.analysis))))")
    .message("rollout.analysis and steps[].analysis must not be set when rollout.versioning is None: executions of one version cannot be told from those of another")
    .reason(Reason::FieldValueForbidden)
    .field_path(".versioning"))]
pub struct Rollout {
    /// How work is shifted. `RollingUpdate`: the new version takes all new workflows as soon as
    /// its workers are ready and poll the task queue. `Canary`: it takes a growing share of them,
    /// as `steps` says. `Manual`: it takes none until somebody promotes it. The first version takes
    /// all at once, unless workers without a version have served the queue so far; and so does a
    /// version that has served before and is still kept.
    #[serde(default)]
    pub strategy: RolloutStrategy,

    /// What keeps versions apart. `WorkerVersioning`: each version is a Deployment of its own with
    /// its own build id, and Temporal routes each workflow to the version it is pinned to.
    /// `TaskQueuePerVersion`: each version is a Deployment of its own that polls a task queue of its
    /// own, `<taskQueue>-<hash>`; starters find the queue in `status.taskQueue` or in the ConfigMap
    /// `<name>-routing`. `None`: one Deployment, whose pods are replaced; changes of workflow code must
    /// replay what older code has begun. It may not change once a version has been deployed.
    #[serde(default)]
    pub versioning: Versioning,

    /// How many workflows of one tenant the workers run at once, 1 to 1000000. The operator passes
    /// it on as environment variable `MAX_CONCURRENCY_PER_TENANT`; keeping to it is the worker's
    /// task. Absent means no limit. A change makes a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_concurrency_per_tenant: Option<i32>,

    /// Steps of a `Canary`, taken in order; weights increase from step to step. After the last one
    /// the new version takes all new workflows. A rollout keeps the steps that it began with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub steps: Vec<RolloutStep>,

    /// A workflow that must complete on the new version before it takes any new workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,

    /// What the executions of the new version must show while its share grows. Absent: only pods
    /// and workflow tasks are watched, not how executions end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,

    /// Seconds in which a new version must become ready and poll its task queue, 1 to 86400. After
    /// that the Process is Stalled with reason `ProgressDeadlineExceeded`; the version that serves
    /// is left alone.
    #[serde(default = "default_progress_deadline")]
    #[schemars(range(min = 1, max = 86_400))]
    pub progress_deadline_seconds: i32,

    /// What happens when a gate or the evidence speaks against a new version. `Abort`: all new
    /// workflows go to the version that served before, at once; those that run on the new one keep
    /// its pods until they have ended. `Pause`: its share stays as it is until somebody decides.
    #[serde(default)]
    pub on_failure: OnFailure,

    /// How many earlier versions are kept for a rollback after they have been retired, 0 to 20. A
    /// kept version has no pods; a rollback to it takes no steps.
    #[serde(default = "default_revision_history_limit")]
    #[schemars(range(min = 0, max = 20))]
    pub revision_history_limit: i32,

    /// `true` keeps a rollout from changing the share of new workflows. Pods of the new version are
    /// started all the same. Verbs cannot override it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub paused: bool,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::default(),
            versioning: Versioning::default(),
            max_concurrency_per_tenant: None,
            steps: Vec::new(),
            gate: None,
            analysis: None,
            progress_deadline_seconds: default_progress_deadline(),
            on_failure: OnFailure::default(),
            revision_history_limit: default_revision_history_limit(),
            paused: false,
        }
    }
}

fn default_progress_deadline() -> i32 {
    600
}

fn default_revision_history_limit() -> i32 {
    3
}

/// How work is shifted to a new version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    /// All new workflows go to the new version when it is ready.
    #[default]
    RollingUpdate,
    /// A growing share of new workflows goes to the new version.
    Canary,
    /// Nothing goes to the new version until somebody promotes it.
    Manual,
}

/// What happens when a new version fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Back to the version that served before.
    #[default]
    Abort,
    /// Everything stays as it is until somebody decides.
    Pause,
}

/// What keeps versions apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Versioning {
    /// Temporal Worker Versioning: one Deployment and one build id per version.
    #[default]
    WorkerVersioning,
    /// One Deployment and one task queue per version; starters choose the queue.
    TaskQueuePerVersion,
    /// One Deployment for all; the user keeps workflow code compatible.
    None,
}

impl Versioning {
    /// The default, which payloads leave out.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "the shape that serde wants"
    )]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The value as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkerVersioning => "WorkerVersioning",
            Self::TaskQueuePerVersion => "TaskQueuePerVersion",
            Self::None => "None",
        }
    }
}
