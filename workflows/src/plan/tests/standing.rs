//! What stands above verbs, and what happens when worlds change under a rollout.

use super::requests::{ask, asked, at_stage, held, ramping, rolling};
use super::*;
use crate::contract::{Progress, RolloutPolicy, Stage, StepFailure, Verb};
use process_operator_crds::spec::{RolloutStep, RolloutStrategy};

const V3: &str = "v3-00000003";

fn managed(mut seen: Observation) -> Observation {
    seen.routing.foreign_manager = Some("somebody".into());
    seen
}

fn on_the_way() -> Progress {
    at_stage(Stage::Pausing, 1, 10)
}

#[test]
fn suspend_stands_above_the_specs_pause_and_that_above_requests() {
    let mut state = rolling(Some(on_the_way()));
    let seen = |suspend, paused| {
        ramping().change(|process| {
            process.suspend = suspend;
            process.paused = paused;
        })
    };
    let plan = ask(&mut state, &seen(false, false), &asked(Verb::Pause));
    assert_eq!(orders(&plan), [("r", Order::Pause)], "by request");
    for (suspend, paused) in [(false, true), (true, true), (true, false), (true, true)] {
        let plan = decide(&mut state, &seen(suspend, paused));
        assert_eq!(orders(&plan), [], "it is paused already");
    }
    let plan = ask(&mut state, &seen(true, true), &asked(Verb::Resume));
    assert!(!plan.answers[0].1.accepted, "not while suspended");
    let plan = ask(&mut state, &seen(false, true), &asked(Verb::Resume));
    assert!(plan.answers[0].1.accepted);
    assert_eq!(orders(&plan), [], "the spec's pause stands above it");
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (true, Reason::Paused)
    );
    let plan = decide(&mut state, &seen(false, false));
    assert_eq!(orders(&plan), [("r", Order::Resume)]);
}

#[test]
fn a_rollout_may_begin_paused() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .change(|process| process.paused = true);
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
    assert_eq!(orders(&plan), [], "it is told with its input");
    let free = seen.change(|process| process.paused = false);
    assert_eq!(orders(&decide(&mut state, &free)).len(), 1);
}

#[test]
fn the_steps_of_a_canary_are_remembered_unless_it_goes_at_once() {
    let policy = RolloutPolicy {
        strategy: RolloutStrategy::Canary,
        steps: vec![
            RolloutStep {
                weight: 10,
                pause: None,
                gate: None,
                analysis: None,
            };
            2
        ],
        ..RolloutPolicy::default()
    };
    let seen = world(V2).change(|process| process.policy = policy);
    let first = seen.clone();
    let second = seen
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let mut back = second.clone();
    back.routing.served.insert(V2.into(), now());
    let cases = [
        (
            "a first version",
            memory(),
            first,
            (true, 0, "RolloutStarted"),
        ),
        (
            "a second one",
            settled(),
            second,
            (false, 2, "RolloutStarted"),
        ),
        (
            "an earlier one",
            settled(),
            back,
            (true, 0, "RollbackStarted"),
        ),
    ];
    for (name, mut state, seen, expected) in cases {
        let plan = decide(&mut state, &seen);
        let Some(Child::Rollout { at_once, .. }) = plan.start.first() else {
            panic!("{name}: a rollout");
        };
        let steps = state.rollout.as_ref().unwrap().steps;
        let what = state.history.last().unwrap().what.as_str();
        assert_eq!((*at_once, steps, what), expected, "{name}");
    }
}

#[test]
fn a_superseded_canary_is_cancelled_and_the_next_starts_whatever_was_asked_for() {
    for paused in [None, Some("by alice".to_owned())] {
        let mut state = rolling(Some(held(ErrorCategory::AnalysisFailed)));
        state.rollout.as_mut().unwrap().paused = paused;
        let seen = ramping().change(|process| {
            process.build_id = V3.into();
            process.deployment_name = format!("l2o-{V3}");
        });
        let plan = decide(&mut state, &seen);
        assert_eq!(plan.cancel, ["r"]);
        assert_eq!(
            starts(&plan),
            [format!("rollout {V3}")],
            "V2 has executions still: it goes when its weight is taken back"
        );
        let rollout = state.rollout.clone().unwrap();
        assert_eq!((rollout.paused, rollout.progress), (None, None));
        // What the old one tells at its end is about nobody any more.
        let report = ChildFinished {
            id: "r".into(),
            kind: ChildKind::Rollout,
            build_id: V2.into(),
            outcome: ChildOutcome::Failed,
            ..ChildFinished::default()
        };
        ask(&mut state, &seen, &told(report));
        assert_eq!(state.failed, None);
        assert!(state.rollout.is_some());
    }
}

#[test]
fn back_to_the_version_that_serves_ends_a_canary_and_starts_nothing() {
    let mut state = rolling(Some(on_the_way()));
    let seen = ramping().change(|process| {
        process.build_id = V1.into();
        process.deployment_name = format!("l2o-{V1}");
    });
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.cancel, ["r"]);
    assert!(
        plan.start.is_empty(),
        "V2 goes when its weight is taken back"
    );
    let mut back = seen.routed(V2, VersionState::Draining);
    back.routing.ramping = None;
    let plan = decide(&mut state, &back);
    assert_eq!(starts(&plan), [format!("drain {V2}")]);
}

#[test]
fn a_foreign_manager_does_not_end_a_rollout_by_steps_and_resume_takes_the_routing_back() {
    let mut state = rolling(Some(on_the_way()));
    let plan = decide(&mut state, &managed(ramping()));
    assert!(plan.cancel.is_empty(), "it finds out for itself, and holds");
    state.rollout.as_mut().unwrap().progress = Some(held(ErrorCategory::RoutingChanged));
    let plan = ask(&mut state, &managed(ramping()), &asked(Verb::Resume));
    assert_eq!(orders(&plan), [("r", Order::Retry)]);
    assert!(plan.cancel.is_empty() && plan.start.is_empty());
}

#[test]
fn a_foreign_manager_ends_a_rollout_without_steps() {
    let mut state = rolling(None);
    state.rollout.as_mut().unwrap().steps = 0;
    let plan = decide(&mut state, &managed(ramping()));
    assert_eq!(plan.cancel, ["r"]);
    assert!(plan.start.is_empty());
}

#[test]
fn a_foreign_manager_does_not_end_a_rollout_that_waits_for_a_promotion() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Inactive)
        .change(|process| process.policy.strategy = RolloutStrategy::Manual);
    let mut state = settled();
    assert_eq!(
        starts(&decide(&mut state, &seen)),
        [format!("rollout {V2}")]
    );
    let plan = decide(&mut state, &managed(seen.clone()));
    assert!(plan.cancel.is_empty(), "whatever it does, it is by hand");
    // Found under way by a lifecycle that remembers nothing.
    let mut state = rolling(Some(at_stage(Stage::WaitingForPromotion, 0, 0)));
    state.rollout.as_mut().unwrap().steps = 0;
    let plan = decide(&mut state, &managed(seen.clone()));
    assert!(plan.cancel.is_empty(), "it says what it waits for");
    // A way back is not by hand.
    let mut back = seen;
    back.routing.served.insert(V2.into(), now());
    let mut state = settled();
    decide(&mut state, &back);
    assert_eq!(decide(&mut state, &managed(back)).cancel.len(), 1);
}

#[test]
fn a_change_of_routing_that_is_not_let_through_is_told_until_it_is() {
    let waits = Progress {
        waits: Some(StepFailure::new(
            ErrorCategory::RateLimited,
            "the change of routing waits for its turn: too much",
        )),
        ..at_stage(Stage::Weighting, 1, 0)
    };
    let mut state = rolling(Some(waits));
    let plan = decide(&mut state, &ramping());
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (true, Reason::RateLimited)
    );
    state.rollout.as_mut().unwrap().progress = Some(on_the_way());
    let plan = decide(&mut state, &ramping());
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (true, Reason::WaitingForPromotion)
    );
}

#[test]
fn resume_under_a_foreign_manager_starts_a_rollout_that_takes_over() {
    for target in [V1, V2] {
        let mut seen = managed(ramping());
        seen.routing.ramping = None;
        let seen = seen.change(|process| process.build_id = target.into());
        let mut state = settled();
        let plan = ask(&mut state, &seen, &asked(Verb::Resume));
        let [
            Child::Rollout {
                build_id,
                take_over,
                ..
            },
        ] = &plan.start[..]
        else {
            panic!("one rollout: {:?}", plan.start);
        };
        assert_eq!((build_id.as_str(), *take_over), (target, true));

        // Until it has taken over, the manager is the other one still.
        let again = decide(&mut state, &seen);
        assert!(again.cancel.is_empty(), "it is what was asked for");
        assert!(again.start.is_empty(), "once");
        assert!(!state.take_over);
    }
}

#[test]
fn a_rollout_that_takes_over_gives_way_to_another_spec() {
    let mut seen = managed(ramping());
    seen.routing.ramping = None;
    let mut state = settled();
    let plan = ask(&mut state, &seen, &asked(Verb::Resume));
    let [Child::Rollout { id, .. }] = &plan.start[..] else {
        panic!("one rollout");
    };
    let other = seen.change(|process| process.build_id = V3.into());
    let plan = decide(&mut state, &other);
    assert_eq!(&plan.cancel, std::slice::from_ref(id));
    assert!(plan.start.is_empty(), "the other's routing is left to them");
}

#[test]
fn resume_while_the_cancelled_rollout_has_not_ended_yet_is_not_lost() {
    let mut state = rolling(None);
    state.rollout.as_mut().unwrap().steps = 0;
    let seen = managed(ramping());
    decide(&mut state, &seen);
    assert!(state.rollout.as_ref().unwrap().cancelled);
    let plan = ask(&mut state, &seen, &asked(Verb::Resume));
    assert!(plan.answers[0].1.accepted);
    assert_eq!(orders(&plan), [], "nobody hears any more");
    let report = ChildFinished {
        id: "r".into(),
        kind: ChildKind::Rollout,
        build_id: V2.into(),
        outcome: ChildOutcome::Canceled,
        ..ChildFinished::default()
    };
    let plan = ask(&mut state, &seen, &told(report));
    assert!(
        matches!(
            &plan.start[..],
            [Child::Rollout {
                take_over: true,
                ..
            }]
        ),
        "{:?}",
        plan.start
    );
}

#[test]
fn what_a_rollout_tells_is_written_down_once() {
    let mut state = rolling(None);
    let mut tell = |progress: Progress| {
        state.rollout.as_mut().unwrap().progress = Some(progress);
        let before = state.history.len();
        decide(&mut state, &ramping());
        decide(&mut state, &ramping());
        let told = state.history[before..].iter();
        told.map(|it| (it.what.clone(), it.reason.clone()))
            .collect::<Vec<_>>()
    };
    let line = |what: &str, reason: &str| (what.to_owned(), reason.to_owned());
    let passed = Progress {
        gate: "smoke completed".into(),
        ..at_stage(Stage::WaitingForPromotion, 0, 0)
    };
    assert_eq!(
        tell(passed.clone()),
        [
            line("GateEnded", "smoke completed"),
            line("WaitingForPromotion", "it goes on when it is promoted"),
        ]
    );
    let weighted = Progress {
        due: Some(now()),
        gate: passed.gate,
        ..on_the_way()
    };
    assert_eq!(
        tell(weighted.clone()),
        [line("WeightChanged", "step 1 of 3: 10 % of new workflows")]
    );
    let held = Progress {
        gate: weighted.gate,
        ..held(ErrorCategory::AnalysisFailed)
    };
    assert_eq!(
        tell(held),
        [line("RolloutHeld", "2 of 10 closed executions failed")]
    );
}
