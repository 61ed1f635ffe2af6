//! What the conditions say after a rollout that was given up or undone.

use super::told::{message, told_of};
use super::*;
use crate::contract::Undone;

fn ended(category: ErrorCategory) -> State {
    State {
        failed: Some(FailedVersion {
            build_id: V2.into(),
            category,
            message: "said the check".into(),
            available: true,
        }),
        ..settled()
    }
}

fn taken_back() -> Observation {
    world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Draining)
}

#[test]
fn an_aborted_rollout_says_so_and_the_rest_says_why() {
    for (category, reason) in [
        (ErrorCategory::AnalysisFailed, Reason::AnalysisFailed),
        (ErrorCategory::GateFailed, Reason::GateFailed),
        (ErrorCategory::RoutingChanged, Reason::RoutingChanged),
        (ErrorCategory::RolloutAborted, Reason::RolloutAborted),
    ] {
        let plan = decide(&mut ended(category), &taken_back());
        assert_eq!(
            told_of(&plan),
            [
                (false, Reason::RolloutAborted),
                (true, reason),
                (true, reason)
            ]
        );
        assert!(condition(&plan, ConditionType::Ready).0);
        assert!(!condition(&plan, ConditionType::Reconciling).0);
        for kind in [ConditionType::Progressing, ConditionType::Degraded] {
            assert_eq!(message(&plan, kind), "said the check");
        }
        assert_eq!(status(&plan).rollout, None);
    }
}

#[test]
fn an_aborted_rollout_is_told_in_its_own_words_whatever_else_is_wrong() {
    let mut seen = taken_back();
    seen.routing.foreign_manager = Some("somebody".into());
    let plan = decide(&mut ended(ErrorCategory::AnalysisFailed), &seen);
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::RolloutAborted)
    );
    assert_eq!(
        message(&plan, ConditionType::Progressing),
        "said the check",
        "reason and message belong together"
    );
    assert_eq!(
        condition(&plan, ConditionType::Degraded),
        (true, Reason::DeploymentOwnedElsewhere)
    );
}

#[test]
fn an_undone_version_is_degraded_and_says_how_to_get_out_of_it() {
    let mut state = settled();
    state.undone = Some(Undone {
        from: V2.into(),
        to: V1.into(),
        why: "by alice (ticket 7)".into(),
    });
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = decide(&mut state, &seen);
    assert_eq!(
        told_of(&plan),
        [
            (false, Reason::Undone),
            (true, Reason::Undone),
            (true, Reason::Undone)
        ]
    );
    let told = message(&plan, ConditionType::Degraded);
    for words in [V1, V2, "by alice (ticket 7)", "`retry`"] {
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(
        condition(&plan, ConditionType::Ready),
        (true, Reason::Settled)
    );
}
