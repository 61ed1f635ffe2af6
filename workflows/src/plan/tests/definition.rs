//! Definitions that are there, and those that are not.

use super::*;
use crate::contract::{DefinitionFailure, DefinitionView};

fn named(checksum: &str) -> DefinitionView {
    DefinitionView {
        config_map: "l2o-v3".into(),
        checksum: checksum.into(),
        version: Some(3),
        ..DefinitionView::default()
    }
}

fn failing(checksum: &str, reason: Reason) -> DefinitionView {
    DefinitionView {
        failure: Some(DefinitionFailure {
            reason,
            message: "the registry says no".into(),
        }),
        ..named(checksum)
    }
}

#[test]
fn nothing_is_deployed_before_it_is_there() {
    let seen = world(V1).change(|process| process.definition = Some(named("")));
    let mut state = memory();
    let plan = decide(&mut state, &seen);
    assert_eq!(applies(&plan), Vec::<&str>::new());
    assert!(plan.start.is_empty(), "{:?}", plan.start);
    assert_eq!(
        condition(&plan, ConditionType::Ready),
        (false, Reason::DefinitionNotFound)
    );
    assert_eq!(
        condition(&plan, ConditionType::DefinitionResolved),
        (false, Reason::DefinitionNotFound)
    );
    assert_eq!(status(&plan).definition, None);
}

#[test]
fn what_runs_is_left_alone_when_it_is_lost() {
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| process.definition = Some(named("")));
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(applies(&plan), Vec::<&str>::new());
    assert!(plan.start.is_empty() && plan.cancel.is_empty());
    assert!(condition(&plan, ConditionType::Ready).0);
    assert_eq!(
        condition(&plan, ConditionType::Degraded),
        (true, Reason::DefinitionNotFound)
    );
}

#[test]
fn what_may_not_be_read_is_tried_again_and_nobody_is_called() {
    let refused = DefinitionView {
        refused: "configmaps is forbidden".into(),
        ..named("")
    };
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| process.definition = Some(refused));
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(applies(&plan), Vec::<&str>::new());
    assert!(plan.start.is_empty() && plan.cancel.is_empty());
    assert_eq!(
        plan.again.as_ref().map(|why| why.category),
        Some(ErrorCategory::Forbidden)
    );
    for (kind, wanted) in [
        (ConditionType::Degraded, (true, Reason::Forbidden)),
        (
            ConditionType::DefinitionResolved,
            (false, Reason::Forbidden),
        ),
        (ConditionType::Reconciling, (true, Reason::Forbidden)),
        (ConditionType::Stalled, (false, Reason::AsExpected)),
    ] {
        assert_eq!(condition(&plan, kind), wanted, "{kind}");
    }
    let ready = condition(&plan, ConditionType::Ready);
    assert!(ready.0, "{ready:?}");
}

#[test]
fn a_lost_copy_has_the_version_applied_again() {
    let mut seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| process.definition = Some(named("sha256:0")));
    let mut state = settled();
    assert_eq!(applies(&decide(&mut state, &seen)), Vec::<&str>::new());
    for version in seen.versions.values_mut() {
        version.definition_lost = true;
    }
    let plan = decide(&mut state, &seen);
    assert_eq!(applies(&plan), [V1]);
    assert_eq!(
        condition(&plan, ConditionType::DefinitionResolved),
        (true, Reason::DefinitionFound)
    );
}

#[test]
fn a_registry_that_is_away_holds_the_first_version_back_and_is_asked_again() {
    let away = Reason::RegistryUnavailable;
    let seen = world(V1).change(|process| process.definition = Some(failing("", away)));
    let plan = decide(&mut memory(), &seen);
    assert_eq!(applies(&plan), Vec::<&str>::new());
    assert_eq!(condition(&plan, ConditionType::Ready), (false, away));
    assert_eq!(
        condition(&plan, ConditionType::DefinitionResolved),
        (false, away)
    );
    assert!(condition(&plan, ConditionType::Reconciling).0);
    assert!(!condition(&plan, ConditionType::Stalled).0);
    let refused = Reason::RegistryNotAllowed;
    let seen = world(V1).change(|process| process.definition = Some(failing("", refused)));
    let plan = decide(&mut memory(), &seen);
    assert_eq!(condition(&plan, ConditionType::Stalled), (true, refused));
}

#[test]
fn what_was_fetched_before_is_used_while_the_registry_is_away() {
    let away = Reason::RegistryUnavailable;
    let mut seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| process.definition = Some(failing("sha256:0", away)));
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert!(applies(&plan).is_empty() && plan.cancel.is_empty());
    assert!(condition(&plan, ConditionType::Ready).0);
    assert_eq!(condition(&plan, ConditionType::Degraded), (true, away));
    assert_eq!(
        condition(&plan, ConditionType::DefinitionResolved),
        (false, away)
    );
    assert!(!condition(&plan, ConditionType::Stalled).0);
    assert!(status(&plan).definition.is_some());
    if let Some(process) = &mut seen.process {
        process.definition = Some(named("sha256:0"));
    }
    let plan = decide(&mut state, &seen);
    assert!(!condition(&plan, ConditionType::Degraded).0);
}

#[test]
fn what_is_no_version_is_said_beside_what_was_found() {
    let unversioned = DefinitionView {
        version: None,
        unversioned: "its label is no version".into(),
        ..named("sha256:0")
    };
    let seen = world(V1).change(|process| process.definition = Some(unversioned));
    let plan = decide(&mut memory(), &seen);
    assert_eq!(applies(&plan), [V1]);
    let said = status(&plan).conditions.iter();
    let mut said = said.filter(|it| it.type_ == ConditionType::DefinitionResolved);
    let said = said.next().map(|it| it.message.as_str());
    let wanted = "ConfigMap l2o-v3, sha256:0; its label is no version";
    assert_eq!(said, Some(wanted));
    assert_eq!(
        condition(&plan, ConditionType::DefinitionResolved),
        (true, Reason::DefinitionFound)
    );
}
