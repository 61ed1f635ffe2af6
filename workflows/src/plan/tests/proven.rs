//! What has served and what was merely on its way there, whatever the server saw for a moment.

use std::collections::BTreeSet;

use process_operator_crds::spec::{RolloutStep, RolloutStrategy};

use super::requests::{ask, asked, asked_with};
use super::*;
use crate::contract::{RolloutPolicy, Transition, Verb, VerbArgs};

const V3: &str = "v3-00000003";

/// V1 serves; the spec asks for `build_id`, by one step.
fn canary(build_id: &str) -> Observation {
    let step = RolloutStep {
        weight: 10,
        pause: None,
        gate: None,
        analysis: None,
    };
    let mut seen = world(build_id)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| {
            process.policy = RolloutPolicy {
                strategy: RolloutStrategy::Canary,
                steps: vec![step],
                ..RolloutPolicy::default()
            };
        });
    seen.routing.served.insert(V1.into(), now());
    seen
}

/// The same, after V2 has been Current.
fn seen_current(mut seen: Observation) -> Observation {
    seen.routing.served.insert(V2.into(), now());
    seen
}

/// V2 is Current.
fn promoted(seen: Observation) -> Observation {
    seen_current(seen)
        .routed(V1, VersionState::Draining)
        .routed(V2, VersionState::Current)
}

fn ended(state: &State, outcome: ChildOutcome) -> Inbox {
    let rollout = state.rollout.as_ref().unwrap();
    told(ChildFinished {
        id: rollout.id.clone(),
        kind: ChildKind::Rollout,
        build_id: rollout.build_id.clone(),
        outcome,
        category: ErrorCategory::RolloutAborted.metric_label().into(),
        message: "aborted by alice".into(),
    })
}

/// Whether the one rollout that is started goes without steps.
fn at_once(plan: &Plan) -> bool {
    let rollouts = plan.start.iter().filter_map(|child| match child {
        Child::Rollout { at_once, .. } => Some(*at_once),
        Child::Drain { .. } => None,
    });
    let [at_once] = rollouts.collect::<Vec<_>>()[..] else {
        panic!("one rollout: {:?}", plan.start);
    };
    at_once
}

#[test]
fn retry_after_an_abort_of_the_promotion_goes_by_gates_and_steps() {
    let mut state = settled();
    assert!(!at_once(&decide(&mut state, &canary(V2))));
    // Seen while it was being taken back.
    decide(&mut state, &promoted(canary(V2)));
    let aborted = ended(&state, ChildOutcome::Failed);
    let back = seen_current(canary(V2));
    ask(&mut state, &back, &aborted);
    let plan = ask(&mut state, &back, &asked(Verb::Retry));
    assert!(!at_once(&plan));
    assert_eq!(state.history.last().unwrap().what, "RolloutStarted");
    // And so does the one after that.
    let aborted = ended(&state, ChildOutcome::Failed);
    ask(&mut state, &back, &aborted);
    assert!(!at_once(&ask(&mut state, &back, &asked(Verb::Retry))));
}

#[test]
fn a_version_that_was_superseded_on_its_way_takes_its_steps_when_it_is_wanted_again() {
    let mut state = settled();
    decide(&mut state, &canary(V2));
    decide(&mut state, &canary(V3));
    let plan = decide(&mut state, &seen_current(canary(V2)));
    assert!(!at_once(&plan));
}

#[test]
fn a_version_whose_rollout_has_come_to_its_end_goes_back_at_once() {
    let mut state = settled();
    decide(&mut state, &canary(V2));
    let completed = ended(&state, ChildOutcome::Completed);
    ask(&mut state, &promoted(canary(V2)), &completed);
    assert!(state.unproven.is_empty());
    // Back to V1, which fails, and is tried again.
    let back = || promoted(canary(V1));
    assert!(at_once(&decide(&mut state, &back())));
    let aborted = ended(&state, ChildOutcome::Failed);
    ask(&mut state, &back(), &aborted);
    assert!(at_once(&ask(&mut state, &back(), &asked(Verb::Retry))));
    assert_eq!(state.history.last().unwrap().what, "RollbackStarted");
}

#[test]
fn a_memory_of_no_more_than_the_failure_is_enough() {
    let remembered = |what: &str| State {
        failed: Some(FailedVersion {
            build_id: V2.into(),
            category: ErrorCategory::RolloutAborted,
            message: "aborted by alice".into(),
            available: true,
        }),
        history: vec![Transition {
            what: what.into(),
            build_id: V2.into(),
            ..Transition::default()
        }],
        ..settled()
    };
    for (what, back) in [
        ("RolloutStarted", false),
        ("WeightChanged", false),
        ("RollbackStarted", true),
    ] {
        let mut state = remembered(what);
        let seen = seen_current(canary(V2));
        let plan = ask(&mut state, &seen, &asked(Verb::Retry));
        assert_eq!(at_once(&plan), back, "{what}");
        // Also when the spec was another one in between.
        let mut state = remembered(what);
        decide(&mut state, &canary(V1));
        assert_eq!(at_once(&decide(&mut state, &seen)), back, "{what}");
    }
}

#[test]
fn undo_does_not_take_a_version_that_was_on_its_way_for_an_earlier_one() {
    let mut state = settled();
    decide(&mut state, &canary(V2));
    decide(&mut state, &canary(V1));
    let seen = seen_current(canary(V1));
    let plan = ask(&mut state, &seen, &asked(Verb::Undo));
    assert_eq!(plan.answers[0].1.message, "no earlier version is kept");
    let args = VerbArgs {
        build_id: V2.into(),
        ..VerbArgs::default()
    };
    let plan = ask(&mut state, &seen, &asked_with(Verb::Undo, args));
    assert!(!at_once(&plan), "by its steps, for whoever names it");
}

#[test]
fn of_versions_that_are_not_known_any_more_nothing_is_remembered() {
    let mut state = settled();
    state.unproven = ["v0-00000000".into(), V2.into()].into();
    decide(&mut state, &canary(V3));
    assert_eq!(state.unproven, BTreeSet::from([V2.into(), V3.into()]));
}

#[test]
fn a_rollout_that_is_superseded_hears_whether_its_version_counts_as_current() {
    let mut state = settled();
    decide(&mut state, &canary(V2));
    let id = state.rollout.clone().unwrap().id;
    let plan = decide(&mut state, &promoted(canary(V3)));
    assert_eq!(orders(&plan), [(id.as_str(), Order::Keep)]);
    assert_eq!(plan.cancel, std::slice::from_ref(&id));
    assert!(
        matches!(&plan.start[..], [Child::Drain { .. }, Child::Rollout { stable, .. }]
            | [Child::Rollout { stable, .. }, Child::Drain { .. }] if stable == V2),
        "the next one builds on it: {:?}",
        plan.start
    );
    assert!(!state.unproven.contains(V2));

    // Not yet: a promotion that gets through later is taken back.
    let mut state = settled();
    decide(&mut state, &canary(V2));
    let plan = decide(&mut state, &canary(V3));
    assert_eq!(orders(&plan), []);
    assert_eq!(plan.cancel, std::slice::from_ref(&id));

    // As it was decided by earlier rules.
    let mut state = settled();
    decide(&mut state, &canary(V2));
    let mut seen = promoted(canary(V3));
    seen.settings.rules = 1;
    let plan = decide(&mut state, &seen);
    assert_eq!(orders(&plan), []);
    assert_eq!(plan.cancel, [id]);
}
