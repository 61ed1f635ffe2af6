//! What a rollout is told, and what it tells.

use jiff::Timestamp;
use process_operator_crds::spec::{Analysis, Gate, OnFailure, RolloutStep, RolloutStrategy};
use serde::{Deserialize, Serialize};

use super::StepFailure;

/// `spec.rollout` as far as a rollout follows it. Arguments of gates are left out: they are read
/// when the gate starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RolloutPolicy {
    /// How work is shifted.
    pub strategy: RolloutStrategy,
    /// Steps of a canary.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RolloutStep>,
    /// Before any traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Evidence in steps that have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// What a failure leads to.
    pub on_failure: OnFailure,
}

impl RolloutPolicy {
    /// The policy of a spec.
    pub fn of(rollout: &process_operator_crds::spec::Rollout) -> Self {
        let bare = |gate: &Gate| Gate {
            input: None,
            ..gate.clone()
        };
        Self {
            strategy: rollout.strategy,
            steps: rollout
                .steps
                .iter()
                .map(|step| RolloutStep {
                    gate: step.gate.as_ref().map(bare),
                    ..step.clone()
                })
                .collect(),
            gate: rollout.gate.as_ref().map(bare),
            analysis: rollout.analysis.clone(),
            on_failure: rollout.on_failure,
        }
    }
}

/// Where a rollout stands.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumIter,
)]
pub enum Stage {
    /// Workers of the new version are started.
    #[default]
    Starting,
    /// The gate before any traffic.
    Gate,
    /// Waits until somebody promotes it (`Manual`).
    WaitingForPromotion,
    /// The weight of a step is being set.
    Weighting,
    /// The pause of a step.
    Pausing,
    /// Waits until there is evidence enough.
    Analyzing,
    /// The gate of a step.
    StepGate,
    /// The new version is being made Current.
    Promoting,
    /// The weight is being taken back.
    Unwinding,
    /// Over.
    Ended,
    /// Written by a newer operator.
    #[serde(other)]
    Unknown,
}

/// How far a rollout has come; what the lifecycle shows and judges verbs by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Progress {
    /// Where it stands.
    pub stage: Stage,
    /// The step under way, from 1; 0 before the first.
    pub step: u32,
    /// Percentage of new executions.
    pub weight: i32,
    /// When the present pause ends; `None` when only a person or an event ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// What speaks against going on, while it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<StepFailure>,
    /// What is missing; for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What the last gate came to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gate: String,
    /// How many steps there are. With [`Self::paused`] what a lifecycle without memory cannot know.
    #[serde(skip_serializing_if = "is_default")]
    pub steps: u32,
    /// Changes of routing are held back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What keeps a change of routing that is tried again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<StepFailure>,
}

/// What is not written, since it says nothing.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Progress {
    /// Only a person ends the present stage.
    pub fn waits_for_promotion(&self) -> bool {
        self.hold.is_none()
            && (self.stage == Stage::WaitingForPromotion
                || self.stage == Stage::Pausing && self.due.is_none())
    }
}

/// A rollout's report on its way; a signal to the lifecycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RolloutProgress {
    /// Workflow id of the rollout.
    pub id: String,
    /// How far it has come.
    pub progress: Progress,
}

/// What the lifecycle tells a rollout.
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
    strum::EnumIter,
)]
pub enum Order {
    /// No change of routing until resumed.
    Pause,
    /// Changes of routing again.
    Resume,
    /// To the next step, whatever the present one is waiting for.
    Promote,
    /// To all new executions.
    PromoteFull,
    /// Back to the version that served before.
    Abort,
    /// Do again what failed.
    Retry,
    /// Its version is Current as far as is known, and others build on that: being stopped does not undo it.
    Keep,
    /// Written by a newer operator; ignored.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A signal to a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RolloutOrder {
    /// What to do.
    pub order: Order,
    /// On whose behalf and why; becomes part of messages.
    pub why: String,
    /// The step that it is to lead out of, as far as that is known: one that has been left already is not meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
}
