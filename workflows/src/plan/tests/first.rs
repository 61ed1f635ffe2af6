//! A new Process, of which only the object was looked at.

use super::*;

fn new() -> Observation {
    Observation {
        first: true,
        routing: Routing::default(),
        ..world(V1).change(|process| process.finalizer = false)
    }
}

#[test]
fn its_deployment_is_all_that_is_decided() {
    let mut state = State::default();
    let plan = decide(&mut state, &new());
    let name = format!("l2o-{V1}");
    let apply = Step::ApplyVersion {
        build_id: V1.into(),
        name: name.clone(),
        kept_as: None,
        uid: None,
        revision: false,
        replicas: 2,
    };
    assert_eq!(plan.steps, [Step::EnsureFinalizer, apply]);
    assert!(plan.first && !plan.tells_only());
    assert_eq!(plan.start, []);
    assert_eq!(plan.settled, None);
    // A look follows, and everything else with it.
    state.applied.insert(name, "fields".into());
    let seen = world(V1).with(V1, Some(deployment(0)));
    let plan = decide(&mut state, &seen);
    assert!(!plan.first);
    let applies = |step: &Step| matches!(step, Step::ApplyVersion { .. } | Step::EnsureFinalizer);
    assert!(!plan.steps.iter().any(applies), "{:?}", plan.steps);
    let target = status(&plan).target.as_ref().expect("a target");
    assert_eq!(target.build_id, V1);
    assert!(matches!(&plan.start[..], [Child::Rollout { build_id, .. }] if build_id == V1));
}

#[test]
fn what_stands_against_it_is_looked_at_before_it_is_told() {
    for seen in [
        new().change(|process| process.suspend = true),
        Observation {
            queue_holder: Some("sales/older".into()),
            ..new()
        },
    ] {
        let plan = decide(&mut State::default(), &seen);
        assert!(plan.first);
        assert_eq!(plan.steps, []);
    }
}
