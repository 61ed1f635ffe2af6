//! What a drain is told, what it remembers, and what it tells.

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::spec::DrainOnTimeout;
use serde::{Deserialize, Serialize};

use super::rollout::is_default;

/// How a version is to end: `spec.drain`, with the operator's defaults in place of what is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DrainPolicy {
    /// Seconds from the loss of traffic to the deadline; `None` waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// What happens at the deadline.
    pub on_timeout: DrainOnTimeout,
    /// Seconds between a cancellation and what follows it.
    pub cancel_grace_seconds: i64,
    /// Seconds that the pods stay after the last workflow.
    pub scale_down_delay_seconds: i64,
    /// Seconds that the version is kept without pods.
    pub delete_delay_seconds: i64,
}

impl DrainPolicy {
    /// With the fields of a Process in place of the operator's.
    #[must_use]
    pub fn with(&self, spec: &process_operator_crds::spec::Drain) -> Self {
        let or = |own: Option<i32>, default: i64| own.map_or(default, i64::from);
        Self {
            timeout_seconds: spec.timeout_seconds.map(i64::from).or(self.timeout_seconds),
            on_timeout: spec.on_timeout.unwrap_or(self.on_timeout),
            cancel_grace_seconds: or(spec.cancel_grace_seconds, self.cancel_grace_seconds),
            scale_down_delay_seconds: or(
                spec.scale_down_delay_seconds,
                self.scale_down_delay_seconds,
            ),
            delete_delay_seconds: or(spec.delete_delay_seconds, self.delete_delay_seconds),
        }
    }

    /// When the policy is applied to a version that has no traffic since then.
    pub fn deadline(&self, since: Timestamp) -> Option<Timestamp> {
        if self.on_timeout == DrainOnTimeout::Wait {
            return None;
        }
        Some(after(since, self.timeout_seconds?))
    }
}

/// Some seconds later.
pub fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// What is done to the workflows that hold a version.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
)]
pub enum EndAction {
    /// They are asked to end.
    Cancel,
    /// They end at once.
    Terminate,
    /// They are pinned to the version that takes new workflows.
    MoveToCurrent,
    /// Written by a newer operator: nothing is done.
    #[default]
    #[serde(other)]
    Unknown,
}

impl EndAction {
    /// What a policy asks for at its deadline.
    pub(crate) fn of(policy: DrainOnTimeout) -> Option<Self> {
        match policy {
            DrainOnTimeout::Wait => None,
            DrainOnTimeout::Cancel => Some(Self::Cancel),
            DrainOnTimeout::Terminate => Some(Self::Terminate),
            DrainOnTimeout::MoveToCurrent => Some(Self::MoveToCurrent),
        }
    }

    /// As a person writes it; nothing means `Cancel`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Cancel);
        }
        match text.parse() {
            Ok(Self::Unknown) | Err(_) => {
                Err("action must be Cancel, Terminate or MoveToCurrent".to_owned())
            }
            Ok(action) => Ok(action),
        }
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
pub enum DrainStage {
    /// Workflows are pinned to the version.
    #[default]
    Waiting,
    /// None is; the pods stay a little.
    Lingering,
    /// Its pods are being stopped.
    Stopping,
    /// It has no pods, and is kept for a while.
    Kept,
    /// Record and Deployment are being removed.
    Retiring,
    /// Written by a newer operator.
    #[serde(other)]
    Unknown,
}

/// Why workflows are being ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ending {
    /// How.
    pub action: EndAction,
    /// Somebody asked for it; otherwise the deadline has passed.
    pub forced: bool,
    /// Who asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How many there were before anything was done; `None` until they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// When they were counted; `None` until then, and in what an operator wrote that did not keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Until when to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// They were asked to end before, and have not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub escalated: bool,
    /// How often it was tried in vain.
    #[serde(skip_serializing_if = "is_default")]
    pub rounds: u32,
}

/// Memory of a drain; it survives continue-as-new.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DrainMemory {
    /// When the version lost its traffic.
    pub since: Timestamp,
    /// How far it has come.
    pub stage: DrainStage,
    /// Running workflows pinned to it, as last counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// When the oldest of them was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// The deadline that has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue: Option<Timestamp>,
    /// They are being ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// It never had traffic.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_served: bool,
    /// When it was current last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_current: Option<Timestamp>,
    /// When the present stage began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// How often the count was told.
    #[serde(skip_serializing_if = "is_default")]
    pub counts: u32,
    /// How many messages the lifecycle was sent.
    #[serde(skip_serializing_if = "is_default")]
    pub told: u32,
    /// Orders of people that have not been taken in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forces: Vec<Force>,
    /// What is wrong with orders that could not be read and have not been taken in either.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// What the lifecycle has not been told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<DrainNote>,
    /// What has been done to workflows, for the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
    /// The lifecycle wants a report at the end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
}

impl DrainMemory {
    /// How many lines of [`Self::done`] and [`Self::notes`] are kept.
    pub const LINES: usize = 20;
    /// How many orders wait.
    pub const FORCES: usize = 20;
}

/// An order of a person to end the workflows that hold a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Force {
    /// How.
    pub action: EndAction,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// A line for the history of the Process, and an Event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DrainNote {
    /// What happened.
    pub what: String,
    /// In words.
    pub reason: String,
    /// On whose behalf; empty when nobody asked.
    pub actor: String,
}

/// How far a drain has come, for the lifecycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DrainProgress {
    /// How far.
    pub stage: DrainStage,
    /// When the version lost its traffic.
    pub since: Timestamp,
    /// When the policy is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What the policy is.
    pub on_timeout: DrainOnTimeout,
    /// Running workflows pinned to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// When the oldest of them was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// How they are being ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<EndAction>,
    /// It is not kept without pods: stopping and removing it are one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
}

impl DrainProgress {
    /// Workflows may still need its pods, or it is about to be gone.
    pub fn is_draining(&self) -> bool {
        match self.stage {
            DrainStage::Waiting
            | DrainStage::Lingering
            | DrainStage::Stopping
            | DrainStage::Unknown => true,
            DrainStage::Retiring => self.at_once,
            DrainStage::Kept => false,
        }
    }

    /// Nothing needs its pods any more; they are gone or are being stopped.
    pub fn has_stopped(&self) -> bool {
        matches!(
            self.stage,
            DrainStage::Stopping | DrainStage::Kept | DrainStage::Retiring
        )
    }
}

/// Signal of a drain to its lifecycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DrainTold {
    /// Workflow id of the drain.
    pub id: String,
    /// The version.
    pub build_id: String,
    /// How far it has come.
    pub progress: DrainProgress,
    /// What has happened.
    pub notes: Vec<DrainNote>,
    /// Counts the messages of a drain, so that one that is late is not taken for the latest. 0: from an
    /// operator that did not count them.
    #[serde(skip_serializing_if = "is_default")]
    pub serial: u32,
}
