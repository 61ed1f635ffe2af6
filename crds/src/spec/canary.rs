//! `spec.rollout.steps` and what is looked at on the way: gates and analysis.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schema;

/// One step of a `Canary`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStep {
    /// Percentage of new workflows that the new version takes, 1 to 99. Temporal decides by the
    /// workflow id, so that a higher weight only adds workflows.
    #[schemars(range(min = 1, max = 99))]
    pub weight: i32,

    /// How long the weight is held before anything further is looked at. Counted from when Temporal
    /// has told all its task queues. Absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,

    /// A workflow that must complete on the new version at this weight, after the pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,

    /// Takes the place of `rollout.analysis` in this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

/// How long a weight is held.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Seconds, 1 to 2678400 (31 days). Absent: until somebody promotes the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_678_400))]
    pub duration_seconds: Option<i32>,
}

/// A workflow of the user's that must complete on the new version. It is started on the task queue
/// of the Process and pinned to the new version.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Workflow type.
    #[schemars(length(min = 1, max = 255), regex(pattern = schema::WORKFLOW_TYPE))]
    pub workflow_type: String,

    /// Argument of the workflow, an object. It can be read by everybody who may read the Process
    /// and becomes part of a workflow history: no place for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::gate_input")]
    pub input: Option<Map<String, Value>>,

    /// Seconds that one attempt may take, 1 to 604800.
    #[serde(default = "default_gate_timeout")]
    #[schemars(range(min = 1, max = 604_800))]
    pub timeout_seconds: i32,

    /// How often the workflow is started before the gate counts as failed, 1 to 10.
    #[serde(default = "default_gate_attempts")]
    #[schemars(range(min = 1, max = 10))]
    pub attempts: i32,
}

fn default_gate_timeout() -> i32 {
    3600
}

fn default_gate_attempts() -> i32 {
    1
}

/// What Temporal itself must show about the executions of the new version. Counted from when it
/// first took new workflows.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// How many executions must have closed before the next step may be taken, 0 to 1000000. With
    /// fewer the evidence is inconclusive and the rollout waits.
    #[serde(default = "default_min_workflows")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_workflows: i32,

    /// Highest percentage of closed executions that may have failed or timed out, 0 to 100.
    /// Cancelled and terminated ones do not count as failed.
    #[serde(default = "default_max_failure_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub max_failure_percent: i32,

    /// How many running executions may have workflow tasks that fail again and again, for example
    /// for non-determinism, 0 to 1000000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_task_failures: i32,

    /// Seconds between two looks, 1 to 3600.
    #[serde(default = "default_interval")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: i32,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            min_workflows: default_min_workflows(),
            max_failure_percent: default_max_failure_percent(),
            max_task_failures: 0,
            interval_seconds: default_interval(),
        }
    }
}

fn default_min_workflows() -> i32 {
    10
}

fn default_max_failure_percent() -> i32 {
    5
}

fn default_interval() -> i32 {
    30
}
