//! Which owners an object is given, and which it is left with.

use serde_json::Value;

use super::*;

fn key() -> ProcessKey {
    ProcessKey {
        namespace: "apps".into(),
        name: "l2o".into(),
        uid: "u-1".into(),
    }
}

fn namespace() -> OwnerReference {
    namespace_owner("apps", "n-1")
}

fn somebody() -> OwnerReference {
    OwnerReference {
        api_version: "example.com/v1".into(),
        kind: "Budget".into(),
        name: "b".into(),
        uid: "b-1".into(),
        ..OwnerReference::default()
    }
}

fn object(owners: &[OwnerReference]) -> ObjectMeta {
    let label = (names::label::PROCESS_UID.to_owned(), key().uid);
    ObjectMeta {
        owner_references: Some(owners.to_vec()),
        labels: Some([label].into_iter().collect()),
        ..ObjectMeta::default()
    }
}

fn kinds(change: Option<Value>) -> Option<Vec<String>> {
    let owners = change?["metadata"]["ownerReferences"].take();
    let owners: Vec<OwnerReference> = serde_json::from_value(owners).unwrap();
    Some(owners.into_iter().map(|owner| owner.kind).collect())
}

#[test]
fn what_has_both_owners_is_not_written() {
    let whole = object(&[owner(&key()), namespace()]);
    assert_eq!(claimed(&key(), &whole, Some(namespace())), None);
    let wanted = Some(vec!["Budget".into(), "Process".into(), "Namespace".into()]);
    for found in [object(&[somebody(), owner(&key())]), object(&[somebody()])] {
        let label = claimed(&key(), &found, Some(namespace()));
        assert_eq!(kinds(label), wanted, "{found:?}");
    }
    let spared = object(&[namespace()]);
    assert_eq!(
        claimed(&key(), &spared, Some(namespace())),
        None,
        "nor fought over"
    );
    let unknown = object(&[owner(&key())]);
    assert_eq!(claimed(&key(), &unknown, None), None);
}

#[test]
fn what_is_released_is_the_garbage_collectors_or_nobodys() {
    let spared = object(&[namespace(), somebody()]);
    let both = object(&[owner(&key()), namespace()]);
    let wanted = |kinds: &[&str]| Some(kinds.iter().map(|&kind| kind.to_owned()).collect());
    let of = |found, orphan| kinds(released(&key(), found, orphan));
    assert_eq!(of(&spared, false), wanted(&["Budget", "Process"]));
    assert_eq!(of(&spared, true), wanted(&["Budget"]));
    assert_eq!(of(&both, false), wanted(&["Process"]));
    assert_eq!(of(&both, true), wanted(&[]));
    // By a garbage collector that had not seen the release.
    assert_eq!(of(&object(&[]), false), wanted(&["Process"]));

    let given = object(&[owner(&key())]);
    assert_eq!(released(&key(), &given, false), None);
    let orphan = released(&key(), &object(&[]), true).unwrap();
    assert!(orphan["metadata"]["labels"]["ameide.io/process-uid"].is_null());
    let unmarked = ObjectMeta::default();
    assert_eq!(released(&key(), &unmarked, true), None);
}

#[test]
fn what_is_somebody_elses_or_going_or_orphaned_is_not_released() {
    let mut going = object(&[namespace()]);
    going.deletion_timestamp = Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
    let mut other = owner(&key());
    other.uid = "u-2".into();
    for found in [object(&[other, namespace()]), going, ObjectMeta::default()] {
        assert!(!is_of(&key(), &found), "{found:?}");
    }
    for found in [
        object(&[]),
        object(&[namespace()]),
        object(&[owner(&key())]),
    ] {
        assert!(is_of(&key(), &found), "{found:?}");
    }
}
