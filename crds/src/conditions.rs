//! Conditions of a Process: which there are, and how new ones are merged with old ones.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumMessage, EnumString, IntoStaticStr};

use crate::Reason;

/// Longest message of a condition, in bytes. The API server admits 32768; a message is for people
/// and is shown in a column.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// What a condition is about. `Ready` sums up; the others are details.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumIter,
    EnumMessage,
    EnumString,
    IntoStaticStr,
)]
#[non_exhaustive]
pub enum ConditionType {
    /// True when a version is current and its workers serve the task queue. A rollout that is
    /// under way does not make it False as long as the previous version serves.
    Ready,
    /// True when the workers are told which definition they implement: with reason `OpaqueReference` by
    /// id and tenant alone, with `DefinitionFound` by a copy of a ConfigMap. False when that
    /// ConfigMap is not there.
    DefinitionResolved,
    /// True when enough worker pods of the current version are ready.
    WorkersReady,
    /// True when something is wrong that users should look at, even if the workers serve.
    Degraded,
    /// True when every Domain and Agent of `spec.dependencies` exists and is Ready.
    DependenciesReady,
    /// True when `spec.image` names a tag that is expected to move: `latest`, none at all, or one that
    /// `imagePullPolicy: Always` pulls anew at every start. The build id then does not tell which code
    /// runs.
    MutableTag,
    /// True when Temporal answers the operator, for the Temporal namespace of the Process too.
    TemporalReachable,
    /// True while a new version is being rolled out.
    Progressing,
    /// True while retired versions are kept because workflows are pinned to them.
    Draining,
    /// True while the operator works towards the spec. For kstatus: True means InProgress.
    Reconciling,
    /// True when the operator cannot get further without a change from outside. For kstatus: True
    /// means Failed.
    Stalled,
}

impl ConditionType {
    /// The type as it is written in a condition.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What the condition means, for users.
    pub fn meaning(self) -> &'static str {
        self.get_documentation().unwrap_or_default().trim()
    }

    /// Whether it is True when the Process is settled and well. The others are True when something
    /// is under way or wrong.
    pub fn positive(self) -> bool {
        match self {
            Self::Ready
            | Self::DefinitionResolved
            | Self::DependenciesReady
            | Self::WorkersReady
            | Self::TemporalReachable => true,
            Self::Degraded
            | Self::MutableTag
            | Self::Progressing
            | Self::Draining
            | Self::Reconciling
            | Self::Stalled => false,
        }
    }
}

/// Whether a condition holds.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// The operator cannot tell.
    Unknown,
}

impl ConditionStatus {
    /// The status as it is written in a condition.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as it should be, without the time of its last transition, which only
/// [`merge_conditions`] can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewCondition {
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people. Cut to [`MAX_MESSAGE_BYTES`].
    pub message: String,
    /// The `metadata.generation` it is about.
    pub observed_generation: Option<i64>,
}

impl NewCondition {
    /// A condition about `generation`.
    pub fn new(
        type_: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
        generation: i64,
    ) -> Self {
        Self {
            type_,
            status: status.into(),
            reason,
            message: message.into(),
            observed_generation: Some(generation),
        }
    }
}

/// `old` brought up to date with `new`.
///
/// * `lastTransitionTime` is `now` (whole seconds) where the status is another one than before or
///   the type is new, and stays as it is otherwise, also when reason or message change.
/// * Types that `new` does not name are kept untouched, whoever wrote them.
/// * The order of `old` is kept and new types come last in the order of `new`, so that merging the
///   same conditions again changes nothing. Of two entries of `new` with one type the last counts.
pub fn merge_conditions(old: &[Condition], new: &[NewCondition], now: Timestamp) -> Vec<Condition> {
    let mut merged = old.to_vec();
    for condition in own_conditions(old, new, now) {
        match merged.iter_mut().find(|c| c.type_ == condition.type_) {
            Some(slot) => *slot = condition,
            None => merged.push(condition),
        }
    }
    merged
}

/// The conditions of `new` alone, with transition times carried over from `old` as in
/// [`merge_conditions`]. This is what a server-side apply sends: conditions of others must not be
/// in it, or the operator would become their owner.
pub fn own_conditions(old: &[Condition], new: &[NewCondition], now: Timestamp) -> Vec<Condition> {
    let now = whole_seconds(now);
    let mut own: Vec<Condition> = Vec::with_capacity(new.len());
    for condition in new {
        let status = condition.status.as_str();
        let type_ = condition.type_.as_str();
        let since = old
            .iter()
            .find(|c| c.type_ == type_ && c.status == status)
            .map_or_else(|| Time(now), |c| c.last_transition_time.clone());
        own.retain(|c| c.type_ != type_);
        own.push(Condition {
            last_transition_time: since,
            message: truncate_message(&condition.message).to_owned(),
            observed_generation: condition.observed_generation,
            reason: condition.reason.as_str().to_owned(),
            status: status.to_owned(),
            type_: type_.to_owned(),
        });
    }
    own
}

/// The condition of `type_` in `conditions`, if it is there.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// Whether the condition of `type_` is there and True.
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == ConditionStatus::True.as_str())
}

/// `message` cut to [`MAX_MESSAGE_BYTES`] at a character boundary.
pub fn truncate_message(message: &str) -> &str {
    truncate(message, MAX_MESSAGE_BYTES)
}

/// `text` cut to at most `max` bytes at a character boundary.
pub fn truncate(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Kubernetes writes times in whole seconds; a fraction would differ after a round trip.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn ready(status: bool, reason: Reason, message: &str) -> NewCondition {
        NewCondition::new(ConditionType::Ready, status, reason, message, 3)
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let first = merge_conditions(&[], &[ready(false, Reason::Pending, "a")], at(10));
        assert_eq!(first[0].last_transition_time, Time(at(10)));
        let same = merge_conditions(&first, &[ready(false, Reason::RollingOut, "b")], at(20));
        assert_eq!(same[0].last_transition_time, Time(at(10)));
        assert_eq!(
            (same[0].reason.as_str(), same[0].message.as_str()),
            ("RollingOut", "b")
        );
        let flipped = merge_conditions(&same, &[ready(true, Reason::Settled, "c")], at(30));
        assert_eq!(flipped[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn foreign_types_are_kept_and_the_order_is_stable() {
        let foreign = Condition {
            last_transition_time: Time(at(1)),
            message: "theirs".into(),
            observed_generation: None,
            reason: "Theirs".into(),
            status: "True".into(),
            type_: "example.com/Audited".into(),
        };
        let new = [ready(true, Reason::Settled, "ok")];
        let merged = merge_conditions(std::slice::from_ref(&foreign), &new, at(5));
        assert_eq!(merged[0], foreign);
        assert_eq!(merged.len(), 2);
        assert_eq!(
            merge_conditions(&merged, &new, at(99)),
            merged,
            "merging again changes nothing"
        );
        assert_eq!(
            own_conditions(&merged, &new, at(99)),
            merged[1..],
            "an apply carries only our own"
        );
    }

    #[test]
    fn the_last_of_two_entries_counts() {
        let new = [
            ready(true, Reason::Settled, "first"),
            ready(false, Reason::Deleting, "second"),
        ];
        let merged = merge_conditions(&[], &new, at(5));
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].message, "second");
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let long = "ä".repeat(2000);
        let cut = truncate_message(&long);
        assert_eq!(cut.len(), MAX_MESSAGE_BYTES);
        assert_eq!(truncate("aä", 2), "a");
        assert_eq!(truncate("short", 100), "short");
    }

    #[test]
    fn times_are_whole_seconds() {
        let now = Timestamp::new(7, 999_999_999).expect("in range");
        let merged = merge_conditions(&[], &[ready(true, Reason::Settled, "")], now);
        assert_eq!(merged[0].last_transition_time, Time(at(7)));
    }

    #[test]
    fn every_type_has_a_meaning() {
        for type_ in ConditionType::iter() {
            assert!(type_.meaning().ends_with('.'), "{type_}");
            assert_eq!(type_.as_str().parse(), Ok(type_));
        }
    }
}
