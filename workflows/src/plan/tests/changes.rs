//! A changed spec: a rollout begins, is superseded, fails, or is held.

use super::requests::{at_stage, ramping, rolling};
use super::*;
use crate::contract::{EventType, Stage};

const V3: &str = "v3-00000003";

#[test]
fn a_changed_spec_rolls_out_beside_the_running_version() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = decide(&mut settled(), &seen);
    assert_eq!(applies(&plan), [V2]);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
    assert_eq!(
        condition(&plan, ConditionType::Ready),
        (true, Reason::RollingOut)
    );
}

#[test]
fn a_further_change_supersedes_the_rollout_and_the_half_made_version_goes() {
    let mut state = settled();
    state.rollout = Some(Rollout {
        id: "rollout-2".into(),
        build_id: V2.into(),
        since: now(),
        deadline: now(),
        cancelled: false,
        ..Rollout::default()
    });
    let seen = world("v3-00000003")
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(0)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Inactive);
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.cancel, ["rollout-2"]);
    assert_eq!(
        starts(&plan),
        ["rollout v3-00000003".to_owned(), format!("drain {V2}")]
    );
}

/// Why a rollout is not wanted any more, if that is told: in the history as in an Event.
fn superseded(state: &mut State, seen: &Observation) -> Option<String> {
    let before = state.history.len();
    let plan = decide(state, seen);
    let events = plan.steps.iter().filter_map(|step| match step {
        Step::Event {
            kind: EventType::Normal,
            reason,
            action,
            note,
            build_id,
            ..
        } if reason == "RolloutSuperseded" && action == "RollOut" && build_id == V2 => {
            Some(note.clone())
        }
        _ => None,
    });
    let mut events: Vec<String> = events.collect();
    let lines = state.history[before..].iter();
    let lines = lines.filter(|line| line.what == "RolloutSuperseded");
    let lines = lines.map(|line| format!("{}: {}", line.build_id, line.reason));
    assert_eq!(events, lines.collect::<Vec<_>>());
    assert!(events.len() < 2, "{events:?}");
    events.pop()
}

/// The second step of [`rolling`], with another version in the spec.
fn asks_for(build_id: &str) -> Observation {
    let mut seen = ramping().change(|process| {
        process.build_id = build_id.into();
        process.deployment_name = format!("l2o-{build_id}");
    });
    seen.routing.percent = 25;
    seen
}

#[test]
fn a_rollout_that_is_superseded_tells_its_share_and_what_is_asked_for_instead() {
    let ramped = || rolling(Some(at_stage(Stage::Pausing, 2, 20)));
    let unseen = Observation {
        routing: Routing::default(),
        ..asks_for(V3)
    };
    let mut early = asks_for(V3);
    early.routing.ramping = None;
    let cases = [
        (
            ramped(),
            asks_for(V3),
            "25 % of new workflows went to it, step 2 of 3; generation 3 of the spec asks for v3-00000003",
        ),
        (
            ramped(),
            asks_for(V1),
            "25 % of new workflows went to it, step 2 of 3; generation 3 of the spec asks for v1-00000001, \
             which serves",
        ),
        (
            rolling(None),
            early,
            "0 % of new workflows went to it; generation 3 of the spec asks for v3-00000003",
        ),
        (
            ramped(),
            unseen,
            "20 % of new workflows went to it, step 2 of 3; generation 3 of the spec asks for v3-00000003",
        ),
    ];
    for (mut state, seen, why) in cases {
        let told = superseded(&mut state, &seen);
        assert_eq!(told, Some(format!("{V2}: {why}")));
        assert_eq!(superseded(&mut state, &seen), None, "once");
    }
    // Also when nothing can begin in its place yet.
    let mut state = ramped();
    let blocked = Observation {
        queue_holder: Some("a/b".into()),
        ..asks_for(V3)
    };
    assert!(superseded(&mut state, &blocked).is_some());
    assert_eq!(superseded(&mut state, &blocked), None);
    assert_eq!(superseded(&mut state, &asks_for(V3)), None);
}

#[test]
fn a_rollout_that_ends_for_another_reason_is_not_superseded() {
    let mut current = asks_for(V3).routed(V2, VersionState::Current);
    current.routing.ramping = None;
    let mut managed = ramping();
    managed.routing.foreign_manager = Some("somebody".into());
    let unreadable = Observation {
        invalid: Some("spec.image is empty".into()),
        ..asks_for("")
    };
    for (name, seen) in [
        ("its version is Current", current),
        ("somebody else manages the Worker Deployment", managed),
        ("the object cannot be read", unreadable),
    ] {
        let mut state = rolling(None);
        state.rollout.as_mut().unwrap().steps = 0;
        assert_eq!(superseded(&mut state, &seen), None, "{name}");
        let rollout = state.rollout.as_ref();
        assert!(
            rollout.is_none_or(|it| it.cancelled || it.id != "r"),
            "{name}"
        );
    }
}

#[test]
fn the_old_version_drains_once_the_new_one_is_current() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Draining)
        .routed(V2, VersionState::Current);
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(starts(&plan), [format!("drain {V1}")]);
    assert_eq!(
        condition(&plan, ConditionType::Draining),
        (true, Reason::DrainingVersions)
    );
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::Settled)
    );
    let again = decide(&mut state, &seen);
    assert!(
        again.start.is_empty(),
        "a drain in flight is not started twice"
    );
}

#[test]
fn back_to_a_draining_version_calls_the_drain_off() {
    let mut state = settled();
    state.drains.insert(
        V2.into(),
        Drain {
            id: "drain-2".into(),
            ..Drain::default()
        },
    );
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Draining);
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.cancel, ["drain-2"]);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
}

#[test]
fn a_failed_rollout_stalls_and_leaves_the_running_version_alone() {
    let mut state = settled();
    state.target = Some((V2.into(), now()));
    state.rollout = Some(Rollout {
        id: "r".into(),
        build_id: V2.into(),
        ..Rollout::default()
    });
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(0)))
        .routed(V1, VersionState::Current);
    let report = ChildFinished {
        id: "r".into(),
        kind: ChildKind::Rollout,
        build_id: V2.into(),
        outcome: ChildOutcome::Failed,
        category: ErrorCategory::ProgressDeadlineExceeded
            .metric_label()
            .into(),
        message: "0/2 pods ready".into(),
    };
    let failed = plan(&mut state, &key(), "run", &seen, &told(report), now());
    assert!(condition(&failed, ConditionType::Ready).0);
    assert_eq!(
        condition(&failed, ConditionType::Stalled),
        (true, Reason::ProgressDeadlineExceeded)
    );
    assert!(
        failed.start.is_empty(),
        "not tried again while nothing has changed"
    );
    assert_eq!(
        state.failed.as_ref().map(|failed| failed.available),
        Some(false)
    );

    let ready = seen.with(V2, Some(deployment(2)));
    let retried = decide(&mut state, &ready);
    assert_eq!(
        starts(&retried),
        [format!("rollout {V2}")],
        "pods that become ready late are taken"
    );
}

#[test]
fn correcting_the_spec_clears_the_failure() {
    let mut state = settled();
    state.failed = Some(FailedVersion {
        build_id: V2.into(),
        category: ErrorCategory::WorkerNotVersioned,
        message: "no".into(),
        available: true,
    });
    let seen = world("v3-00000003")
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = decide(&mut state, &seen);
    assert_eq!(state.failed, None);
    assert_eq!(starts(&plan), ["rollout v3-00000003"]);
}

#[test]
fn late_and_doubled_reports_are_ignored() {
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    for (kind, outcome) in [
        (ChildKind::Rollout, ChildOutcome::Failed),
        (ChildKind::Rollout, ChildOutcome::Completed),
        (ChildKind::Drain, ChildOutcome::Completed),
        (ChildKind::Drain, ChildOutcome::Failed),
    ] {
        let report = ChildFinished {
            id: "nobody".into(),
            kind,
            build_id: V1.into(),
            outcome,
            ..ChildFinished::default()
        };
        let mut state = settled();
        let before = state.clone();
        plan(&mut state, &key(), "run", &seen, &told(report), now());
        assert_eq!(state.history, before.history, "{kind:?} {outcome:?}");
        assert_eq!(state.failed, None);
    }
}

#[test]
fn suspend_holds_a_rollout_where_it_is_and_lets_it_go_on() {
    let mut state = settled();
    state.rollout = Some(Rollout {
        id: "r".into(),
        build_id: V2.into(),
        ..Rollout::default()
    });
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(0)))
        .routed(V1, VersionState::Current);
    let suspended = seen.clone().change(|process| process.suspend = true);
    let paused = decide(&mut state, &suspended);
    assert_eq!(orders(&paused), [("r", Order::Pause)]);
    assert!(paused.cancel.is_empty() && applies(&paused).is_empty());
    assert!(condition(&paused, ConditionType::Ready).0);
    assert_eq!(
        condition(&paused, ConditionType::Progressing).1,
        Reason::Suspended
    );
    assert!(
        orders(&decide(&mut state, &suspended)).is_empty(),
        "told once"
    );
    let resumed = decide(&mut state, &seen);
    assert_eq!(orders(&resumed), [("r", Order::Resume)]);
    assert!(resumed.start.is_empty());
}

#[test]
fn a_fresh_lifecycle_takes_over_the_children_of_a_terminated_one() {
    let seen = Observation {
        children: vec![
            format!("rollout/sales/l2o/u1/{V2}/4"),
            format!("drain/sales/l2o/u1/{V1}/7"),
            "rollout/sales/l2o/other/x/1".into(),
        ],
        ..world(V2)
            .with(V1, Some(deployment(2)))
            .with(V2, Some(deployment(2)))
            .routed(V1, VersionState::Draining)
    };
    let mut state = State::default();
    let plan = decide(&mut state, &seen);
    assert!(plan.start.is_empty(), "{:?}", plan.start);
    assert_eq!(state.children, 7, "the next child gets an id of its own");
}
