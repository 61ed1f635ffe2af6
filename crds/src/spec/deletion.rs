//! `spec.deletion`: what the deletion of a Process waits for.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the deletion of a Process waits for, and what becomes of workflows that still run then. A
/// change counts at once, also while the Process is being deleted.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Seconds that running workflows get from the moment of the deletion, 0 to 31536000 (365 days).
    /// Until then the workers serve, and the Process is there. With nothing open it goes at once,
    /// and in a namespace that is being deleted nothing is waited for.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub timeout_seconds: i32,

    /// What becomes of workflows that are open after `timeoutSeconds`. `Abandon`: they are left as
    /// they are, open and without workers. `Cancel`: they are asked to cancel, and terminated after
    /// `cancelGraceSeconds`. `Terminate`: they are terminated.
    #[serde(default)]
    pub on_timeout: DeletionPolicy,

    /// Seconds that workflows get to cancel before they are terminated, 0 to 604800 (7 days). Only
    /// `Cancel` looks at it. Workflows that no worker ever took are not waited for.
    #[serde(default = "default_cancel_grace")]
    #[schemars(range(min = 0, max = 604_800))]
    pub cancel_grace_seconds: i32,

    /// `true` pauses the schedules in `temporal.namespace` that start workflows on the task queue
    /// of the Process, with a note that names it. They stay paused. `false` leaves them alone: what
    /// they start is waited for, and is treated as `onTimeout` says.
    #[serde(default = "default_pause_schedules")]
    pub pause_schedules: bool,
}

impl Default for Deletion {
    fn default() -> Self {
        Self {
            timeout_seconds: default_timeout(),
            on_timeout: DeletionPolicy::default(),
            cancel_grace_seconds: default_cancel_grace(),
            pause_schedules: default_pause_schedules(),
        }
    }
}

fn default_timeout() -> i32 {
    600
}

fn default_cancel_grace() -> i32 {
    300
}

fn default_pause_schedules() -> bool {
    true
}

/// What becomes of workflows that outlast the deletion of their Process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are left as they are.
    #[default]
    Abandon,
    /// They are asked to cancel, then terminated.
    Cancel,
    /// They are terminated.
    Terminate,
}
