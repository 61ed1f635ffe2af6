//! What the Temporal UI shows as current details.

use std::fmt::Write as _;

use process_operator_crds::ConditionType;

use super::Verdict;
use super::conditions::deployment_of;
use crate::contract::{Observation, ProcessView, State};

/// Ends a cell of a table, whose columns the UI would draw without a space between them: it does not break, and is
/// not taken for the space that Markdown cuts off.
pub(crate) const GAP: &str = "\u{a0}\u{a0}";

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
            let _ = writeln!(
                text,
                "* {}: {status}, {}",
                found.type_,
                without_fractions(&found.message)
            );
        }
    }
    let _ = writeln!(
        text,
        "\n| version{GAP} | role{GAP} | ready pods{GAP} | in Temporal{GAP} | image |\n|---|---|---|---|---|"
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
            "| `{build_id}`{GAP} | {role}{GAP} | {pods}{GAP} | {server}{GAP} | {image} |"
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

/// The UI would draw a slash between numbers as a fraction.
fn without_fractions(message: &str) -> String {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let words = message.split(' ').map(|word| match word.split_once('/') {
        Some((some, all)) if number(some) && number(all) => format!("{some} of {all}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_no_fractions_and_all_else_stays() {
        for (said, shown) in [
            ("1/2 worker pods ready", "1 of 2 worker pods ready"),
            (
                "image localhost:5000/7 of 1/1",
                "image localhost:5000/7 of 1 of 1",
            ),
            ("shop/l2o  /", "shop/l2o  /"),
        ] {
            assert_eq!(without_fractions(said), shown);
        }
    }
}
