//! Signals. They arrive as raw payloads and are decoded in their handler: a payload that does not
//! decode would otherwise fail the workflow task for ever, and people can type anything into the
//! Temporal UI.

use serde::{Deserialize, Serialize};

/// "Something changed, look again." Never carries an object: the lifecycle re-reads the world, so
/// that a lost, doubled or late signal is harmless.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Changed {
    /// What changed; see [`ChangeKind`]. Kept as text so that a kind added by a newer operator
    /// does not make the signal undecodable for an older one.
    pub kind: String,
    /// Free text for people reading the history, such as `deployment l2o-3f2a91bc`.
    pub detail: String,
}

/// Known values of [`Changed::kind`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::IntoStaticStr,
)]
#[strum(serialize_all = "camelCase")]
pub enum ChangeKind {
    /// The Process was created, edited or is being deleted.
    Process,
    /// An owned Deployment was changed, became ready or unready, or disappeared.
    Deployment,
    /// Another Process on the same task queue came or went.
    TaskQueue,
    /// The sweep found something that Kubernetes cannot tell.
    Sweep,
    /// Temporal can be reached again after an outage.
    Recovered,
    /// The annotation `ameide.io/request` was written.
    Request,
    /// The ConfigMap that holds the routing was changed or disappeared.
    Routing,
    /// The ConfigMap with the definition was changed, or a version's copy of it disappeared.
    Definition,
    /// A Domain or an Agent became ready, or is not any more.
    Dependency,
    /// An owned CronJob was changed or disappeared.
    CronJob,
}

impl Changed {
    /// A signal of a known kind.
    pub fn new(kind: ChangeKind, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.to_string(),
            detail: detail.into(),
        }
    }
}

/// Which kind of child a report is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildKind {
    /// [`crate::rollout::ProcessRollout`].
    #[default]
    Rollout,
    /// [`crate::drain::ProcessDrain`].
    Drain,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildOutcome {
    /// It did what it was for.
    Completed,
    /// It could not; `category` and `message` say why.
    Failed,
    /// It was told to stop.
    Canceled,
    /// Written by a newer operator; treated as a reason to look again.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A child's report to its lifecycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ChildFinished {
    /// Workflow id of the child.
    pub id: String,
    /// What it was.
    pub kind: ChildKind,
    /// The version it was about.
    pub build_id: String,
    /// How it ended.
    pub outcome: ChildOutcome,
    /// Error category (metric label form) when it failed.
    pub category: String,
    /// For people.
    pub message: String,
}
