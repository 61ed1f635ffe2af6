//! The drain as a state machine.

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::spec::DrainOnTimeout;

use super::draining::{Draining, Event, Work};
use crate::contract::{
    CountOpenOutcome, DrainMemory, DrainPolicy, DrainStage, EndAction, EndOpenOutcome, Force,
    Known, ProcessKey, WaitDrainedOutcome,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
}

fn policy(timeout: Option<i64>, on_timeout: DrainOnTimeout) -> DrainPolicy {
    DrainPolicy {
        timeout_seconds: timeout,
        on_timeout,
        cancel_grace_seconds: 30,
        scale_down_delay_seconds: 60,
        delete_delay_seconds: 3600,
    }
}

fn drain(policy: DrainPolicy) -> Draining {
    let memory = DrainMemory {
        since: at(0),
        ..DrainMemory::default()
    };
    let key = ProcessKey {
        namespace: "orders".into(),
        name: "l2o".into(),
        uid: "u".into(),
    };
    Draining::new(key, "v1-0a0a0a0a".into(), policy, memory)
}

fn known(open: u64) -> Event {
    Event::Waited(WaitDrainedOutcome {
        known: Some(Known {
            open: Some(open),
            oldest: Some(at(-500)),
            counts: 1,
        }),
        ..WaitDrainedOutcome::default()
    })
}

fn drained() -> Event {
    Event::Waited(WaitDrainedOutcome {
        drained: true,
        last_current: Some(at(-1)),
        ..WaitDrainedOutcome::default()
    })
}

fn counted(open: u64) -> Event {
    Event::Counted(CountOpenOutcome {
        open,
        sample: (0..open.min(3)).map(|n| format!("order-{n}")).collect(),
        oldest: Some(at(-500)),
    })
}

fn ended(left: u64) -> Event {
    Event::Ended(EndOpenOutcome {
        left,
        ..EndOpenOutcome::default()
    })
}

fn force(action: EndAction) -> Event {
    Event::Forced(Force {
        action,
        actor: "ada".into(),
        reason: "the incident".into(),
    })
}

fn ends(drain: &Draining) -> Option<(EndAction, Timestamp)> {
    match drain.work() {
        Work::End { action, until, .. } => Some((action, until)),
        _ => None,
    }
}

fn notes(drain: &mut Draining) -> Vec<String> {
    let notes = drain.take_notes();
    notes
        .into_iter()
        .map(|note| format!("{}: {} [{}]", note.what, note.reason, note.actor))
        .collect()
}

#[test]
fn without_a_deadline_it_waits_then_lingers_stops_keeps_and_retires() {
    let mut drain = drain(policy(None, DrainOnTimeout::Terminate));
    assert_eq!((drain.work(), drain.alarm()), (Work::Wait, None));
    drain.apply(known(5), at(10));
    assert_eq!(drain.work(), Work::Wait);
    assert_eq!(drain.progress().open, Some(5));
    drain.apply(drained(), at(100));
    assert_eq!(drain.work(), Work::Keep { until: at(160) });
    assert!(drain.progress().is_draining());
    drain.apply(Event::Kept, at(160));
    assert_eq!(drain.work(), Work::Stop);
    drain.apply(Event::Stopped, at(161));
    assert_eq!(drain.work(), Work::Keep { until: at(3761) });
    assert!(!drain.progress().is_draining());
    drain.apply(Event::Kept, at(3761));
    assert_eq!(drain.work(), Work::Retire);
    drain.apply(Event::Retired("removed".into()), at(3762));
    let result = "v1-0a0a0a0a is gone; removed".to_owned();
    assert_eq!(drain.work(), Work::Finish(result));
    assert!(notes(&mut drain).is_empty());
}

#[test]
fn without_delays_and_without_traffic_before_nothing_is_waited_for() {
    let none = DrainPolicy {
        scale_down_delay_seconds: 0,
        delete_delay_seconds: 0,
        ..policy(None, DrainOnTimeout::Wait)
    };
    let mut quick = drain(none.clone());
    quick.apply(drained(), at(1));
    assert_eq!(quick.work(), Work::Stop);
    quick.apply(Event::Stopped, at(1));
    assert_eq!(quick.work(), Work::Retire);
    assert!(quick.progress().is_draining(), "until all is gone");

    let mut unused = drain(policy(None, DrainOnTimeout::Wait));
    let outcome = WaitDrainedOutcome {
        drained: true,
        never_served: true,
        ..WaitDrainedOutcome::default()
    };
    unused.apply(Event::Waited(outcome), at(1));
    assert_eq!(unused.work(), Work::Retire);
}

#[test]
fn what_is_left_at_the_deadline_is_counted_told_and_ended() {
    let mut drain = drain(policy(Some(3600), DrainOnTimeout::Terminate));
    assert_eq!(drain.alarm(), Some(at(3600)));
    drain.apply(known(2), at(5));
    drain.apply(Event::Due(at(3600)), at(3600));
    assert_eq!((drain.work(), drain.alarm()), (Work::Count, None));
    drain.apply(counted(2), at(3600));
    assert_eq!(
        notes(&mut drain),
        ["DrainTimedOut: Terminate: 2 running workflows, for example order-0, order-1 []"]
    );
    assert_eq!(ends(&drain), Some((EndAction::Terminate, at(4200))));
    drain.apply(ended(0), at(3601));
    assert_eq!(
        notes(&mut drain),
        ["WorkflowsEnded: Terminate of 2 running workflows: 0 left []"]
    );
    // The server takes minutes to notice.
    assert_eq!((drain.work(), drain.alarm()), (Work::Wait, None));
    // What comes late has no time left.
    drain.apply(known(1), at(3700));
    assert_eq!(drain.work(), Work::Count);
    drain.apply(counted(0), at(3700));
    assert_eq!(drain.work(), Work::Wait);
}

#[test]
fn cancelled_workflows_have_their_grace_and_are_terminated_then() {
    let mut drain = drain(policy(Some(10), DrainOnTimeout::Cancel));
    drain.apply(Event::Due(at(10)), at(10));
    drain.apply(counted(3), at(10));
    assert_eq!(ends(&drain), Some((EndAction::Cancel, at(40))));
    drain.apply(ended(1), at(40));
    assert_eq!(drain.work(), Work::Count);
    drain.apply(counted(1), at(40));
    assert_eq!(ends(&drain), Some((EndAction::Terminate, at(640))));
    drain.apply(ended(0), at(41));
    let told: Vec<String> = notes(&mut drain)
        .iter()
        .map(|note| note.split(':').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(told, ["DrainTimedOut", "DrainEscalated", "WorkflowsEnded"]);
}

#[test]
fn a_person_gets_what_was_asked_for_and_no_more() {
    let mut drain = drain(policy(None, DrainOnTimeout::Wait));
    drain.apply(force(EndAction::Cancel), at(5));
    drain.apply(counted(2), at(5));
    let Work::End { reason, until, .. } = drain.work() else {
        panic!("{:?}", drain.work());
    };
    assert_eq!(until, at(35));
    assert_eq!(
        reason,
        "version v1-0a0a0a0a of Process orders/l2o: its drain was forced by ada: the incident"
    );
    drain.apply(ended(1), at(35));
    assert_eq!(drain.work(), Work::Wait, "nobody asked for a termination");
    assert_eq!(
        notes(&mut drain),
        [
            "DrainForced: Cancel: 2 running workflows, for example order-0, order-1 (the incident) [ada]",
            "WorkflowsLeft: Cancel of 2 running workflows: 1 left; they do not end: request Terminate [ada]",
        ]
    );
    // A second order takes the place of the first, also while that is under way.
    drain.apply(force(EndAction::Cancel), at(50));
    drain.apply(counted(1), at(50));
    drain.apply(force(EndAction::Terminate), at(51));
    drain.apply(counted(1), at(51));
    assert_eq!(ends(&drain), Some((EndAction::Terminate, at(651))));
    drain.apply(ended(0), at(52));
    drain.apply(drained(), at(60));
    drain.apply(force(EndAction::Cancel), at(61));
    drain.apply(counted(0), at(61));
    assert!(
        notes(&mut drain)
            .last()
            .is_some_and(|note| note == "DrainForced: Cancel: no workflow runs on it [ada]")
    );
    assert_eq!(drain.work(), Work::Keep { until: at(120) });
    drain.apply(force(EndAction::Unknown), at(62));
    drain.apply(Event::Unreadable("the payload is not JSON".into()), at(62));
    assert_eq!(notes(&mut drain).len(), 2);
    assert_eq!(drain.work(), Work::Keep { until: at(120) });
}

#[test]
fn what_cannot_be_moved_is_told_once_and_tried_on() {
    let mut drain = drain(policy(Some(10), DrainOnTimeout::MoveToCurrent));
    drain.apply(Event::Due(at(10)), at(10));
    let refused = || {
        Event::Ended(EndOpenOutcome {
            left: 2,
            refused: "no version is current".into(),
            ..EndOpenOutcome::default()
        })
    };
    for round in 0..3 {
        drain.apply(counted(2), at(10 + 600 * round));
        assert!(ends(&drain).is_some());
        drain.apply(refused(), at(610 + 600 * round));
        assert_eq!(drain.work(), Work::Count);
    }
    let told = notes(&mut drain);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter()
            .any(|note| note.contains("no version is current"))
    );
}

#[test]
fn a_changed_policy_reaches_what_has_begun() {
    let mut drain = drain(policy(Some(10), DrainOnTimeout::Cancel));
    drain.apply(known(4), at(1));
    drain.apply(Event::Due(at(10)), at(10));
    drain.apply(counted(4), at(10));
    // More time: what is under way stops, and a new deadline is ahead.
    let longer = policy(Some(100), DrainOnTimeout::Cancel);
    drain.apply(Event::Policy(longer), at(12));
    assert_eq!((drain.work(), drain.alarm()), (Work::Wait, Some(at(100))));
    // Less: it has passed.
    let shorter = policy(Some(5), DrainOnTimeout::Terminate);
    drain.apply(Event::Policy(shorter), at(13));
    assert_eq!(drain.alarm(), Some(at(5)));
    drain.apply(Event::Due(at(5)), at(13));
    drain.apply(counted(4), at(13));
    assert_eq!(ends(&drain), Some((EndAction::Terminate, at(613))));
    let wait = policy(Some(5), DrainOnTimeout::Wait);
    drain.apply(Event::Policy(wait.clone()), at(14));
    assert_eq!((drain.work(), drain.alarm()), (Work::Wait, None));
    // An order of a person is nothing that a policy takes back.
    drain.apply(force(EndAction::Terminate), at(15));
    drain.apply(counted(4), at(15));
    drain.apply(Event::Policy(policy(None, DrainOnTimeout::Wait)), at(16));
    assert!(ends(&drain).is_some());
}

#[test]
fn a_changed_grace_reaches_a_cancel_by_the_policy_and_no_order_of_a_person() {
    let grace = |seconds| DrainPolicy {
        cancel_grace_seconds: seconds,
        ..policy(Some(10), DrainOnTimeout::Cancel)
    };
    let mut drain = drain(grace(30));
    drain.apply(Event::Due(at(10)), at(10));
    drain.apply(counted(2), at(10));
    assert_eq!(drain.other_grace(), None);
    drain.apply(Event::Policy(grace(5)), at(12));
    assert_eq!(ends(&drain), Some((EndAction::Cancel, at(40))));
    assert_eq!(drain.other_grace(), Some(at(15)));
    drain.follow_grace();
    assert_eq!(ends(&drain), Some((EndAction::Cancel, at(15))));
    assert_eq!(drain.other_grace(), None);
    // Longer, and back, from the same beginning.
    drain.apply(Event::Policy(grace(60)), at(13));
    drain.follow_grace();
    assert_eq!(ends(&drain), Some((EndAction::Cancel, at(70))));
    drain.apply(ended(1), at(70));
    drain.apply(counted(1), at(70));
    drain.apply(Event::Policy(grace(5)), at(71));
    assert_eq!(drain.other_grace(), None, "they are terminated by now");

    drain.apply(force(EndAction::Cancel), at(80));
    drain.apply(counted(1), at(80));
    drain.apply(Event::Policy(grace(60)), at(81));
    drain.follow_grace();
    assert_eq!(ends(&drain), Some((EndAction::Cancel, at(85))));
}

#[test]
fn work_that_comes_back_has_a_clock_of_its_own() {
    for stage in [
        DrainStage::Lingering,
        DrainStage::Stopping,
        DrainStage::Kept,
        DrainStage::Retiring,
    ] {
        let mut drain = drain(policy(Some(10), DrainOnTimeout::Terminate));
        drain.apply(Event::Due(at(10)), at(10));
        drain.apply(counted(0), at(10));
        drain.apply(drained(), at(20));
        for (until, event) in [
            (DrainStage::Stopping, Event::Kept),
            (DrainStage::Kept, Event::Stopped),
            (DrainStage::Retiring, Event::Kept),
        ] {
            if drain.progress().stage == stage {
                break;
            }
            drain.apply(event, at(30));
            assert_eq!(drain.progress().stage, until);
        }
        drain.apply(Event::Held, at(500));
        assert_eq!((drain.work(), drain.alarm()), (Work::Wait, Some(at(510))));
        assert_eq!(
            notes(&mut drain),
            ["DrainResumed: workflows are pinned to it again []"]
        );
        drain.apply(Event::InUse, at(501));
        let result = "v1-0a0a0a0a is in use again".to_owned();
        assert_eq!(drain.work(), Work::Finish(result));
    }
}

/// A run that continues as new goes on exactly where the last one was, wherever that was.
#[test]
fn nothing_is_lost_between_two_runs() {
    let mut drain = drain(policy(Some(10), DrainOnTimeout::Cancel));
    let events = [
        known(3),
        Event::Due(at(10)),
        counted(3),
        ended(1),
        counted(1),
        ended(0),
        force(EndAction::MoveToCurrent),
        counted(0),
        drained(),
        Event::Kept,
        Event::Stopped,
        Event::Held,
        drained(),
    ];
    for (n, event) in events.into_iter().enumerate() {
        drain.apply(event, at(20 + i64::try_from(n).unwrap_or_default()));
        let stored = serde_json::to_string(drain.memory()).expect("plain data");
        let memory: DrainMemory = serde_json::from_str(&stored).expect("the same");
        assert_eq!(&memory, drain.memory());
        let key = ProcessKey {
            namespace: "orders".into(),
            name: "l2o".into(),
            uid: "u".into(),
        };
        let next = Draining::new(key, "v1-0a0a0a0a".into(), drain.policy().clone(), memory);
        assert_eq!(
            (next.work(), next.alarm(), next.progress(), next.details()),
            (
                drain.work(),
                drain.alarm(),
                drain.progress(),
                drain.details()
            )
        );
    }
}

#[test]
fn the_temporal_ui_says_what_will_happen_and_how_to_find_what_holds_it() {
    let mut drain = drain(policy(Some(3600), DrainOnTimeout::Cancel));
    drain.apply(known(7), at(1));
    let text = drain.details();
    for part in [
        "pinned to it: **7**, the oldest since 1970-01-12T13:38:20Z",
        "At **1970-01-12T14:46:40Z** they are cancelled, and 30 s later terminated.",
        "TemporalWorkerDeploymentVersion = 'orders/l2o:v1-0a0a0a0a'",
        "forceCancelDrain",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
