use super::*;

fn key() -> ProcessKey {
    ProcessKey {
        namespace: "sales".into(),
        name: "l2o".into(),
        uid: "u".into(),
    }
}

fn routes() -> Routes {
    Routes {
        current: "v1-aaaaaaaa".into(),
        ramping: "v2-bbbbbbbb".into(),
        percent: 25,
        promoting: String::new(),
        served: BTreeMap::from([("v1-aaaaaaaa".to_owned(), Timestamp::UNIX_EPOCH)]),
    }
}

#[test]
fn starters_find_queues_and_share() {
    let built = build(
        &key(),
        Versioning::TaskQueuePerVersion,
        "orders",
        &routes(),
        &Stored::default(),
    );
    let data = built.data.unwrap_or_default();
    let wanted = [
        ("currentBuildId", "v1-aaaaaaaa"),
        ("currentTaskQueue", "orders-aaaaaaaa"),
        ("rampingBuildId", "v2-bbbbbbbb"),
        ("rampingPercent", "25"),
        ("rampingTaskQueue", "orders-bbbbbbbb"),
    ];
    let found: Vec<(&str, &str)> = data
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn what_is_written_is_read() {
    for versioning in [Versioning::TaskQueuePerVersion, Versioning::None] {
        let built = build(&key(), versioning, "orders", &routes(), &Stored::default());
        assert_eq!(parse(&built).routes, routes());
    }
}

#[test]
fn a_share_that_somebody_changed_is_noticed() {
    let expected = Expected {
        current: "v1-aaaaaaaa".into(),
        weight: 25,
        or: vec![50],
    };
    let found = |change: fn(&mut Routes)| {
        let mut routes = routes();
        change(&mut routes);
        let stored = Stored {
            routes,
            changed_by: "kubectl-edit".into(),
            resource_version: None,
        };
        disturbed(&key(), &stored, "v2-bbbbbbbb", &expected).map(|fault| fault.message)
    };
    assert_eq!(found(|_| {}), None);
    assert_eq!(found(|routes| routes.percent = 50), None);
    for change in [
        (|routes| routes.percent = 90) as fn(&mut Routes),
        |routes| routes.ramping = String::new(),
        |routes| routes.current = "v0".into(),
    ] {
        let message = found(change).unwrap_or_default();
        assert!(message.contains("kubectl-edit"), "{message}");
    }
}

/// Their drains count from then, whatever became of who changed the routing.
#[test]
fn versions_that_are_not_routed_to_have_lost_their_traffic_when_they_were_last_current() {
    let served = |build_id: &str| (build_id.to_owned(), Timestamp::UNIX_EPOCH);
    let routes = Routes {
        served: BTreeMap::from([
            served("v0-00000000"),
            served("v1-aaaaaaaa"),
            served("v2-bbbbbbbb"),
        ]),
        ..routes()
    };
    assert_eq!(left(&routes), BTreeMap::from([served("v0-00000000")]));
}
