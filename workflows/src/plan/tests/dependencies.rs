//! What has to be there before the first version, and what is only told later.

use super::*;
use crate::contract::DependenciesView;

fn lacking(words: &[&str]) -> DependenciesView {
    DependenciesView {
        named: 2,
        lacking: words.iter().map(|&word| word.to_owned()).collect(),
    }
}

const WHY: &str = "Domain sales does not exist";

#[test]
fn the_first_version_waits_without_being_stuck() {
    let seen = world(V1).change(|process| process.dependencies = Some(lacking(&[WHY])));
    let plan = decide(&mut memory(), &seen);
    assert_eq!(applies(&plan), Vec::<&str>::new());
    assert!(plan.start.is_empty(), "{:?}", plan.start);
    let waits = Reason::DependencyNotReady;
    for (kind, wanted) in [
        (ConditionType::Ready, (false, waits)),
        (ConditionType::DependenciesReady, (false, waits)),
        (ConditionType::Degraded, (true, waits)),
        (ConditionType::Reconciling, (true, waits)),
        (ConditionType::Stalled, (false, Reason::AsExpected)),
    ] {
        assert_eq!(condition(&plan, kind), wanted, "{kind}");
    }
}

#[test]
fn a_running_version_is_left_alone_and_a_new_one_rolls() {
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| process.dependencies = Some(lacking(&[WHY])));
    let plan = decide(&mut settled(), &seen);
    assert_eq!(applies(&plan), Vec::<&str>::new());
    assert!(condition(&plan, ConditionType::Ready).0);
    assert_eq!(
        condition(&plan, ConditionType::Degraded),
        (true, Reason::DependencyNotReady)
    );
    assert!(!condition(&plan, ConditionType::Reconciling).0);
    assert!(!condition(&plan, ConditionType::Stalled).0);

    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| process.dependencies = Some(lacking(&[WHY])));
    let plan = decide(&mut settled(), &seen);
    assert_eq!(applies(&plan), [V2]);
}

#[test]
fn none_and_all_are_told_apart() {
    let seen = world(V1);
    let plan = decide(&mut memory(), &seen);
    assert_eq!(
        condition(&plan, ConditionType::DependenciesReady),
        (true, Reason::NoDependencies)
    );
    let seen = world(V1).change(|process| process.dependencies = Some(lacking(&[])));
    let plan = decide(&mut memory(), &seen);
    assert_eq!(
        condition(&plan, ConditionType::DependenciesReady),
        (true, Reason::DependenciesReady)
    );
}
