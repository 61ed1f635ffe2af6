//! What runs while a deletion waits, and how it is found.

use super::*;

#[test]
fn workers_lost_while_it_waits_are_made_again() {
    let mut seen = going(DeletionPolicy::Abandon);
    seen.versions.get_mut(V1).unwrap().deployment = None;
    let kept = seen.with(V2, None);
    let mut seen = kept;
    seen.versions.get_mut(V2).unwrap().retired = Some(now());
    let plan = run(&mut settled(), &seen, 0);
    assert_eq!(applies(&plan), [V1], "what is kept for a rollback is not");
}

#[test]
fn workers_without_pods_get_them_back_when_something_needs_them() {
    let stopped = DeploymentView {
        replicas: 0,
        ..deployment(0)
    };
    for (needed, namespace_terminating, again) in [
        (true, false, true),
        (false, false, false),
        (true, true, false),
    ] {
        let mut seen = going(DeletionPolicy::Abandon).with(V2, Some(stopped.clone()));
        seen.versions.get_mut(V2).unwrap().needed = needed;
        view(&mut seen).namespace_terminating = namespace_terminating;
        let plan = run(&mut settled(), &seen, 0);
        let pods = plan.steps.iter().find_map(|step| match step {
            Step::ApplyVersion {
                build_id,
                replicas,
                revision: true,
                ..
            } => Some((build_id.as_str(), *replicas)),
            _ => None,
        });
        assert_eq!(pods, again.then_some((V2, 2)), "{needed}");
    }
}

#[test]
fn the_details_have_the_query_that_is_counted() {
    let seen = going(DeletionPolicy::Abandon);
    let mut state = settled();
    run(&mut state, &seen, 0);
    state.deletion.as_mut().unwrap().progress = open(3);
    let details = run(&mut state, &seen, 1).details;
    let query = "`(TaskQueue IN ('l2o-tq') OR TemporalWorkerDeployment IN ('sales/l2o')) AND \
                 ExecutionStatus = 'Running'`";
    assert!(details.contains(query), "{details}");
}
