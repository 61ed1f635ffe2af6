//! Broken installations, and what is said about them.

use super::*;
use crate::samples::{self, V1, change, now, set};
use crate::temporal::{Pollers, Routing};

fn well() -> Installation {
    let at = now() - SignedDuration::from_secs(10);
    Installation {
        unknown_kind: false,
        leases: Leases::Seen(vec![(
            "process-operator-temporal-control".into(),
            Some(at),
            30,
        )]),
    }
}

fn told() -> Told {
    Told {
        unreachable: None,
        namespace: Some(Ok(true)),
        pollers: Some(Ok(Pollers {
            versioned: vec![("shop/l2o".into(), V1.into())],
            unversioned: Vec::new(),
        })),
        routing: Some(Ok(Some(Routing {
            current: V1.into(),
            ..Routing::default()
        }))),
        probe: Some(("Quick".into(), Ok("workflow x has completed".into()))),
    }
}

fn verify(seen: &Installation, objects: &Objects, told: &Told) -> Vec<Check> {
    process(seen, "process-operator", objects, Some(told), now())
}

/// The checks that fail, each with what it says and how to mend it.
fn failed(checks: &[Check]) -> Vec<(&'static str, &str, &str)> {
    let failed = checks.iter().filter(|check| check.level == Level::Fail);
    failed
        .map(|check| (check.check, check.told.as_str(), check.fix.as_str()))
        .collect()
}

/// Exactly these checks fail, and all of them say how to mend it.
#[track_caller]
fn expect(checks: &[Check], wanted: &[&str]) {
    let failed = failed(checks);
    let names: Vec<&str> = failed.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(names, wanted, "{checks:#?}");
    assert!(
        failed
            .iter()
            .all(|(_, told, fix)| !told.is_empty() && !fix.is_empty()),
        "{failed:#?}"
    );
}

#[test]
fn all_is_well() {
    let checks = verify(&well(), &samples::settled(), &told());
    assert!(
        checks.iter().all(|check| check.level == Level::Ok),
        "{checks:#?}"
    );
    expect(&installation(&well(), "process-operator", now()), &[]);
}

#[test]
fn the_kind_is_not_installed() {
    let seen = Installation {
        unknown_kind: true,
        ..well()
    };
    expect(&installation(&seen, "process-operator", now()), &["kind"]);
}

#[test]
fn no_operator_or_one_that_has_died() {
    let mut objects = samples::settled();
    let none = Installation {
        leases: Leases::Seen(Vec::new()),
        ..Installation::default()
    };
    expect(&verify(&none, &objects, &told()), &["operator"]);
    let at = now() - SignedDuration::from_secs(61);
    let dead = Installation {
        leases: Leases::Seen(vec![(
            "process-operator-temporal-control".into(),
            Some(at),
            30,
        )]),
        ..Installation::default()
    };
    expect(&verify(&dead, &objects, &told()), &["operator"]);
    // Another operator does not count.
    let other = Installation {
        leases: Leases::Seen(vec![(
            "process-operator-temporal-other".into(),
            Some(now()),
            30,
        )]),
        ..Installation::default()
    };
    expect(&verify(&other, &objects, &told()), &["operator"]);
    // A change that nobody has seen.
    change(&mut objects, |process| {
        process["metadata"]["generation"] = 4.into();
    });
    expect(&verify(&dead, &objects, &told()), &["operator", "seen"]);
}

#[test]
fn a_temporal_namespace_that_is_missing() {
    let told = Told {
        namespace: Some(Ok(false)),
        ..Told::default()
    };
    expect(
        &verify(&well(), &samples::blocked(), &told),
        &["namespace", "rollout"],
    );
    let checks = process(
        &well(),
        "process-operator",
        &samples::blocked(),
        None,
        now(),
    );
    expect(&checks, &["namespace", "rollout"]);
}

#[test]
fn a_definition_and_a_dependency_that_are_missing() {
    let mut objects = samples::settled();
    change(&mut objects, |process| {
        set(
            process,
            "DefinitionResolved",
            "False",
            "DefinitionNotFound",
            "ConfigMap l2o-def",
        );
        set(
            process,
            "DependenciesReady",
            "False",
            "DependencyNotReady",
            "Domain sales",
        );
    });
    expect(
        &verify(&well(), &objects, &told()),
        &["definition", "dependencies"],
    );
}

#[test]
fn an_image_that_cannot_be_pulled() {
    let nobody = Told {
        namespace: Some(Ok(true)),
        pollers: Some(Ok(Pollers::default())),
        routing: Some(Ok(None)),
        ..Told::default()
    };
    // What follows from it is not told as another fault.
    let checks = verify(&well(), &samples::unpullable(), &nobody);
    expect(&checks, &["workers"]);
    let (_, told, fix) = failed(&checks)[0];
    assert!(
        told.contains("ImagePullBackOff") && fix.contains("spec.image"),
        "{told} {fix}"
    );
}

#[test]
fn workers_that_do_not_poll_or_do_not_say_their_version() {
    let mut seen = told();
    seen.pollers = Some(Ok(Pollers::default()));
    expect(&verify(&well(), &samples::settled(), &seen), &["polling"]);
    seen.pollers = Some(Ok(Pollers {
        versioned: Vec::new(),
        unversioned: vec!["7@l2o".into()],
    }));
    let checks = verify(&well(), &samples::settled(), &seen);
    expect(&checks, &["polling"]);
    assert!(
        failed(&checks)[0].2.contains("TEMPORAL_WORKER_BUILD_ID"),
        "{checks:#?}"
    );
}

#[test]
fn routing_that_somebody_has_changed() {
    let mut seen = told();
    seen.routing = Some(Ok(Some(Routing {
        current: "v9-00000000".into(),
        modifier: "eve".into(),
        ..Routing::default()
    })));
    let checks = verify(&well(), &samples::settled(), &seen);
    expect(&checks, &["routing"]);
    let (_, told, fix) = failed(&checks)[0];
    assert!(
        told.contains("eve") && fix.contains("resume l2o"),
        "{told} {fix}"
    );
    // A ramp that is as it should be.
    seen.routing = Some(Ok(Some(Routing {
        current: V1.into(),
        ramping: samples::V2.into(),
        percent: 25.0,
        ..Routing::default()
    })));
    expect(&verify(&well(), &samples::canary(), &seen), &[]);
}

#[test]
fn a_probe_that_does_not_complete() {
    let mut seen = told();
    seen.probe = Some((
        "Quick".into(),
        Err("workflow x has not completed within 30 s".into()),
    ));
    expect(&verify(&well(), &samples::settled(), &seen), &["probe"]);
}
