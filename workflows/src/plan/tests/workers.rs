//! Pods of the version that serves are lost.

use super::*;

#[test]
fn lost_workers_of_the_current_version_make_it_unready() {
    let seen = world(V1)
        .with(V1, Some(deployment(0)))
        .routed(V1, VersionState::Current);
    let plan = decide(&mut settled(), &seen);
    assert_eq!(
        condition(&plan, ConditionType::Ready),
        (false, Reason::WorkersUnavailable)
    );
    assert_eq!(
        condition(&plan, ConditionType::Degraded),
        (true, Reason::WorkersUnavailable)
    );
    assert!(
        !condition(&plan, ConditionType::Stalled).0,
        "nobody has to act: it mends itself"
    );
}

fn ailing(ready: i32, trouble: &str) -> Observation {
    let pods = DeploymentView {
        trouble: trouble.into(),
        ..deployment(ready)
    };
    world(V1)
        .with(V1, Some(pods))
        .routed(V1, VersionState::Current)
}

fn events(plan: &Plan) -> Vec<(&str, &str)> {
    let told = plan.steps.iter().filter_map(|step| match step {
        Step::Event { reason, note, .. } => Some((reason.as_str(), note.as_str())),
        _ => None,
    });
    told.collect()
}

fn message(plan: &Plan, kind: ConditionType) -> String {
    let status = plan.steps.iter().find_map(|step| match step {
        Step::PublishStatus { status } => Some(status),
        _ => None,
    });
    let conditions = &status.expect("a status").conditions;
    let found = conditions.iter().find(|found| found.type_ == kind);
    found.expect("the condition").message.clone()
}

#[test]
fn why_is_told_in_words_and_by_one_event_until_they_are_back() {
    let mut state = settled();
    let why = "pod p CrashLoopBackOff: restarted 3 times";
    let plan = decide(&mut state, &ailing(1, why));
    let words = format!("1/2 worker pods ready: {why}");
    for kind in [ConditionType::Degraded, ConditionType::WorkersReady] {
        assert_eq!(condition(&plan, kind).1, Reason::WorkersUnavailable);
        assert_eq!(message(&plan, kind), words);
    }
    assert!(
        condition(&plan, ConditionType::Ready).0,
        "the other one serves"
    );
    assert!(!condition(&plan, ConditionType::Reconciling).0);
    assert_eq!(plan.phase, "Degraded");
    assert_eq!(
        events(&plan),
        [("WorkersUnavailable", format!("{V1}: {words}").as_str())]
    );
    let worse = decide(&mut state, &ailing(0, "pod p was evicted"));
    assert!(!condition(&worse, ConditionType::Ready).0);
    assert!(events(&worse).is_empty(), "told already");
    let unknown = decide(&mut state, &ailing(1, ""));
    assert!(events(&unknown).is_empty(), "they are not back yet");
    let back = decide(&mut state, &ailing(2, ""));
    assert_eq!(events(&back)[0].0, "WorkersReady");
    assert!(!condition(&back, ConditionType::Degraded).0);
    assert!(events(&decide(&mut state, &ailing(2, ""))).is_empty());
}

#[test]
fn one_that_is_missing_for_a_moment_is_no_reason_to_worry() {
    let plan = decide(&mut settled(), &ailing(1, ""));
    assert!(!condition(&plan, ConditionType::Degraded).0);
    assert!(events(&plan).is_empty());
}
