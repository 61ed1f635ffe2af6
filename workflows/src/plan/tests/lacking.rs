//! Events that tell of what stands against the spec.

use super::*;
use crate::contract::{DefinitionView, DependenciesView, EventType};

fn v1_serves() -> Observation {
    world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current)
}

fn lacking(words: &str) -> DependenciesView {
    DependenciesView {
        named: 1,
        lacking: vec![words.to_owned()],
    }
}

fn without_definition(process: &mut ProcessView) {
    process.definition = Some(DefinitionView {
        config_map: "l2o-v3".into(),
        ..DefinitionView::default()
    });
}

/// What is told of blocks.
fn blocks(state: &mut State, seen: &Observation) -> Vec<(EventType, String, String)> {
    let plan = decide(state, seen);
    let told = plan.steps.into_iter().filter_map(|step| match step {
        Step::Event {
            kind, reason, note, ..
        } if reason.ends_with("locked") => Some((kind, reason, note)),
        _ => None,
    });
    told.collect()
}

fn blocked(reason: Reason, words: &str) -> Vec<(EventType, String, String)> {
    let note = format!("{reason}: {words}");
    vec![(EventType::Warning, "Blocked".into(), note)]
}

fn unblocked(reason: Reason) -> Vec<(EventType, String, String)> {
    let note = format!("no longer {reason}");
    vec![(EventType::Normal, "Unblocked".into(), note)]
}

#[test]
fn a_block_is_told_once_when_it_begins_changes_and_ends() {
    let mut state = memory();
    let waits = world(V1).change(|process| process.dependencies = Some(lacking("no sales")));
    let why = "no sales: the first version waits for it";
    let begun = blocked(Reason::DependencyNotReady, why);
    assert_eq!(blocks(&mut state, &waits), begun);
    let still = world(V1).change(|process| process.dependencies = Some(lacking("no billing")));
    assert_eq!(blocks(&mut state, &still), [], "for the same reason");
    let another = world(V1).change(without_definition);
    let words = "ConfigMap l2o-v3 does not exist; create it or correct spec.definitionRef.configMapRef.name";
    let changed = blocked(Reason::DefinitionNotFound, words);
    assert_eq!(blocks(&mut state, &another), changed);
    let over = unblocked(Reason::DefinitionNotFound);
    assert_eq!(blocks(&mut state, &world(V1)), over);
    assert_eq!(blocks(&mut state, &world(V1)), []);
}

#[test]
fn what_a_running_version_lacks_is_told_too() {
    let mut state = settled();
    let lost = v1_serves().change(|process| process.dependencies = Some(lacking("no coach")));
    let begun = blocked(Reason::DependencyNotReady, "no coach");
    assert_eq!(blocks(&mut state, &lost), begun);
    assert_eq!(blocks(&mut state, &lost), []);
    let over = unblocked(Reason::DependencyNotReady);
    assert_eq!(blocks(&mut state, &v1_serves()), over);
}

#[test]
fn whoever_suspends_knows_it_and_what_is_published_is_no_news() {
    let mut state = settled();
    let suspended = v1_serves().change(|process| process.suspend = true);
    assert_eq!(blocks(&mut state, &suspended), []);
    let lost = v1_serves().change(without_definition);
    assert_eq!(blocks(&mut state, &lost).len(), 1);
    let suspended = lost.clone().change(|process| process.suspend = true);
    assert_eq!(blocks(&mut state, &suspended), [], "nothing is mended");
    assert_eq!(blocks(&mut state, &lost), [], "and nothing new");

    let mut state = settled();
    let status = decide(&mut state.clone(), &lost).status.unwrap();
    state.published = Some((status, lost.status.clone()));
    assert_eq!(blocks(&mut state, &lost), []);
}
