//! What the activities of a drain are given and give back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EndAction, KeptApart, ProcessKey};

/// Input of [`WaitDrained`](super::WaitDrained).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WaitDrainedInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The retiring version.
    pub build_id: String,
    /// What is known of the workflows that hold it. `None`, from an operator that does not count
    /// them: only the end is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
    /// How the version's executions are told from those of others.
    #[serde(skip_serializing_if = "KeptApart::is_default")]
    pub apart: KeptApart,
    /// When the version lost its traffic: the longer ago, the less often they are counted. `None`, from an operator that
    /// counted each minute: as in the first hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What is known of the workflows that hold a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Known {
    /// How many run; `None` before they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// When the oldest was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// How often a new count was told: after many, counts are told less often.
    pub counts: u32,
}

/// Outcome of [`WaitDrained`](super::WaitDrained).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WaitDrainedOutcome {
    /// Nothing holds the version any more.
    pub drained: bool,
    /// The version is routed to again; its retirement is off.
    pub in_use: bool,
    /// It never had traffic, so nothing in flight has to end.
    pub never_served: bool,
    /// When it was current last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_current: Option<Timestamp>,
    /// Neither: the workflows that hold it have become noticeably fewer or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
}

/// Input of [`CountOpen`](super::CountOpen).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CountOpenInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version.
    pub build_id: String,
    /// How the version's executions are told from those of others.
    #[serde(skip_serializing_if = "KeptApart::is_default")]
    pub apart: KeptApart,
}

/// Outcome of [`CountOpen`](super::CountOpen).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CountOpenOutcome {
    /// Running workflows that are pinned to the version.
    pub open: u64,
    /// Workflow ids of some of them, at most 10.
    pub sample: Vec<String>,
    /// When the oldest was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
}

/// Input of [`EndOpen`](super::EndOpen).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndOpenInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version.
    pub build_id: String,
    /// What is done to them.
    pub action: EndAction,
    /// Written to their histories.
    pub reason: String,
    /// When to leave those that are left.
    pub until: Timestamp,
    /// How the version's executions are told from those of others.
    #[serde(skip_serializing_if = "KeptApart::is_default")]
    pub apart: KeptApart,
}

/// Outcome of [`EndOpen`](super::EndOpen).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndOpenOutcome {
    /// How many are left.
    pub left: u64,
    /// The version is routed to again: nothing more is done to what runs on it.
    pub in_use: bool,
    /// Why some of those that are left could not be ended or moved; empty when none refused.
    pub refused: String,
}

/// Input of [`KeepDrained`](super::KeepDrained).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeepDrainedInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version.
    pub build_id: String,
    /// Until when.
    pub until: Timestamp,
    /// How the version's executions are told from those of others.
    #[serde(skip_serializing_if = "KeptApart::is_default")]
    pub apart: KeptApart,
}

/// Outcome of [`KeepDrained`](super::KeepDrained). Neither: the time has passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeepDrainedOutcome {
    /// The version is routed to again.
    pub in_use: bool,
    /// Workflows are pinned to it again.
    pub held: bool,
}

/// Input of [`StopVersion`](super::StopVersion).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StopVersionInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version.
    pub build_id: String,
    /// Its Deployment and ControllerRevision.
    pub name: String,
    /// How the version's executions are told from those of others.
    #[serde(skip_serializing_if = "KeptApart::is_default")]
    pub apart: KeptApart,
}

/// Outcome of [`StopVersion`](super::StopVersion). Neither: it has no pods any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StopVersionOutcome {
    /// The version is routed to again.
    pub in_use: bool,
    /// Workflows are pinned to it again.
    pub held: bool,
}

/// Input of [`RetireVersion`](super::RetireVersion).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetireInput {
    /// Which Process.
    pub key: ProcessKey,
    /// Temporal namespace of the workers.
    pub temporal_namespace: String,
    /// The version.
    pub build_id: String,
    /// Its Deployment and ControllerRevision.
    pub name: String,
    /// How many versions that were current are kept for a rollback. `None`, from an operator that
    /// kept none, means 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<i32>,
    /// Its pods are stopped already, so that the record can go first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// When it was current last, as far as the drain has seen: after the record is gone nobody else
    /// knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_current: Option<Timestamp>,
    /// How the version's executions are told from those of others.
    #[serde(skip_serializing_if = "KeptApart::is_default")]
    pub apart: KeptApart,
}

/// Outcome of [`RetireVersion`](super::RetireVersion).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetireOutcome {
    /// Everything of the version is gone.
    pub retired: bool,
    /// The version got work again before its pods went; drain again.
    pub in_use: bool,
    /// It is routed to again; its retirement is off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub routed: bool,
    /// For people.
    pub message: String,
}
