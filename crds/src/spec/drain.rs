//! `spec.drain`: how long an old version is kept, and what ends the workflows that hold it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a version that takes no new workflows ends. A field that is absent has the operator's
/// default, which its flags set for all Processes. A change of any field reaches versions that
/// drain already.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Seconds that workflows pinned to an old version get to end by themselves, 1 to 31536000
    /// (365 days), counted from when the version stopped taking new workflows. Absent: the operator's
    /// default, which is to wait as long as they take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub timeout_seconds: Option<i32>,

    /// What happens then to the running workflows that are pinned to the version; others are never
    /// touched. `Wait`: nothing, there is no deadline. `Cancel`: they are asked to end, and
    /// terminated when they have not after `cancelGraceSeconds`. `Terminate`: they end at once.
    /// `MoveToCurrent`: they are pinned to the version that takes new workflows and go on there,
    /// which needs code that replays their histories. Absent: the operator's default, which is `Wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<DrainOnTimeout>,

    /// Seconds that workflows get to end after they have been asked to, 0 to 86400. Absent: the
    /// operator's default, 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub cancel_grace_seconds: Option<i32>,

    /// Seconds that the pods stay after the last workflow has ended, 0 to 86400, so that activities
    /// that still run can end. Absent: the operator's default, 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub scale_down_delay_seconds: Option<i32>,

    /// Seconds that the version is kept without pods after that, 0 to 2678400 (31 days): when it gets
    /// work again, for example by a reset, its pods come back. Then its record in Temporal and its
    /// Deployment are removed. Absent: the operator's default, 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_678_400))]
    pub delete_delay_seconds: Option<i32>,
}

/// What happens to the workflows that hold a version when its time is up.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
pub enum DrainOnTimeout {
    /// Nothing: they are waited for.
    #[default]
    Wait,
    /// They are asked to end, and terminated when they do not.
    Cancel,
    /// They end at once.
    Terminate,
    /// They go on on the version that takes new workflows.
    MoveToCurrent,
}
