//! `spec.rollout`: how a new version takes over.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a new version takes over.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How work is shifted. `RollingUpdate`: the new version takes all new workflows as soon as
    /// its workers are ready and poll the task queue.
    #[serde(default)]
    pub strategy: RolloutStrategy,

    /// What keeps versions apart. `WorkerVersioning`: each version is a Deployment of its own with
    /// its own build id, and Temporal routes each workflow to the version it is pinned to.
    #[serde(default)]
    pub versioning: Versioning,

    /// How many workflows of one tenant the workers run at once, 1 to 1000000. The operator passes
    /// it on as environment variable `MAX_CONCURRENCY_PER_TENANT`; keeping to it is the worker's
    /// task. Absent means no limit. A change makes a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_concurrency_per_tenant: Option<i32>,

    /// Seconds in which a new version must become ready and poll its task queue, 1 to 86400. After
    /// that the Process is Stalled with reason `ProgressDeadlineExceeded`; the version that serves
    /// is left alone.
    #[serde(default = "default_progress_deadline")]
    #[schemars(range(min = 1, max = 86_400))]
    pub progress_deadline_seconds: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::default(),
            versioning: Versioning::default(),
            max_concurrency_per_tenant: None,
            progress_deadline_seconds: default_progress_deadline(),
        }
    }
}

fn default_progress_deadline() -> i32 {
    600
}

/// How work is shifted to a new version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    /// All new workflows go to the new version when it is ready.
    #[default]
    RollingUpdate,
}

/// What keeps versions apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Versioning {
    /// Temporal Worker Versioning: one Deployment and one build id per version.
    #[default]
    WorkerVersioning,
}
