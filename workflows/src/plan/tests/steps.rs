//! A step that a rollout has told of, decided without a look.

use process_operator_crds::spec::Versioning;

use super::requests::{at_stage, held, ramping, rolling};
use super::*;
use crate::contract::{Progress, Stage, StepFailure};
use crate::plan::after_step;

fn stepped(progress: Progress) -> (State, Observation) {
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    let seen = ramping();
    decide(&mut state, &seen);
    state.rollout.as_mut().unwrap().take_in(progress);
    (state, seen)
}

fn next() -> Progress {
    at_stage(Stage::Pausing, 2, 50)
}

#[test]
fn what_follows_is_what_would_follow_a_look() {
    let (mut state, seen) = stepped(next());
    let known = after_step(&state, seen.clone()).expect("it is known");
    let mut looked = seen.clone();
    looked.routing.percent = 50;
    assert_eq!(known, looked);
    let by_look = decide(&mut state.clone(), &looked);
    let plan = decide(&mut state, &known);
    assert_eq!(plan, by_look);
    assert!(plan.tells_only());
    assert!(plan.details.contains("50 %"), "{}", plan.details);
    let rollout = status(&plan).rollout.as_ref().expect("a rollout");
    assert_eq!((rollout.step, rollout.weight), (2, 50));
}

type Change = fn(&mut State, &mut Observation);

#[test]
fn what_a_step_may_have_changed_is_looked_at() {
    let cases: &[(&str, Change)] = &[
        ("there is no rollout", |state, _| state.rollout = None),
        ("it is being stopped", |state, _| {
            state.rollout.as_mut().unwrap().cancelled = true;
        }),
        ("it has told nothing", |state, _| {
            state.rollout.as_mut().unwrap().progress = None;
        }),
        ("the Process goes", |_, seen| {
            seen.process.as_mut().unwrap().deleting = true;
        }),
        ("the Process is gone", |_, seen| seen.process = None),
        ("pods take the shares", |_, seen| {
            seen.process.as_mut().unwrap().versioning = Versioning::None;
        }),
        ("a ConfigMap has the routing", |_, seen| {
            seen.process.as_mut().unwrap().versioning = Versioning::TaskQueuePerVersion;
        }),
        ("the routing was not known", |_, seen| {
            seen.routing.state = RoutingState::Unknown;
        }),
        ("the version had no share", |_, seen| {
            seen.routing.ramping = None;
        }),
        ("another one had it", |_, seen| {
            seen.routing.ramping = Some("v3-00000003".into());
        }),
        ("somebody else manages it", |_, seen| {
            seen.routing.foreign_manager = Some("somebody".into());
        }),
    ];
    for (why, change) in cases {
        let (mut state, mut seen) = stepped(next());
        change(&mut state, &mut seen);
        assert_eq!(after_step(&state, seen), None, "{why}");
    }
}

#[test]
fn whatever_else_a_rollout_tells_is_looked_at() {
    let late = StepFailure::new(ErrorCategory::Unavailable, "the server is away");
    let told = [
        at_stage(Stage::Starting, 0, 0),
        at_stage(Stage::WaitingForPromotion, 0, 0),
        at_stage(Stage::Promoting, 2, 50),
        at_stage(Stage::Unwinding, 2, 50),
        held(ErrorCategory::AnalysisFailed),
        Progress {
            paused: true,
            ..next()
        },
        Progress {
            waits: Some(late),
            ..next()
        },
    ];
    for progress in told {
        let (state, seen) = stepped(progress.clone());
        assert_eq!(after_step(&state, seen), None, "{progress:?}");
    }
}

#[test]
fn only_what_tells_and_does_nothing_leaves_all_as_it_was() {
    let mut state = settled();
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    assert!(
        !decide(&mut state, &seen).tells_only(),
        "it starts a rollout"
    );
    let mut state = settled();
    let seen = world(V1).with(V1, None).routed(V1, VersionState::Current);
    assert!(
        !decide(&mut state, &seen).tells_only(),
        "it applies a Deployment"
    );
}
