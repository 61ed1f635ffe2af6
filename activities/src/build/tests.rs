//! Whose an object is, by its owners and labels.

use std::collections::BTreeMap;

use super::*;

fn key() -> ProcessKey {
    ProcessKey {
        namespace: "apps".into(),
        name: "l2o".into(),
        uid: "u-1".into(),
    }
}

fn with(owners: &[OwnerReference], uid: Option<&str>) -> ObjectMeta {
    let label = |uid: &str| (names::label::PROCESS_UID.to_owned(), uid.to_owned());
    ObjectMeta {
        owner_references: Some(owners.to_vec()),
        labels: uid.map(|uid| BTreeMap::from([label(uid)])),
        ..ObjectMeta::default()
    }
}

#[test]
fn an_object_is_its_controllers_and_else_that_of_the_label_while_it_is_held() {
    let (process, namespace) = (owner(&key()), namespace_owner("apps", "n-1"));
    let mut other = process.clone();
    other.uid = "u-2".into();
    let cases = [
        ("controlled", vec![process.clone()], None, true),
        (
            "controlled and held",
            vec![process, namespace.clone()],
            Some("u-1"),
            true,
        ),
        (
            "spared by a foreground deletion",
            vec![namespace.clone()],
            Some("u-1"),
            true,
        ),
        (
            "of a predecessor",
            vec![namespace.clone()],
            Some("u-2"),
            false,
        ),
        ("taken over", vec![other, namespace], Some("u-1"), false),
        ("orphaned", vec![], Some("u-1"), false),
    ];
    for (what, owners, uid, wanted) in cases {
        assert_eq!(belongs(&key(), &with(&owners, uid)), wanted, "{what}");
    }
}

#[test]
fn the_sentinel_tells_an_orphaning_by_having_lost_its_owner() {
    let whole = sentinel::sentinel(&key()).metadata;
    assert!(sentinel::is_one(&whole));
    assert!(!sentinel::tells_orphaned(&key(), &whole));
    let orphaned = ObjectMeta {
        owner_references: None,
        ..whole
    };
    assert!(sentinel::tells_orphaned(&key(), &orphaned));
    let other = ProcessKey {
        uid: "u-2".into(),
        ..key()
    };
    assert!(!sentinel::tells_orphaned(&other, &orphaned));
}

#[test]
fn the_second_owner_does_not_change_the_hash_of_a_deployment() {
    let kept = revision::Kept {
        build_id: "v1-0".into(),
        ..revision::Kept::default()
    };
    let plain = deployment::deployment(&key(), "l2o-v1", &kept, 1);
    let mut second = plain.clone();
    hold(&mut second.metadata, Some(namespace_owner("apps", "n-1")));
    assert_eq!(deployment::applied(&plain), deployment::applied(&second));
    assert!(held(&second.metadata.owner_references.unwrap_or_default()));
}
