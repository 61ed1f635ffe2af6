//! Drains: what they are told, what they tell, how they are forced.

use process_operator_crds::spec::{DrainOnTimeout, Versioning};

use super::requests::{alice, ask, asked_with};
use super::*;
use crate::contract::{
    DrainNote, DrainPolicy, DrainProgress, DrainStage, DrainTold, EventType, Verb, VerbArgs,
};
use crate::plan::DrainOrder;

fn policy(timeout: i64) -> DrainPolicy {
    DrainPolicy {
        timeout_seconds: Some(timeout),
        on_timeout: DrainOnTimeout::Cancel,
        ..DrainPolicy::default()
    }
}

/// V2 is current, V1 drains since an hour ago.
fn seen(timeout: i64) -> Observation {
    let mut seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Draining)
        .routed(V2, VersionState::Current)
        .change(|process| process.drain = Some(policy(timeout)));
    seen.routing
        .left
        .insert(V1.into(), now() - SignedDuration::from_hours(1));
    seen
}

fn draining() -> State {
    let mut state = settled();
    decide(&mut state, &seen(7200));
    state
}

fn told(state: &State, progress: DrainProgress, notes: Vec<DrainNote>) -> Inbox {
    let id = state.drains.get(V1).map(|drain| drain.id.clone());
    Inbox {
        drained: vec![DrainTold {
            serial: 0,
            id: id.unwrap_or_default(),
            build_id: V1.into(),
            progress,
            notes,
        }],
        ..Inbox::default()
    }
}

fn forced(build_id: &str, action: &str) -> Inbox {
    let args = VerbArgs {
        build_id: build_id.into(),
        action: action.into(),
        ..alice()
    };
    asked_with(Verb::ForceCancelDrain, args)
}

#[test]
fn a_drain_counts_from_when_the_version_lost_its_traffic() {
    let mut state = settled();
    let plan = decide(&mut state, &seen(7200));
    let since = now() - SignedDuration::from_hours(1);
    assert!(matches!(
        plan.start.as_slice(),
        [Child::Drain { since: at, .. }] if *at == since
    ));
    assert!(plan.drains.is_empty(), "it has its policy from the start");
    let version = status(&plan).draining.first().cloned().expect("v1");
    let drain = version.drain.expect("what is known");
    assert_eq!(version.since, Some(since));
    assert_eq!(drain.deadline, Some(now() + SignedDuration::from_hours(1)));
    assert_eq!(drain.open, None);
}

#[test]
fn a_running_drain_is_told_a_changed_policy_once() {
    let mut state = draining();
    let plan = decide(&mut state, &seen(60));
    assert!(
        matches!(plan.drains.as_slice(), [(_, DrainOrder::Policy(told))] if *told == policy(60))
    );
    assert!(decide(&mut state, &seen(60)).drains.is_empty());
    // One of an older operator knows none.
    for drain in state.drains.values_mut() {
        drain.policy = None;
    }
    assert_eq!(decide(&mut state, &seen(60)).drains.len(), 1);
}

#[test]
fn what_a_drain_tells_is_in_status_conditions_history_and_events() {
    let mut state = draining();
    let progress = DrainProgress {
        since: now(),
        deadline: Some(now() + SignedDuration::from_secs(90)),
        on_timeout: DrainOnTimeout::Cancel,
        open: Some(7),
        oldest: Some(now() - SignedDuration::from_hours(100)),
        ..DrainProgress::default()
    };
    let note = DrainNote {
        what: "DrainTimedOut".into(),
        reason: "Cancel: 7 running workflows".into(),
        actor: String::new(),
    };
    let inbox = told(&state, progress.clone(), vec![note]);
    let plan = ask(&mut state, &seen(7200), &inbox);
    let version = status(&plan).draining.first().cloned().expect("v1");
    assert_eq!(version.drain, Some(progress.clone()));
    let draining = status(&plan)
        .conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Draining)
        .expect("it");
    assert!(
        draining
            .message
            .starts_with(&format!("{V1} (7 running workflows, Cancel at ")),
        "{}",
        draining.message
    );
    let last = state.history.last().expect("an entry");
    assert_eq!(
        (last.what.as_str(), last.actor.as_str()),
        ("DrainTimedOut", "process-operator")
    );
    let warned = plan.steps.iter().any(|step| {
        matches!(step, Step::Event { kind: EventType::Warning, reason, .. } if reason == "DrainTimedOut")
    });
    assert!(warned);
    // Another drain of the same version is another one.
    let mut other = told(&state, DrainProgress::default(), Vec::new());
    for told in &mut other.drained {
        told.id = "drain/other".into();
    }
    ask(&mut state, &seen(7200), &other);
    assert_eq!(
        state
            .drains
            .get(V1)
            .and_then(|drain| drain.progress.clone()),
        Some(progress)
    );
}

#[test]
fn what_a_drain_told_earlier_and_comes_late_is_not_taken_for_the_latest() {
    let mut state = draining();
    for (open, serial) in [(5, 1), (3, 2), (5, 1)] {
        let progress = DrainProgress {
            open: Some(open),
            ..DrainProgress::default()
        };
        let mut inbox = told(&state, progress, Vec::new());
        for told in &mut inbox.drained {
            told.serial = serial;
        }
        ask(&mut state, &seen(7200), &inbox);
    }
    let progress = state.drains[V1].progress.as_ref().expect("told");
    assert_eq!(progress.open, Some(3));
}

#[test]
fn a_version_without_pods_drains_no_more_and_gets_them_back_with_work() {
    let mut state = draining();
    let kept = DrainProgress {
        stage: DrainStage::Kept,
        ..DrainProgress::default()
    };
    let inbox = told(&state, kept, Vec::new());
    let mut drained = seen(7200).routed(V1, VersionState::Drained);
    if let Some(version) = drained.versions.get_mut(V1) {
        version.desired = "with pods".into();
        version.deployment = Some(DeploymentView {
            replicas: 0,
            applied: "without".into(),
            ..deployment(0)
        });
    }
    let plan = ask(&mut state, &drained, &inbox);
    assert!(status(&plan).draining.is_empty());
    assert_eq!(
        condition(&plan, ConditionType::Draining),
        (false, Reason::NothingDraining)
    );
    assert!(applies(&plan).is_empty(), "{:?}", plan.steps);
    // Temporal says nothing: that is no reason to bring pods back.
    let mut away = drained.clone();
    away.routing.state = RoutingState::Unknown;
    assert!(applies(&decide(&mut state, &away)).is_empty());
    // The summary of a Worker Deployment may say so for good; the drain reads the version's own record.
    let again = drained.routed(V1, VersionState::Draining);
    assert!(applies(&decide(&mut state, &again)).is_empty());
    let inbox = told(&state, DrainProgress::default(), Vec::new());
    assert_eq!(applies(&ask(&mut state, &again, &inbox)).len(), 1);
    // Nor does it change when a workflow is reset.
    let still = again.routed(V1, VersionState::Drained);
    assert_eq!(applies(&decide(&mut state, &still)).len(), 1);
}

#[test]
fn an_order_names_what_it_is_about_and_says_why_not() {
    let mut idle = settled();
    let nothing = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = ask(&mut idle, &nothing, &forced("", ""));
    assert_eq!(plan.answers[0].1.message, "nothing is draining");

    let mut state = draining();
    for (build_id, action, accepted) in [
        ("", "", true),
        (V1, "Cancel", true),
        (V1, " Terminate ", true),
        ("", "MoveToCurrent", true),
        ("", "cancel", false),
        ("", "Unknown", false),
        (V2, "Cancel", false),
    ] {
        let plan = ask(&mut state, &seen(7200), &forced(build_id, action));
        let answer = &plan.answers[0].1;
        assert_eq!(answer.accepted, accepted, "{build_id} {action} {answer:?}");
        assert_eq!(plan.drains.len(), usize::from(accepted));
        if let Some((_, DrainOrder::Force(args))) = plan.drains.first() {
            assert_eq!(
                (args.actor.as_str(), args.reason.as_str()),
                ("alice", "ticket 7")
            );
        }
    }
    let second = state.drains.get(V1).cloned().expect("a drain");
    state.drains.insert(
        "v0-0".into(),
        Drain {
            id: "drain/0".into(),
            ..second
        },
    );
    let refused =
        crate::plan::check(&state, Verb::ForceCancelDrain, &alice()).expect_err("which one?");
    assert!(
        refused.starts_with("several versions are draining: set buildId to one of v0-0, "),
        "{refused}"
    );
}

#[test]
fn nothing_is_moved_between_versions_that_have_queues_of_their_own() {
    let mut state = settled();
    let seen = seen(7200).change(|process| process.versioning = Versioning::TaskQueuePerVersion);
    decide(&mut state, &seen);
    let plan = ask(&mut state, &seen, &forced("", "MoveToCurrent"));
    let (_, answer) = plan.answers.first().expect("an answer");
    assert!(
        !answer.accepted && answer.message.contains("cannot move to the task queue"),
        "{answer:?}"
    );
    assert!(plan.drains.is_empty());
}

#[test]
fn a_drain_started_again_gives_work_that_has_come_anew_its_time() {
    let mut state = draining();
    let resumed = now() - SignedDuration::from_mins(5);
    let progress = DrainProgress {
        since: resumed,
        ..DrainProgress::default()
    };
    let inbox = told(&state, progress, Vec::new());
    ask(&mut state, &seen(7200), &inbox);
    // Somebody has terminated it.
    let id = state.drains[V1].id.clone();
    state.forget(&id);
    let plan = decide(&mut state, &seen(7200));
    assert!(
        matches!(plan.start.as_slice(), [Child::Drain { since, .. }] if *since == resumed),
        "{:?}",
        plan.start
    );
}

#[test]
fn what_could_not_be_started_is_decided_again_and_told_once() {
    let mut state = settled();
    for _ in 0..2 {
        let plan = decide(&mut state, &seen(7200));
        assert_eq!(plan.start.len(), 1);
        plan.start.iter().for_each(|child| state.forget(child.id()));
    }
    let told = state
        .history
        .iter()
        .filter(|entry| entry.what == "DrainStarted");
    assert_eq!(told.count(), 1, "{:?}", state.history);
}
