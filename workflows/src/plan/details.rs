//! What the Temporal UI shows as current details.

use std::fmt::Write as _;

use process_operator_crds::ConditionType;

use super::Verdict;
use super::conditions::deployment_of;
use crate::contract::{Observation, ProcessView, State};

/// Markdown for the Temporal UI's current details.
pub(super) fn details(
    state: &State,
    process: &ProcessView,
    seen: &Observation,
    verdict: &Verdict,
) -> String {
    let mut text = format!("**{}**\n\n", heading(verdict.phase));
    let shown = [
        ConditionType::Ready,
        ConditionType::Progressing,
        ConditionType::Degraded,
    ];
    for found in verdict
        .conditions
        .iter()
        .filter(|condition| shown.contains(&condition.type_))
    {
        let holds = found.status == true.into();
        // What is not wrong needs no line.
        if holds || found.type_ != ConditionType::Degraded {
            let status = if holds { "yes" } else { "no" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "* {}: {status}, {}", found.type_, found.message);
        }
    }
    text.push_str(
        "\n| version | role | ready pods | in Temporal | image |\n|---|---|---|---|---|\n",
    );
    let names: std::collections::BTreeSet<&String> = seen
        .versions
        .keys()
        .chain(seen.routing.versions.keys())
        .collect();
    for build_id in names {
        let version = seen.versions.get(build_id);
        let role = if state
            .current
            .as_ref()
            .is_some_and(|current| current.build_id == *build_id)
        {
            "current"
        } else if *build_id == process.build_id {
            "target"
        } else if let Some(drain) = state.drains.get(build_id) {
            if drain.is_draining() {
                "draining"
            } else {
                "drained"
            }
        } else {
            ""
        };
        let pods = deployment_of(seen, build_id).map_or_else(
            || "-".to_owned(),
            // The UI would draw a slash between numbers as a fraction.
            |pods| format!("{} of {}", pods.ready_replicas, pods.replicas),
        );
        let server = seen
            .routing
            .versions
            .get(build_id)
            .map_or_else(|| "-".to_owned(), |state| format!("{state:?}"));
        let image = version.map_or("-", |version| version.image.as_str());
        let _ = writeln!(
            text,
            "| `{build_id}` | {role} | {pods} | {server} | {image} |"
        );
    }
    text
}

/// A phase for people.
fn heading(phase: &str) -> &str {
    match phase {
        "RollingOut" => "Rolling out a new version",
        "Draining" => "Serving; an old version still has running workflows",
        "Ready" => "Serving; nothing to do",
        "Degraded" => "Something is wrong",
        "Suspended" => "Suspended: observing, not acting",
        other => other,
    }
}
