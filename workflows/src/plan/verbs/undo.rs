//! Back to an earlier version.

use super::super::rollouts::forget_failure;
use super::Scene;
use crate::contract::{Observation, State, Undone, VerbArgs};

/// The version that takes the place of the spec's, and what follows.
pub(super) fn undo(
    state: &mut State,
    scene: &Scene<'_>,
    args: &VerbArgs,
    why: String,
) -> Result<(String, String), String> {
    let current = state
        .current
        .as_ref()
        .map(|current| current.build_id.clone())
        .unwrap_or_default();
    let to = if args.build_id.is_empty() {
        previous(state, scene.seen, &current).ok_or("no earlier version is kept")?
    } else {
        args.build_id.clone()
    };
    if to == scene.process.build_id {
        state.undone = None;
        forget_failure(state);
        return Ok((to, "the spec's version is rolled out again".into()));
    }
    if !scene
        .seen
        .versions
        .get(&to)
        .is_some_and(|version| version.revision)
    {
        return Err(format!("version {to} is not kept"));
    }
    forget_failure(state);
    state.undone = Some(Undone {
        from: scene.process.build_id.clone(),
        to: to.clone(),
        why,
    });
    Ok((
        to,
        "it takes new workflows until the spec changes or `retry` is requested".into(),
    ))
}

/// The kept version that was current last, before the present one.
fn previous(state: &State, seen: &Observation, current: &str) -> Option<String> {
    seen.versions
        .iter()
        .filter(|(build_id, version)| build_id.as_str() != current && version.revision)
        .filter(|(build_id, _)| !state.unproven.contains(*build_id))
        .filter_map(|(build_id, version)| {
            // Retired is later than last current, by as long as its executions took to end.
            let last = seen
                .routing
                .served
                .get(build_id)
                .or(version.retired.as_ref());
            Some((*last?, build_id.clone()))
        })
        .max()
        .map(|(_, build_id)| build_id)
}
