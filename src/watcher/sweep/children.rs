//! Rollouts and drains that Processes tell of, beside those that run.
//!
//! The run of a lifecycle that has started a child hears of its end from Temporal. A later run hears what the child
//! tells, and one that was terminated by hand tells nothing.

use std::collections::BTreeSet;

use process_operator_activities::cache::Neighbour;
use process_operator_crds::names::{BuildId, WorkflowId};

use super::{Round, Told, report};

/// Compares one Process with all children that run.
pub(super) fn compare(
    round: &Round<'_>,
    process: &Neighbour,
    running: &[WorkflowId],
    told: &mut Told,
) {
    const WHAT: &str = "a rollout or drain is missing";
    let missing = missing(process, running);
    // One that has just begun or ended is missing in one of both for a moment.
    let since = told.missing.remove(&process.uid);
    let again = missing.clone().filter(|what| since.as_ref() == Some(what));
    if let Some(what) = missing {
        told.missing.insert(process.uid.clone(), what);
    }
    if told.is_new(process, WHAT, again) {
        report(round.shared, process, WHAT);
    }
}

/// What a Process tells of that does not run, in words; another word is news.
fn missing(process: &Neighbour, running: &[WorkflowId]) -> Option<String> {
    if process.deleting {
        return None;
    }
    let key = process.key();
    let mut rolls = false;
    let mut drains = BTreeSet::new();
    for child in running.iter().filter(|child| *child.process() == key) {
        match child {
            WorkflowId::Rollout { .. } => rolls = true,
            WorkflowId::Drain { build_id, .. } => drop(drains.insert(build_id.to_string())),
            WorkflowId::Lifecycle(_) => {}
        }
    }
    let lacks_rollout = (process.rolling && !rolls).then(|| "rollout".to_owned());
    let lacks_drains = process
        .draining
        .iter()
        .map(|version| BuildId::from_observed(&version.build_id).to_string())
        .filter(|build_id| !drains.contains(build_id));
    let missing: Vec<String> = lacks_rollout.into_iter().chain(lacks_drains).collect();
    (!missing.is_empty()).then(|| missing.join(" "))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use process_operator_activities::cache::Draining;
    use process_operator_workflows::contract::ProcessKey;

    use super::*;

    fn key(name: &str) -> ProcessKey {
        ProcessKey {
            namespace: "sales".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
        }
    }

    fn process() -> Neighbour {
        let draining = |build_id: &str| Draining {
            build_id: build_id.into(),
            since: Timestamp::UNIX_EPOCH,
            deadline: None,
            open: 1,
        };
        Neighbour {
            namespace: "sales".into(),
            name: "l2o".into(),
            uid: "uid-l2o".into(),
            rolling: true,
            draining: vec![draining("v1"), draining("v2")],
            ..Neighbour::default()
        }
    }

    #[test]
    fn what_a_process_tells_of_and_does_not_run_is_named() {
        let ids = |process: &str| {
            let key = key(process);
            vec![
                key.drain(&BuildId::from_observed("v1"), 3),
                key.drain(&BuildId::from_observed("v2"), 4),
                key.rollout(&BuildId::from_observed("v3"), 5),
            ]
        };
        let all: Vec<WorkflowId> = ids("l2o");
        assert_eq!(missing(&process(), &all), None);
        assert_eq!(missing(&process(), &all[1..]), Some("v1".into()));
        assert_eq!(missing(&process(), &all[..2]), Some("rollout".into()));
        let others: Vec<WorkflowId> = ids("other");
        assert_eq!(missing(&process(), &others), Some("rollout v1 v2".into()));
        let deleting = Neighbour {
            deleting: true,
            ..process()
        };
        assert_eq!(missing(&deleting, &[]), None, "it looks for itself");
    }
}
