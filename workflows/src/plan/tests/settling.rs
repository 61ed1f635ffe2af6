//! What is made for a Process, and what is put right.

use super::*;

#[test]
fn a_new_process_gets_finalizer_then_deployment_then_status_and_a_rollout() {
    let mut state = State::default();
    let plan = decide(
        &mut state,
        &world(V1).change(|process| process.finalizer = false),
    );
    assert!(
        matches!(plan.steps[0], Step::EnsureFinalizer),
        "{:?}",
        plan.steps
    );
    assert!(matches!(
        plan.steps[1],
        Step::ApplyVersion {
            uid: None,
            revision: false,
            ..
        }
    ));
    assert!(matches!(plan.steps[2], Step::PublishStatus { .. }));
    assert_eq!(starts(&plan), [format!("rollout {V1}")]);
    assert_eq!(
        state.rollout.unwrap().deadline,
        now() + SignedDuration::from_secs(600)
    );
    assert_eq!(plan.settled, None);
}

#[test]
fn a_settled_process_is_only_published_and_the_digest_is_offered() {
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.steps.len(), 1, "{:?}", plan.steps);
    assert!(plan.start.is_empty() && plan.cancel.is_empty());
    assert!(plan.settled.is_some());
    assert_eq!(
        condition(&plan, ConditionType::Ready),
        (true, Reason::Settled)
    );
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::Settled)
    );
    assert_eq!(
        condition(&plan, ConditionType::Stalled),
        (false, Reason::AsExpected)
    );
    let again = decide(&mut state, &seen);
    assert_eq!(
        plan, again,
        "deciding twice on the same world is the same decision"
    );
    state.published = Some((plan.status.clone().unwrap(), seen.status.clone()));
    assert_eq!(
        decide(&mut state, &seen).steps,
        [],
        "what is published is not published again"
    );
}

#[test]
fn what_has_to_be_restored() {
    struct Case {
        name: &'static str,
        seen: Observation,
        applied: &'static [&'static str],
    }
    let base = || world(V1).routed(V1, VersionState::Current);
    let edited = DeploymentView {
        fields: "other".into(),
        ..deployment(2)
    };
    let outdated = DeploymentView {
        applied: "old".into(),
        ..deployment(2)
    };
    let foreign = DeploymentView {
        foreign: true,
        ..edited.clone()
    };
    let leaving = DeploymentView {
        deleting: true,
        ..edited.clone()
    };
    let cases = [
        Case {
            name: "a lost Deployment of the current version",
            seen: base().with(V1, None),
            applied: &[V1],
        },
        Case {
            name: "one edited by hand",
            seen: base().with(V1, Some(edited)),
            applied: &[V1],
        },
        Case {
            name: "one with other replicas than wanted",
            seen: base().with(V1, Some(outdated)),
            applied: &[V1],
        },
        Case {
            name: "not one that belongs to another uid",
            seen: base().with(V1, Some(foreign)),
            applied: &[],
        },
        Case {
            name: "not one on its way out",
            seen: base().with(V1, Some(leaving)),
            applied: &[],
        },
        Case {
            name: "a lost Deployment that pinned runs need",
            seen: base()
                .with(V1, Some(deployment(2)))
                .with(V2, None)
                .routed(V2, VersionState::Draining),
            applied: &[V2],
        },
        Case {
            name: "one of a version of which the server does not tell whether runs need it",
            seen: base()
                .with(V1, Some(deployment(2)))
                .with(V2, None)
                .routed(V2, VersionState::Unknown),
            applied: &[V2],
        },
        Case {
            name: "not one of a drained version",
            seen: base()
                .with(V1, Some(deployment(2)))
                .with(V2, None)
                .routed(V2, VersionState::Drained),
            applied: &[],
        },
        Case {
            name: "nothing while suspended",
            seen: base()
                .with(V1, None)
                .change(|process| process.suspend = true),
            applied: &[],
        },
        Case {
            name: "the current version though the spec is in conflict",
            seen: Observation {
                queue_holder: Some("a/b".into()),
                ..base().with(V1, None)
            },
            applied: &[V1],
        },
    ];
    for case in cases {
        let plan = decide(&mut settled(), &case.seen);
        assert_eq!(applies(&plan), case.applied, "{}", case.name);
    }
}

#[test]
fn a_lost_deployment_of_a_version_that_takes_a_share_is_made_again() {
    let seen = requests::ramping().with(V2, None);
    assert_eq!(applies(&decide(&mut settled(), &seen)), [V2]);
    // Also when the spec asks for it no more, until the share is taken back.
    let undone = seen.change(|spec| *spec = process(V1));
    assert_eq!(applies(&decide(&mut settled(), &undone)), [V2]);
}

#[test]
fn a_version_of_which_nothing_is_told_keeps_its_pods() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Unknown)
        .routed(V2, VersionState::Current);
    let mut state = State {
        current: Some(CurrentVersion {
            build_id: V2.into(),
            since: now(),
        }),
        target: Some((V2.into(), now())),
        ..settled()
    };
    state.applied.insert(format!("l2o-{V2}"), "fields".into());
    let plan = decide(&mut state, &seen);
    // Its drain waits for what the server says; nothing is done without it.
    assert_eq!(starts(&plan), [format!("drain {V1}")]);
    let again = decide(&mut state, &seen);
    for step in plan.steps.iter().chain(&again.steps) {
        let harmless = matches!(step, Step::PublishStatus { .. } | Step::Event { .. });
        let kept = matches!(step, Step::ApplyVersion { replicas, .. } if *replicas == 2);
        assert!(harmless || kept, "{step:?}");
    }
    // And gets them again when they are lost.
    let lost = seen.with(V1, None);
    assert_eq!(applies(&decide(&mut state, &lost)), [V1]);
}
