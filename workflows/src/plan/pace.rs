//! A spec that changes again and again, as when two tools undo each other's edits, is not rolled out each time.

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::ErrorCategory;

use crate::contract::{Observation, Pace, ProcessView, State, StepFailure};

/// Takes in what is asked for now. Why its rollout is to wait, if it is.
pub(super) fn hold_back(
    state: &mut State,
    process: &ProcessView,
    seen: &Observation,
    now: Timestamp,
) -> Option<StepFailure> {
    if seen.settings.rules < 4 {
        return None;
    }
    let wanted = &process.build_id;
    let serves = seen.routing.current.as_ref() == Some(wanted);
    let under_way = state
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.build_id == *wanted);
    let pace = &mut state.pace;
    if pace.wanted != *wanted {
        pace.wanted.clone_from(wanted);
        pace.since = now;
    }
    let window = SignedDuration::from_secs(Pace::WINDOW);
    pace.begun.retain(|at| now.duration_since(*at) < window);
    let rested = now.duration_since(pace.since) >= SignedDuration::from_secs(Pace::REST);
    let begun = pace.begun.len();
    let waits = begun >= Pace::MANY && !rested && !serves && !under_way;
    let (rest, window) = (Pace::REST, Pace::WINDOW);
    waits.then(|| StepFailure {
        retry_after_seconds: Some(Pace::REST.unsigned_abs().try_into().unwrap_or(u32::MAX)),
        ..StepFailure::new(
            ErrorCategory::RateLimited,
            format!(
                "{begun} rollouts have begun within {window} s; the next one begins when the spec has stayed the \
                 same for {rest} s"
            ),
        )
    })
}
