//! A Process that goes at once, or is gone.

use super::*;

#[test]
fn what_cannot_be_read_goes_at_once_with_what_is_ours() {
    let foreign = DeploymentView {
        foreign: true,
        ..deployment(2)
    };
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(foreign))
        .change(|process| process.deleting = true);
    let mut state = settled();
    state.rollout = Some(Rollout {
        id: "r".into(),
        ..Rollout::default()
    });
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.cancel, ["r"]);
    assert!(plan.finish);
    assert!(matches!(plan.steps.last(), Some(Step::RemoveFinalizer)));
    let deleted: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::DeleteVersion { name, uid } => Some((name.as_str(), uid.as_deref())),
            _ => None,
        })
        .collect();
    assert!(deleted.contains(&("l2o-v1-00000001", Some("d"))));
    assert!(
        deleted
            .iter()
            .all(|(name, uid)| *name != "l2o-v2-00000002" || uid.is_none())
    );
}

#[test]
fn a_process_that_is_gone_ends_its_lifecycle() {
    let plan = decide(&mut settled(), &Observation::default());
    assert!(plan.finish && plan.steps.is_empty());
}
