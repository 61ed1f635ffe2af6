//! What the conditions of a Process say while it is being deleted.

use super::*;
use crate::contract::{DefinitionView, DeletionView, StepFailure};

fn going() -> Observation {
    let view = DeletionView {
        since: now(),
        ..DeletionView::default()
    };
    world(V1).with(V1, Some(deployment(2))).change(|process| {
        process.deleting = true;
        process.deletion = Some(view);
    })
}

/// `Degraded` and `TemporalReachable`, while this is in the way.
fn told_of(category: Option<ErrorCategory>) -> [(bool, Reason); 2] {
    let mut state = settled();
    decide(&mut state, &going());
    let memory = state.deletion.as_mut().unwrap();
    memory.progress.trouble = category.map(|category| StepFailure::new(category, "held"));
    let plan = decide(&mut state, &going());
    [ConditionType::Degraded, ConditionType::TemporalReachable].map(|kind| condition(&plan, kind))
}

const REACHABLE: (bool, Reason) = (true, Reason::TemporalReachable);

#[test]
fn what_holds_it_is_told_and_temporal_only_when_it_is_that() {
    assert_eq!(told_of(None), [(false, Reason::Deleting), REACHABLE]);
    for (category, reason) in [
        (
            ErrorCategory::TemporalUnavailable,
            Reason::TemporalUnavailable,
        ),
        (ErrorCategory::Forbidden, Reason::Forbidden),
    ] {
        assert_eq!(told_of(Some(category)), [(true, reason), (false, reason)]);
    }
    let refused = told_of(Some(ErrorCategory::Conflict));
    assert_eq!(refused, [(true, Reason::Conflict), REACHABLE]);
}

#[test]
fn a_step_that_fails_makes_it_degraded() {
    let mut state = settled();
    let seen = going();
    decide(&mut state, &seen);
    let failure = StepFailure::new(ErrorCategory::QuotaExceeded, "applying Deployment l2o");
    state.trouble = Some((failure, 1));
    let step = super::super::failing_status(&state, &key(), "run", &seen).unwrap();
    let plan = Plan {
        steps: vec![step],
        ..Plan::default()
    };
    tells_all(&plan);
    let wrong = (true, Reason::QuotaExceeded);
    assert_eq!(condition(&plan, ConditionType::Degraded), wrong);
    assert!(condition(&plan, ConditionType::TemporalReachable).0);
}

#[test]
fn its_definition_is_as_it_is() {
    let defined = |checksum: &str| {
        let definition = DefinitionView {
            config_map: "l2o-v3".into(),
            checksum: checksum.into(),
            ..DefinitionView::default()
        };
        let seen = going().change(|process| process.definition = Some(definition));
        let plan = decide(&mut settled(), &seen);
        condition(&plan, ConditionType::DefinitionResolved)
    };
    assert_eq!(defined("sha256:1"), (true, Reason::DefinitionFound));
    assert_eq!(defined(""), (false, Reason::DefinitionNotFound));
    let mut unreadable = going();
    unreadable.invalid = Some("spec.image: missing".into());
    let plan = decide(&mut settled(), &unreadable);
    let opaque = (true, Reason::OpaqueReference);
    let resolved = ConditionType::DefinitionResolved;
    assert_eq!(condition(&plan, resolved), opaque);
}

#[test]
fn what_older_rules_decided_is_decided_again() {
    let mut seen = going().change(|process| {
        process.definition = Some(DefinitionView::default());
    });
    seen.settings.rules = 0;
    let mut state = settled();
    decide(&mut state, &seen);
    let trouble = StepFailure::new(ErrorCategory::TemporalUnavailable, "held");
    state.deletion.as_mut().unwrap().progress.trouble = Some(trouble);
    let plan = decide(&mut state, &seen);
    for (kind, status) in [
        (ConditionType::Degraded, false),
        (ConditionType::TemporalReachable, true),
        (ConditionType::DefinitionResolved, true),
    ] {
        assert_eq!(condition(&plan, kind).0, status, "{kind}");
    }
}
