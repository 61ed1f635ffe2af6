//! Events that could not be recorded.

use super::*;
use crate::contract::DeletionView;

/// Id and reason of the Events.
fn events(plan: &Plan) -> Vec<(String, String)> {
    let events = plan.steps.iter().filter_map(|step| match step {
        Step::Event { id, reason, .. } => Some((id.clone(), reason.clone())),
        _ => None,
    });
    events.collect()
}

fn told(plan: &Plan) -> Vec<String> {
    events(plan).into_iter().map(|(_, reason)| reason).collect()
}

fn look(state: &mut State, seen: &Observation, refused: &[&str]) -> Plan {
    let inbox = Inbox {
        refused: refused.iter().map(|&why| why.to_owned()).collect(),
        ..Inbox::default()
    };
    super::super::plan(state, &key(), "run", seen, &inbox, now())
}

fn v1_serves() -> Observation {
    world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
}

#[test]
fn an_event_is_told_again_under_its_name_until_it_is_recorded() {
    let mut state = settled();
    let seen = v1_serves();
    let first = look(&mut state, &seen, &["signal pause ignored"]);
    let owed = events(&first);
    let [(id, reason)] = owed.as_slice() else {
        panic!("{owed:?}");
    };
    assert_eq!(reason, "SignalRefused");
    // A step before it has failed, and meanwhile another one is to be told.
    state.told(std::slice::from_ref(id), Some(std::slice::from_ref(id)));
    let second = look(&mut state, &seen, &["signal abort ignored"]);
    let both = events(&second);
    assert_eq!(both[0], owed[0], "the same, and first");
    assert_eq!(both.len(), 2);
    assert_ne!(both[1].0, both[0].0, "another name");

    let ids: Vec<String> = both.iter().map(|(id, _)| id.clone()).collect();
    state.told(&ids, Some(&ids[1..]));
    assert_eq!(events(&look(&mut state, &seen, &[])), both[1..]);
    state.told(&ids[1..], Some(&[]));
    assert!(events(&look(&mut state, &seen, &[])).is_empty(), "once");
    assert!(state.untold.is_empty());
}

#[test]
fn an_operator_that_does_not_say_has_recorded_all_and_not_many_are_kept() {
    let mut state = settled();
    let seen = v1_serves();
    let plan = look(&mut state, &seen, &["one", "two"]);
    let ids: Vec<String> = events(&plan).into_iter().map(|(id, _)| id).collect();
    state.told(&ids, None);
    assert!(state.untold.is_empty());

    let whys: Vec<String> = (0..State::UNTOLD + 7).map(|n| n.to_string()).collect();
    let whys: Vec<&str> = whys.iter().map(String::as_str).collect();
    let plan = look(&mut state, &seen, &whys);
    assert_eq!(events(&plan).len(), State::UNTOLD);
    assert_eq!(state.untold.len(), State::UNTOLD);
    let Some(Step::Event { note, .. }) = state.untold.last() else {
        panic!("{:?}", state.untold.last());
    };
    assert_eq!(note, whys.last().unwrap(), "the oldest are dropped");
}

#[test]
fn they_come_before_the_finalizer_goes_and_not_after_the_process() {
    let mut state = settled();
    look(&mut state, &v1_serves(), &["not recorded"]);
    let leaving = v1_serves().change(|process| {
        process.deleting = true;
        process.deletion = Some(DeletionView {
            forced: true,
            ..DeletionView::default()
        });
    });
    let plan = look(&mut state, &leaving, &[]);
    assert_eq!(
        told(&plan),
        ["SignalRefused", "Deleting", "StoppingWorkers"]
    );
    assert_eq!(plan.steps.last(), Some(&Step::RemoveFinalizer));
    let gone = look(&mut state, &Observation::default(), &[]);
    assert!(gone.finish && gone.steps.is_empty(), "{:?}", gone.steps);
}
