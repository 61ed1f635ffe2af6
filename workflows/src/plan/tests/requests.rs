//! Requests by update and by signal: what follows, and who is told.

use super::*;
use crate::contract::{
    EventType, Progress, Request, RolloutOrder, Stage, StepFailure, Verb, VerbArgs,
};

/// V1 serves, V2 is being rolled out in three steps.
pub(super) fn rolling(progress: Option<Progress>) -> State {
    State {
        target: Some((V2.into(), now())),
        rollout: Some(Rollout {
            id: "r".into(),
            build_id: V2.into(),
            steps: 3,
            noted: progress.clone(),
            progress,
            ..Rollout::default()
        }),
        ..settled()
    }
}

pub(super) fn at_stage(stage: Stage, step: u32, weight: i32) -> Progress {
    Progress {
        stage,
        step,
        weight,
        ..Progress::default()
    }
}

/// Held in its first step.
pub(super) fn held(category: ErrorCategory) -> Progress {
    Progress {
        hold: Some(StepFailure::new(
            category,
            "2 of 10 closed executions failed",
        )),
        ..at_stage(Stage::Pausing, 1, 10)
    }
}

/// The world of [`rolling`], at the first step.
pub(super) fn ramping() -> Observation {
    let mut seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Ramping);
    seen.routing.ramping = Some(V2.into());
    seen.routing.percent = 10;
    seen
}

pub(super) fn alice() -> VerbArgs {
    VerbArgs {
        actor: "alice".into(),
        reason: "ticket 7".into(),
        ..VerbArgs::default()
    }
}

pub(super) fn asked(verb: Verb) -> Inbox {
    asked_with(verb, alice())
}

pub(super) fn asked_with(verb: Verb, args: VerbArgs) -> Inbox {
    Inbox {
        requests: vec![Request {
            id: format!("{verb}/1"),
            verb,
            args,
        }],
        ..Inbox::default()
    }
}

pub(super) fn ask(state: &mut State, seen: &Observation, inbox: &Inbox) -> Plan {
    plan(state, &key(), "run", seen, inbox, now())
}

/// Type, reason and note of the Events about requests.
pub(super) fn events(plan: &Plan) -> Vec<(EventType, &str, &str)> {
    let events = plan.steps.iter().filter_map(|step| match step {
        Step::Event {
            kind,
            reason,
            note,
            action,
            ..
        } if action == "Request" => Some((*kind, reason.as_str(), note.as_str())),
        _ => None,
    });
    events.collect()
}

#[test]
fn a_request_is_told_to_the_rollout_the_history_and_the_events() {
    let full = VerbArgs {
        full: true,
        ..alice()
    };
    let by = "by alice (ticket 7)";
    let on_the_way = || at_stage(Stage::Pausing, 1, 10);
    let cases = [
        (
            Verb::Pause,
            alice(),
            on_the_way(),
            // The order follows from the state, which has no other words for it.
            RolloutOrder::new(Order::Pause, ""),
            "the share of new workflows stays as it is",
        ),
        (
            Verb::Resume,
            alice(),
            held(ErrorCategory::AnalysisFailed),
            RolloutOrder::new(Order::Retry, by),
            "it goes on",
        ),
        (
            Verb::Promote,
            alice(),
            on_the_way(),
            RolloutOrder {
                step: Some(on_the_way().step),
                ..RolloutOrder::new(Order::Promote, by)
            },
            "the next step is taken",
        ),
        (
            Verb::Promote,
            full,
            on_the_way(),
            RolloutOrder::new(Order::PromoteFull, by),
            "all new workflows go to it",
        ),
        (
            Verb::Abort,
            alice(),
            on_the_way(),
            RolloutOrder::new(Order::Abort, "aborted by alice (ticket 7)"),
            "new workflows go to the version that served before",
        ),
        (
            Verb::Retry,
            alice(),
            held(ErrorCategory::GateFailed),
            RolloutOrder::new(Order::Retry, by),
            "what failed is done again",
        ),
    ];
    for (verb, args, progress, order, message) in cases {
        let mut state = rolling(Some(progress));
        let plan = ask(&mut state, &ramping(), &asked_with(verb, args));
        assert_eq!(plan.orders, [("r".to_owned(), order)], "{verb}");
        let (id, answer) = &plan.answers[0];
        assert_eq!(
            (id.as_str(), answer.accepted),
            (&*format!("{verb}/1"), true)
        );
        assert_eq!(answer.message, message);
        let told = state.history.last().unwrap();
        let what = verb.to_string();
        let what = format!("{}{}Requested", what[..1].to_uppercase(), &what[1..]);
        assert_eq!(told.what, what);
        assert_eq!(
            (told.actor.as_str(), told.build_id.as_str()),
            ("alice", V2),
            "{verb}"
        );
        assert_eq!(told.reason, format!("{message} (ticket 7)"));
        let note = format!("{V2}: {message} (ticket 7), by alice");
        assert_eq!(events(&plan), [(EventType::Normal, &*what, &*note)]);
        assert_eq!(state.last_request, None, "that is for annotations");
    }
}

#[test]
fn a_refusal_is_answered_and_told_as_a_warning_and_nothing_else() {
    let mut state = settled();
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = ask(&mut state, &seen, &asked(Verb::Abort));
    let note = "abort by alice: nothing is being rolled out";
    assert_eq!(
        events(&plan),
        [(EventType::Warning, "RequestRefused", note)]
    );
    let (_, answer) = &plan.answers[0];
    assert_eq!(
        (answer.accepted, answer.message.as_str()),
        (false, "nothing is being rolled out")
    );
    assert!(plan.orders.is_empty() && state.history.is_empty());
}

#[test]
fn nobody_is_made_up_where_nobody_was_named() {
    let args = VerbArgs {
        actor: "  ".into(),
        ..VerbArgs::default()
    };
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    let plan = ask(&mut state, &ramping(), &asked_with(Verb::Promote, args));
    assert_eq!(state.history.last().unwrap().actor, "unknown");
    assert_eq!(plan.orders[0].1.why, "by unknown");
}

#[test]
fn requests_of_one_turn_are_judged_one_after_the_other() {
    let mut inbox = asked(Verb::Pause);
    inbox.requests.extend(asked(Verb::Promote).requests);
    inbox.requests.extend(asked(Verb::Resume).requests);
    inbox.requests.extend(asked(Verb::Promote).requests);
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    let plan = ask(&mut state, &ramping(), &inbox);
    let accepted: Vec<_> = plan
        .answers
        .iter()
        .map(|(_, answer)| answer.accepted)
        .collect();
    assert_eq!(accepted, [true, false, true, true]);
    assert_eq!(
        orders(&plan),
        [("r", Order::Promote)],
        "pause and resume cancel out"
    );
}

#[test]
fn restart_restarts_the_pods_of_the_current_version() {
    let mut state = rolling(None);
    let plan = ask(&mut state, &ramping(), &asked(Verb::Restart));
    assert!(plan.steps.contains(&Step::RestartVersion {
        name: format!("l2o-{V1}"),
        uid: "d".into(),
        at: now(),
    }));
    assert_eq!(state.history.last().unwrap().build_id, V1);
    let foreign = DeploymentView {
        foreign: true,
        ..deployment(2)
    };
    let seen = ramping().with(V1, Some(foreign));
    let plan = ask(&mut rolling(None), &seen, &asked(Verb::Restart));
    assert!(!plan.answers[0].1.accepted, "not somebody else's");
}

#[test]
fn a_restart_is_wanted_until_it_is_done_and_no_longer_than_its_version_serves() {
    let restarts = |plan: &Plan| {
        let steps = plan.steps.iter();
        let steps = steps.filter(|step| matches!(step, Step::RestartVersion { .. }));
        steps.cloned().collect::<Vec<_>>()
    };
    let mut state = rolling(None);
    let first = restarts(&ask(&mut state, &ramping(), &asked(Verb::Restart)));
    let again = restarts(&decide(&mut state, &ramping()));
    assert_eq!((first.len(), &again), (1, &first), "not a second restart");
    let mut other = state.clone();
    other.current = None;
    let served = ramping().routed(V2, VersionState::Current);
    let after = decide(&mut other, &served);
    assert_eq!((restarts(&after), other.restart), (vec![], None));
    let mut old = ramping();
    old.settings.rules = 2;
    let mut state = rolling(None);
    ask(&mut state, &old, &asked(Verb::Restart));
    assert_eq!(state.restart, None);
}

/// V1 serves, the spec asks for V2, and somebody else manages the Worker Deployment.
fn managed() -> Observation {
    let mut seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    seen.routing.foreign_manager = Some("somebody".into());
    seen
}

fn failed(build_id: &str, category: ErrorCategory, available: bool) -> State {
    State {
        failed: Some(FailedVersion {
            build_id: build_id.into(),
            category,
            message: "0/2 pods are ready".into(),
            available,
        }),
        ..settled()
    }
}

#[test]
fn routing_is_not_taken_back_for_what_would_not_begin_then() {
    const V0: &str = "v0-00000000";
    let late = ErrorCategory::ProgressDeadlineExceeded;
    let mut invalid = managed();
    invalid.invalid = Some("spec.image is empty".into());
    let undone = State {
        undone: Some(crate::contract::Undone {
            from: V2.into(),
            to: V0.into(),
            why: "by alice".into(),
        }),
        ..failed(V0, late, false)
    };
    let cases = [
        (
            failed(V2, late, true),
            managed(),
            "has failed: request `retry` first",
        ),
        (
            undone,
            managed().with(V0, None),
            "has failed: request `retry` first",
        ),
        (settled(), invalid, "InvalidSpec: spec.image is empty"),
    ];
    for (mut state, seen, why) in cases {
        let plan = ask(&mut state, &seen, &asked(Verb::Resume));
        let (_, answer) = &plan.answers[0];
        assert!(!answer.accepted);
        assert!(answer.message.contains(why), "{}", answer.message);
        assert!(plan.start.is_empty() && !state.take_over, "{why}");
    }
}

#[test]
fn routing_is_taken_back_once_nothing_stands_against_that() {
    let late = ErrorCategory::ProgressDeadlineExceeded;
    let mut again = failed(V2, late, true);
    assert!(
        ask(&mut again, &managed(), &asked(Verb::Retry))
            .start
            .is_empty()
    );
    for mut state in [
        again,
        // Its pods have become ready since.
        failed(V2, late, false),
        // That is what is to be ended.
        failed(V2, ErrorCategory::DeploymentOwnedElsewhere, true),
    ] {
        let plan = ask(&mut state, &managed(), &asked(Verb::Resume));
        assert!(plan.answers[0].1.accepted, "{}", plan.answers[0].1.message);
        assert_eq!(starts(&plan), [format!("rollout {V2}")]);
    }
}
