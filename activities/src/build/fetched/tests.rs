//! What the ConfigMap says, and how it is changed.

use super::*;
use crate::registry::Trouble;

fn key() -> ProcessKey {
    ProcessKey {
        namespace: "apps".into(),
        name: "l2o".into(),
        uid: "u-1".into(),
    }
}

fn definition(text: &str) -> Definition {
    Definition {
        file: "l2o.bpmn".into(),
        content: text.into(),
        version: Some(3),
        etag: Some("\"3\"".into()),
        ..Definition::default()
    }
}

fn failure() -> Failure {
    Failure {
        trouble: Trouble::Unavailable,
        message: "away".into(),
        retry_after: None,
    }
}

fn fetched(text: &str) -> ConfigMap {
    with(&key(), "m", Outcome::Fetched(&definition(text)), None)
}

#[test]
fn content_counts_for_its_source_and_as_long_as_nobody_edits_it() {
    let mut map = fetched("<a/>");
    let seen = view(&key(), "m", None, Some(&map));
    assert_eq!(seen.checksum, definition::checksum(&map));
    assert_eq!((seen.version, seen.failure), (Some(3), None));
    let reason = |mark: &str, map: &ConfigMap| {
        let seen = view(&key(), mark, None, Some(map));
        assert!(!seen.found());
        seen.failure.map(|failure| failure.reason)
    };
    assert_eq!(reason("other", &map), Some(Reason::DefinitionPending));
    let data = map.data.get_or_insert_default();
    data.insert("l2o.bpmn".into(), "<mine/>".into());
    assert_eq!(reason("m", &map), Some(Reason::DefinitionPending));
    map.metadata.owner_references = None;
    map.metadata.labels = None;
    assert_eq!(reason("m", &map), Some(Reason::Conflict));
    let nothing = view(
        &key(),
        "m",
        Some("not allowed".into()),
        Some(&fetched("<a/>")),
    );
    assert!(!nothing.found());
}

#[test]
fn what_is_no_version_is_kept_and_said_until_there_is_one() {
    let odd = Definition {
        version: None,
        unversioned: Some("9223372036854775807".into()),
        ..definition("<a/>")
    };
    let map = with(&key(), "m", Outcome::Fetched(&odd), Some(&fetched("<a/>")));
    let patch = change(&fetched("<a/>"), &map).expect("a change");
    assert_eq!(
        patch["metadata"]["labels"],
        json!({ "ameide.io/definition-version": null })
    );
    for map in [&map, &with(&key(), "m", Outcome::Unchanged, Some(&map))] {
        let seen = view(&key(), "m", None, Some(map));
        assert!(seen.found() && seen.version.is_none());
        for part in ["\"9223372036854775807\"", "9007199254740991"] {
            assert!(seen.unversioned.contains(part), "{}", seen.unversioned);
        }
    }
    let patch = change(&map, &fetched("<a/>")).expect("a change");
    assert_eq!(
        patch["metadata"]["annotations"],
        json!({ "ameide.io/definition-unversioned": null })
    );
    let seen = view(&key(), "m", None, Some(&fetched("<a/>")));
    assert_eq!(seen.unversioned, "");
}

#[test]
fn a_failure_leaves_the_content_and_is_about_its_own_source() {
    let map = fetched("<a/>");
    let failed = with(&key(), "m", Outcome::Failed(&failure()), Some(&map));
    let seen = view(&key(), "m", None, Some(&failed));
    assert!(seen.found());
    let reason = seen.failure.map(|failure| failure.reason);
    assert_eq!(reason, Some(Reason::RegistryUnavailable));
    let back = with(&key(), "m", Outcome::Unchanged, Some(&failed));
    assert_eq!(back, map);
    let moved = with(&key(), "other", Outcome::Failed(&failure()), Some(&map));
    let seen = view(&key(), "m", None, Some(&moved));
    assert!(seen.found() && seen.failure.is_none());
    assert!(!view(&key(), "other", None, Some(&moved)).found());
}

#[test]
fn a_change_takes_off_what_others_have_added_and_nothing_is_changed_twice() {
    let mut map = fetched("<a/>");
    assert_eq!(change(&map, &fetched("<a/>")), None);
    let data = map.data.get_or_insert_default();
    data.insert("extra".into(), "x".into());
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert("of.others/x".into(), "y".into());
    let wanted = fetched("<b/>");
    let patch = change(&map, &wanted).expect("a change");
    assert_eq!(patch["data"], json!({ "extra": null, "l2o.bpmn": "<b/>" }));
    assert!(
        patch["metadata"]["annotations"]
            .get("of.others/x")
            .is_none()
    );
    assert!(patch["metadata"].get("labels").is_none());
}

#[test]
fn what_is_no_text_is_kept_as_bytes() {
    let binary = Definition {
        content: vec![0, 255],
        ..definition("")
    };
    let map = with(&key(), "m", Outcome::Fetched(&binary), None);
    assert!(map.data.is_none());
    assert_eq!(map.binary_data.map(|data| data.len()), Some(1));
}
