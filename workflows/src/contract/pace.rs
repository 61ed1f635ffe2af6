//! How fast rollouts may follow each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How often the spec has asked for another version lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pace {
    /// Build id last asked for.
    pub wanted: String,
    /// Since when.
    pub since: Timestamp,
    /// When the rollouts of the last [`Pace::WINDOW`] began, oldest first.
    pub begun: Vec<Timestamp>,
}

impl Pace {
    /// So many rollouts within the window are what people do; more are an accident.
    pub const MANY: usize = 3;
    /// Seconds for which the begin of a rollout counts.
    pub const WINDOW: i64 = 30;
    /// Seconds for which the spec has to stay as it is before one more begins.
    pub const REST: i64 = 3;
}
