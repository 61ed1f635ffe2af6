//! Versions that Temporal does not keep apart.

use process_operator_crds::spec::Versioning;

use super::*;
use crate::contract::{DrainProgress, DrainStage};

fn applied(plan: &Plan) -> Vec<(&str, Option<&str>, i32)> {
    plan.steps
        .iter()
        .filter_map(|step| match step {
            Step::ApplyVersion {
                name,
                kept_as,
                replicas,
                ..
            } => Some((name.as_str(), kept_as.as_deref(), *replicas)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_first_version_without_versioning_takes_the_deployment_of_the_process() {
    let seen = world(V2).change(|process| process.versioning = Versioning::None);
    let plan = decide(&mut memory(), &seen);
    let own = seen.process.as_ref().map(|it| it.deployment_name.as_str());
    assert_eq!(applied(&plan), [("l2o", own, 2)]);
}

#[test]
fn a_target_without_a_share_has_no_pods_when_pods_are_shared() {
    let mut seen = world(V2)
        .with(V1, None)
        .routed(V1, VersionState::Current)
        .change(|process| process.versioning = Versioning::None);
    let plan = decide(&mut memory(), &seen);
    assert_eq!(applied(&plan), [("l2o", Some("l2o-v1-00000001"), 2)]);
    seen.routing.ramping = Some(V2.into());
    seen.routing.percent = 50;
    seen = seen.with(V2, None);
    let plan = decide(&mut memory(), &seen);
    assert_eq!(
        applied(&plan),
        [
            ("l2o", Some("l2o-v1-00000001"), 1),
            ("l2o-canary", Some("l2o-v2-00000002"), 1)
        ]
    );
}

#[test]
fn a_canary_that_has_ended_is_deleted() {
    let mut seen = world(V2).change(|process| process.versioning = Versioning::None);
    seen.strays.insert("l2o-canary".into(), "uid".into());
    let plan = decide(&mut memory(), &seen);
    let deleted = Step::DeleteVersion {
        name: "l2o-canary".into(),
        uid: Some("uid".into()),
    };
    assert!(plan.steps.contains(&deleted), "{:?}", plan.steps);
}

#[test]
fn a_routing_that_was_lost_is_made_again_and_nothing_is_rolled_out() {
    let mut seen = world(V2)
        .with(V2, None)
        .routed(V2, VersionState::Current)
        .change(|process| process.versioning = Versioning::TaskQueuePerVersion);
    seen.routing.lost = true;
    let plan = decide(&mut memory(), &seen);
    let restored = Step::RestoreRouting { current: V2.into() };
    assert!(plan.steps.contains(&restored), "{:?}", plan.steps);
    assert!(plan.start.is_empty(), "{:?}", plan.start);
}

#[test]
fn starters_are_told_the_queue_of_the_current_version() {
    let build_id = "v1-0a1b2c3d";
    let seen = world(V2)
        .with(build_id, None)
        .routed(build_id, VersionState::Current)
        .change(|process| process.versioning = Versioning::TaskQueuePerVersion);
    let queue = seen.process.as_ref().map(|it| it.task_queue.clone());
    let plan = decide(&mut memory(), &seen);
    let wanted = format!("{}-0a1b2c3d", queue.unwrap_or_default());
    assert_eq!(status(&plan).task_queue, wanted);
    let none = world(V2).change(|process| process.versioning = Versioning::TaskQueuePerVersion);
    let plan = decide(&mut memory(), &none);
    assert_eq!(status(&plan).task_queue, "");
}

/// The server does not say of such a version that it is drained, or says it late, so its drain's word counts; one that
/// has told nothing yet may have found that nothing needs the pods.
#[test]
fn a_version_stays_without_the_pods_that_its_drain_has_stopped() {
    let mut seen = world(V2)
        .with(V2, Some(deployment(2)))
        .with(
            V1,
            Some(DeploymentView {
                replicas: 0,
                applied: "other".into(),
                ..deployment(0)
            }),
        )
        .routed(V2, VersionState::Current)
        .routed(V1, VersionState::Draining)
        .change(|process| process.versioning = Versioning::TaskQueuePerVersion);
    for (rules, stage, made_again) in [
        (2, None, true),
        (3, None, false),
        (3, Some(DrainStage::Waiting), true),
        (3, Some(DrainStage::Lingering), true),
        (3, Some(DrainStage::Stopping), false),
        (3, Some(DrainStage::Kept), false),
        (3, Some(DrainStage::Retiring), false),
    ] {
        seen.settings.rules = rules;
        let mut state = settled();
        state.drains.insert(
            V1.into(),
            Drain {
                progress: stage.map(|stage| DrainProgress {
                    stage,
                    ..DrainProgress::default()
                }),
                ..Drain::default()
            },
        );
        let plan = decide(&mut state, &seen);
        let names: Vec<&str> = applied(&plan).iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.contains(&"l2o-v1-00000001"), made_again, "{stage:?}");
    }
}
