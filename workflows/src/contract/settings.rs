//! What of the operator's flags decisions depend on.

use serde::{Deserialize, Serialize};

/// Settings of the operator that decisions depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// The search attributes are registered and may be written.
    pub search_attributes: bool,
    /// How long a version keeps its pods after it has drained.
    pub scale_down_delay_seconds: i64,
    /// Identity under which routing is changed.
    pub manager_identity: String,
    /// Temporal namespace of the operator's own workflows.
    pub control_namespace: String,
    /// Which rules its decisions follow, so that what was decided by older ones replays; see
    /// [`Settings::RULES`].
    #[serde(skip_serializing_if = "super::rollout::is_default")]
    pub rules: u32,
}

impl Settings {
    /// The present rules. 1: a lifecycle continues as new with what it has not taken in yet, and the
    /// status of a Process that is being deleted tells what is known. 2: a child that is not there is forgotten
    /// when it is told something, and when it could not be started; the work of a deletion is tried again
    /// after a back-off; a rollout that is stopped hears whether its version counts as Current. 3: pods that are gone while a drain
    /// has told nothing yet stay so; a restart is wanted until it is done; the policy of a deletion is carried
    /// out also where a namespace on its way out has taken all objects away. 4: a spec that changes again and
    /// again is rolled out when it rests. 5: a rollout that is being aborted says so to every verb, also when it was paused.
    /// 6: a step that a rollout tells of is told without another look.
    pub const RULES: u32 = 6;
}
