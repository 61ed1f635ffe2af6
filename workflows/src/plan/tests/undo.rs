//! Ways back: undo, what is given up, what is kept.

use super::requests::{ask, asked, asked_with, at_stage, events, ramping, rolling};
use super::*;
use crate::contract::{EventType, Stage, Undone, Verb, VerbArgs};

const V0: &str = "v0-00000000";

fn minutes_ago(minutes: i64) -> Timestamp {
    now() - SignedDuration::from_mins(minutes)
}

/// V2 serves, as the spec says; V1 and V0 served before it and are kept.
fn third() -> (State, Observation) {
    let mut seen = world(V2)
        .with(V0, None)
        .with(V1, None)
        .with(V2, Some(deployment(2)))
        .routed(V2, VersionState::Current);
    for (build_id, minutes) in [(V0, 120), (V1, 60)] {
        let version = seen.versions.get_mut(build_id).unwrap();
        version.retired = Some(minutes_ago(minutes));
    }
    seen.routing.served.insert(V2.into(), minutes_ago(90));
    let mut state = settled();
    state.current.as_mut().unwrap().build_id = V2.into();
    state.target = Some((V2.into(), now()));
    (state, seen)
}

/// As [`third`], and V1 is back by request.
fn undone() -> (State, Observation) {
    let (mut state, seen) = third();
    ask(&mut state, &seen, &asked(Verb::Undo));
    state.rollout = None;
    state.current.as_mut().unwrap().build_id = V1.into();
    let mut seen = seen
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Draining);
    seen.routing.served.insert(V1.into(), now());
    (state, seen)
}

fn to(build_id: &str) -> VerbArgs {
    VerbArgs {
        actor: "alice".into(),
        build_id: build_id.into(),
        ..VerbArgs::default()
    }
}

#[test]
fn undo_brings_back_the_version_that_was_current_last_at_once() {
    let (mut state, seen) = third();
    let plan = ask(&mut state, &seen, &asked(Verb::Undo));
    assert_eq!(applies(&plan), [V1], "its Deployment is made again");
    let [
        Child::Rollout {
            build_id,
            deployment_name,
            stable,
            at_once,
            take_over,
            ..
        },
    ] = &plan.start[..]
    else {
        panic!("one rollout: {:?}", plan.start);
    };
    assert_eq!((build_id.as_str(), stable.as_str()), (V1, V2));
    assert_eq!(deployment_name, &format!("l2o-{V1}"));
    assert!(
        *at_once && !take_over,
        "it has been through all steps before"
    );
    let told: Vec<_> = state.history.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(told, ["UndoRequested", "RollbackStarted"]);
    assert_eq!(state.history[0].build_id, V1);
}

#[test]
fn undo_takes_the_version_that_is_asked_for() {
    let (mut state, seen) = third();
    let plan = ask(&mut state, &seen, &asked_with(Verb::Undo, to(V0)));
    assert_eq!(starts(&plan), [format!("rollout {V0}")]);
    assert_eq!(
        state.undone,
        Some(Undone {
            from: V2.into(),
            to: V0.into(),
            why: "by alice".into(),
        })
    );
}

#[test]
fn undo_prefers_what_the_server_saw_serve_last() {
    let (mut state, mut seen) = third();
    // Not retired yet: its record tells.
    seen.versions.get_mut(V0).unwrap().retired = None;
    seen.routing.served.insert(V0.into(), minutes_ago(30));
    let plan = ask(&mut state, &seen, &asked(Verb::Undo));
    assert_eq!(starts(&plan)[0], format!("rollout {V0}"));
}

#[test]
fn undo_is_not_misled_by_a_version_that_took_long_to_drain() {
    // As long as the server has a record it knows better than the mark.
    let (mut state, mut seen) = third();
    seen.versions.get_mut(V0).unwrap().retired = Some(minutes_ago(5));
    seen.routing.served.insert(V0.into(), minutes_ago(120));
    let plan = ask(&mut state, &seen, &asked(Verb::Undo));
    assert_eq!(starts(&plan)[0], format!("rollout {V1}"));
}

#[test]
fn undo_never_takes_a_version_that_has_not_served() {
    let (mut state, mut seen) = third();
    for version in seen.versions.values_mut() {
        version.retired = None;
    }
    let plan = ask(&mut state, &seen, &asked(Verb::Undo));
    assert_eq!(
        plan.answers[0].1.message, "no earlier version is kept",
        "{:?}",
        state.undone
    );
    assert!(
        plan.start
            .iter()
            .all(|child| matches!(child, Child::Drain { .. }))
    );
}

#[test]
fn undo_to_what_is_not_kept_is_refused() {
    let (mut state, seen) = third();
    let plan = ask(&mut state, &seen, &asked_with(Verb::Undo, to("v9")));
    assert_eq!(
        (
            plan.answers[0].1.accepted,
            plan.answers[0].1.message.as_str()
        ),
        (false, "version v9 is not kept")
    );
    assert_eq!(events(&plan)[0].0, EventType::Warning);
    assert!(state.undone.is_none() && plan.start.is_empty());
}

#[test]
fn what_is_undone_stays_so_while_the_spec_is_unchanged() {
    let (mut state, seen) = undone();
    let plan = decide(&mut state, &seen);
    assert_eq!(
        starts(&plan),
        [format!("drain {V2}")],
        "the spec's version goes"
    );
    assert_eq!(applies(&plan), [] as [&str; 0]);
    assert_eq!(
        condition(&plan, ConditionType::Degraded),
        (true, Reason::Undone)
    );
    let again = decide(&mut state, &seen);
    assert!(again.start.is_empty() && again.cancel.is_empty());
    assert!(state.undone.is_some());
}

#[test]
fn what_is_undone_ends_when_the_spec_changes() {
    let (mut state, seen) = undone();
    let seen = seen.change(|process| {
        process.build_id = "v3-00000003".into();
        process.deployment_name = "l2o-v3-00000003".into();
    });
    let plan = decide(&mut state, &seen);
    assert_eq!(state.undone, None);
    assert_eq!(starts(&plan)[0], "rollout v3-00000003");
    assert!(!condition(&plan, ConditionType::Degraded).0);
}

#[test]
fn what_is_undone_ends_when_the_spec_asks_for_the_same() {
    let (mut state, seen) = undone();
    let seen = seen.change(|process| {
        process.build_id = V1.into();
        process.deployment_name = format!("l2o-{V1}");
    });
    let plan = decide(&mut state, &seen);
    assert_eq!(state.undone, None);
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::Settled)
    );
}

#[test]
fn undo_to_the_specs_version_and_retry_both_take_the_undo_back() {
    for inbox in [
        asked_with(Verb::Undo, to(V2)),
        asked(Verb::Retry),
        asked(Verb::Undo),
    ] {
        let (mut state, seen) = undone();
        let verb = inbox.requests[0].verb;
        let plan = ask(&mut state, &seen, &inbox);
        assert!(plan.answers[0].1.accepted, "{verb}");
        assert_eq!(state.undone, None, "{verb}");
        assert_eq!(starts(&plan), [format!("rollout {V2}")], "{verb}");
    }
}

#[test]
fn an_undone_version_that_is_kept_no_more_gives_way_to_the_spec() {
    let (mut state, mut seen) = undone();
    seen.versions.get_mut(V1).unwrap().revision = false;
    decide(&mut state, &seen);
    assert_eq!(state.undone, None);
}

#[test]
fn undo_during_a_rollout_is_refused() {
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    let plan = ask(&mut state, &ramping(), &asked_with(Verb::Undo, to(V0)));
    assert!(!plan.answers[0].1.accepted);
    assert!(plan.start.is_empty() && plan.cancel.is_empty());
}

/// V2 is the spec's and was given up; V1 serves.
fn given_up(category: ErrorCategory) -> State {
    State {
        failed: Some(FailedVersion {
            build_id: V2.into(),
            category,
            message: "2 of 10 closed executions failed".into(),
            available: true,
        }),
        target: Some((V2.into(), now())),
        ..settled()
    }
}

/// The weight of V2 is taken back.
fn taken_back() -> Observation {
    world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Draining)
}

#[test]
fn a_version_that_is_given_up_is_drained_though_it_is_the_specs_and_stays_away() {
    for category in [
        ErrorCategory::AnalysisFailed,
        ErrorCategory::GateFailed,
        ErrorCategory::RolloutAborted,
        ErrorCategory::RoutingChanged,
    ] {
        let mut state = given_up(category);
        let plan = decide(&mut state, &taken_back());
        assert_eq!(starts(&plan), [format!("drain {V2}")], "{category}");
        assert_eq!(state.history.last().unwrap().reason, "given up");
        let again = decide(&mut state, &taken_back());
        assert!(again.start.is_empty() && again.cancel.is_empty());

        // The drain has removed its Deployment, then all of it.
        let mut going = taken_back().routed(V2, VersionState::Drained);
        going.versions.get_mut(V2).unwrap().deployment = None;
        let plan = decide(&mut state, &going);
        assert_eq!(applies(&plan), [] as [&str; 0], "it is not re-made");
        let report = ChildFinished {
            id: state.drains[V2].id.clone(),
            kind: ChildKind::Drain,
            build_id: V2.into(),
            outcome: ChildOutcome::Completed,
            ..ChildFinished::default()
        };
        let gone = world(V2)
            .with(V1, Some(deployment(2)))
            .routed(V1, VersionState::Current);
        let plan = ask(&mut state, &gone, &told(report));
        assert!(plan.start.is_empty(), "{category}: {:?}", plan.start);
        assert_eq!(applies(&plan), [] as [&str; 0]);
        assert!(decide(&mut state, &gone).start.is_empty());
    }
}

#[test]
fn a_version_that_was_given_up_and_is_current_all_the_same_has_not_failed() {
    let mut state = given_up(ErrorCategory::RolloutAborted);
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Draining)
        .routed(V2, VersionState::Current);
    let plan = decide(&mut state, &seen);
    assert_eq!(state.failed, None, "somebody has routed to it by hand");
    assert!(!condition(&plan, ConditionType::Stalled).0);
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::Settled)
    );
    assert_eq!(starts(&plan), [format!("drain {V1}")]);
}

#[test]
fn a_version_that_did_not_get_ready_is_kept_for_another_look() {
    let mut state = given_up(ErrorCategory::ProgressDeadlineExceeded);
    let mut seen = taken_back();
    seen.routing.versions.remove(V2);
    assert!(decide(&mut state, &seen).start.is_empty());
}

#[test]
fn retry_after_an_abort_rolls_out_again_and_calls_the_drain_off() {
    let mut state = given_up(ErrorCategory::RolloutAborted);
    decide(&mut state, &taken_back());
    let drain = state.drains[V2].id.clone();
    let plan = ask(&mut state, &taken_back(), &asked(Verb::Retry));
    assert_eq!(plan.cancel, [drain]);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
    assert_eq!(state.failed, None);
    let [Child::Rollout { at_once, .. }] = &plan.start[..] else {
        panic!("one rollout");
    };
    assert!(!at_once, "by all its steps, since it has never served");
}

#[test]
fn retry_re_makes_what_the_drain_has_removed_already() {
    let mut state = given_up(ErrorCategory::RolloutAborted);
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = ask(&mut state, &seen, &asked(Verb::Retry));
    assert_eq!(applies(&plan), [V2]);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
}

#[test]
fn what_is_kept_of_a_retired_version_is_left_alone() {
    let (mut state, seen) = third();
    let plan = decide(&mut state, &seen);
    assert!(plan.start.is_empty(), "{:?}", plan.start);
    assert_eq!(applies(&plan), [] as [&str; 0]);
    assert!(plan.settled.is_some());
    // A record that is left over is removed still.
    let seen = seen.routed(V0, VersionState::Drained);
    assert_eq!(starts(&decide(&mut state, &seen)), [format!("drain {V0}")]);
}
