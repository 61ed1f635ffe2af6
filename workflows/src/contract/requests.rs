//! Verbs: what people ask a lifecycle for, by update, by signal or by annotation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What can be asked for.
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
    strum::IntoStaticStr,
    strum::EnumIter,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Verb {
    /// Hold the rollout where it is.
    Pause,
    /// Let a paused or held rollout go on; take routing back that somebody else has changed.
    Resume,
    /// Take the next step now, or all of them with `full`.
    Promote,
    /// Back to the version that served before.
    Abort,
    /// Do again what failed; after an abort, roll the spec's version out again.
    Retry,
    /// Bring an earlier version back until the spec changes.
    Undo,
    /// Restart the pods of the current version.
    Restart,
    /// End the workflows that hold a version, or move them to the current one.
    ForceCancelDrain,
    /// Written by a newer operator; refused.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Arguments of a verb, as people write them in the Temporal UI and in clients. Everything is
/// optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VerbArgs {
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// `promote`: all steps at once.
    pub full: bool,
    /// `undo`: which version; the last one that was current when empty. `forceCancelDrain`: which
    /// version; the one that drains when empty.
    pub build_id: String,
    /// `forceCancelDrain`: `Cancel`, `Terminate` or `MoveToCurrent`; `Cancel` when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
}

/// A verb with its arguments, waiting for its turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Request {
    /// Tells requests apart.
    pub id: String,
    /// What is asked for.
    pub verb: Verb,
    /// How.
    pub args: VerbArgs,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Answer {
    /// It was carried out.
    pub accepted: bool,
    /// What follows, or why not.
    pub message: String,
}

/// The annotation `ameide.io/request` of a Process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Annotation {
    /// Tells requests apart; one that was handled is not handled again.
    pub id: String,
    /// See [`Verb`]; text, so that an unknown one can be answered.
    pub verb: String,
    /// `metadata.uid` of the Process it is meant for.
    pub uid: String,
    /// Until when it may be carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Arguments.
    #[serde(flatten)]
    pub args: VerbArgs,
    /// Why it cannot be read; set by the reader.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unreadable: String,
}

impl Annotation {
    /// Longest time for which an annotation may be valid: it is a request, not a wish.
    pub const LONGEST_HOURS: i64 = 24;

    /// Reads the annotation. What cannot be read is a request too, to be refused with the reason.
    pub fn read(text: &str) -> Self {
        match serde_json::from_str::<Self>(text) {
            Ok(read) => Self {
                unreadable: String::new(),
                ..read
            },
            Err(_) => Self {
                id: crate::plan::fingerprint(text),
                unreadable: "it is not a JSON object with the fields id, verb, uid, expiresAt, actor, reason, \
                             full, buildId and action"
                    .into(),
                ..Self::default()
            },
        }
    }
}

/// What became of the last request by annotation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LastRequest {
    /// Its id.
    pub id: String,
    /// Its verb.
    pub verb: String,
    /// It was carried out.
    pub accepted: bool,
    /// What follows, or why not.
    pub message: String,
    /// When it was handled.
    pub time: Timestamp,
}
