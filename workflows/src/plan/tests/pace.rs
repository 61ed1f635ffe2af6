//! A spec that changes again and again.

use super::*;
use crate::contract::{Pace, Verb};

fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// The version asked for, while the first one serves.
fn asked(build_id: &str) -> Observation {
    world(build_id)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
}

fn look(state: &mut State, build_id: &str, seconds: i64) -> Plan {
    let (seen, inbox) = (asked(build_id), Inbox::default());
    plan(state, &key(), "run", &seen, &inbox, at(seconds))
}

/// Three rollouts have begun, one after the other.
fn restless() -> State {
    let mut state = settled();
    for (second, build_id) in (0..).zip(["v2-00000002", "v3-00000003", "v4-00000004"]) {
        let begun = look(&mut state, build_id, second);
        assert_eq!(starts(&begun)[0], format!("rollout {build_id}"));
        assert_eq!(begun.rest, None);
    }
    state
}

#[test]
fn what_changes_again_and_again_is_rolled_out_when_it_rests() {
    let mut state = restless();
    for (second, build_id) in [(3, "v5-00000005"), (5, "v6-00000006"), (7, "v6-00000006")] {
        let waits = look(&mut state, build_id, second);
        let rest = waits.rest.clone().unwrap();
        assert_eq!(rest.retry_after_seconds, Some(3));
        assert_eq!(starts(&waits), Vec::<String>::new());
        assert_eq!(applies(&waits), Vec::<&str>::new());
        assert_eq!(waits.settled, None);
    }
    let begins = look(&mut state, "v6-00000006", 8);
    assert_eq!(starts(&begins), ["rollout v6-00000006"]);
    assert_eq!(applies(&begins), ["v6-00000006"]);
}

#[test]
fn the_rollout_that_is_not_wanted_any_more_does_not_wait_to_be_stopped() {
    let mut state = restless();
    let rollout = state.rollout.as_ref().unwrap().id.clone();
    let waits = look(&mut state, "v5-00000005", 3);
    assert_eq!(waits.cancel, [rollout]);
    let (progressing, reason) = condition(&waits, ConditionType::Progressing);
    assert_eq!((progressing, reason), (true, Reason::RollingOut));
    assert_eq!(
        condition(&waits, ConditionType::Degraded),
        (false, Reason::AsExpected)
    );
    let status = status(&waits);
    let mut messages = status.conditions.iter().map(|it| it.message.as_str());
    assert!(messages.any(|it| it.contains("3 rollouts have begun within 30 s")));
}

#[test]
fn back_to_what_serves_or_is_under_way_is_not_held_back() {
    let mut state = restless();
    assert_eq!(look(&mut state, "v4-00000004", 3).rest, None);
    let back = look(&mut state, V1, 4);
    assert_eq!((back.rest.clone(), back.cancel.len()), (None, 1));
}

#[test]
fn routing_that_is_to_be_taken_back_is_taken_back_when_the_spec_has_rested() {
    let mut state = restless();
    look(&mut state, "v5-00000005", 3);
    let mut seen = asked("v5-00000005");
    seen.routing.foreign_manager = Some("somebody".into());
    let decide = |state: &mut State, inbox: &Inbox, second| {
        plan(state, &key(), "run", &seen, inbox, at(second))
    };
    let waits = decide(&mut state, &requests::asked(Verb::Resume), 4);
    assert!(waits.rest.is_some());
    assert_eq!(starts(&waits), Vec::<String>::new());
    // A signal in between changes nothing.
    decide(&mut state, &Inbox::default(), 5);
    let begins = decide(&mut state, &Inbox::default(), 6);
    assert!(
        matches!(
            &begins.start[..],
            [Child::Rollout {
                take_over: true,
                ..
            }]
        ),
        "{:?}",
        begins.start
    );
    assert!(!state.take_over);
}

#[test]
fn rollouts_of_long_ago_do_not_count() {
    let mut state = restless();
    let begins = look(&mut state, "v5-00000005", 30);
    assert_eq!(starts(&begins)[0], "rollout v5-00000005");
}

#[test]
fn older_rules_rolled_out_each_change() {
    let mut state = settled();
    for (second, build_id) in (0..).zip(["v2-2", "v3-3", "v4-4", "v5-5"]) {
        let mut seen = asked(build_id);
        seen.settings.rules = 3;
        let begun = plan(
            &mut state,
            &key(),
            "run",
            &seen,
            &Inbox::default(),
            at(second),
        );
        assert_eq!(starts(&begun)[0], format!("rollout {build_id}"));
    }
    assert_eq!(state.pace, Pace::default());
}
