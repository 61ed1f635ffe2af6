//! Which CronJobs are made, changed and removed.

use super::super::failing_status;
use super::*;
use crate::contract::{CronJobView, StepFailure};

const NAME: &str = "l2o-sla";

fn job() -> CronJobView {
    CronJobView {
        job: "sla".into(),
        desired: "as wanted".into(),
        uid: Some("c-1".into()),
        applied: "as wanted".into(),
        fields: "as applied".into(),
        ..CronJobView::default()
    }
}

/// What is done about one CronJob of a Process that has settled on v1.
fn done(change: impl FnOnce(&mut CronJobView, &mut Observation, &mut State)) -> Vec<Step> {
    let mut seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let mut state = settled();
    let mark = format!("cronjob/{NAME}");
    state.applied.insert(mark, "as applied".into());
    let mut job = job();
    change(&mut job, &mut seen, &mut state);
    seen.cron_jobs.insert(NAME.into(), job);
    let plan = decide(&mut state, &seen);
    let about =
        |step: &Step| matches!(step, Step::ApplyCronJob { .. } | Step::DeleteCronJob { .. });
    plan.steps.into_iter().filter(about).collect()
}

fn applied(steps: &[Step]) -> bool {
    matches!(steps, [Step::ApplyCronJob { name, current, .. }] if name == NAME && current == V1)
}

#[test]
fn one_that_is_as_wanted_is_left_alone() {
    assert_eq!(done(|_, _, _| {}), []);
}

#[test]
fn one_that_is_missing_edited_or_of_another_version_is_applied() {
    assert!(applied(&done(|job, _, _| job.uid = None)), "missing");
    assert!(
        applied(&done(|job, _, _| job.fields = "x".into())),
        "edited"
    );
    assert!(
        applied(&done(|job, _, _| job.desired = "new".into())),
        "new"
    );
    assert!(
        applied(&done(|_, _, state| state.applied.clear())),
        "by a lifecycle that does not know it"
    );
}

#[test]
fn one_that_the_spec_does_not_name_goes_once() {
    let gone = |job: &mut CronJobView| {
        job.job = String::new();
        job.desired = String::new();
    };
    let steps = done(|job, _, _| gone(job));
    let expected = Step::DeleteCronJob {
        name: NAME.into(),
        uid: "c-1".into(),
    };
    assert_eq!(steps, [expected]);
    let leaving = done(|job, _, _| {
        gone(job);
        job.deleting = true;
    });
    assert_eq!(leaving, []);
}

#[test]
fn nothing_is_touched_without_a_current_version_or_word_of_it_or_while_suspended() {
    let wants = |job: &mut CronJobView| job.fields = "edited".into();
    let blind = done(|job, seen, _| {
        wants(job);
        seen.routing.state = RoutingState::Unknown;
    });
    assert_eq!(blind, []);
    let first = done(|job, seen, _| {
        job.uid = None;
        job.desired = String::new();
        seen.routing.current = None;
    });
    assert_eq!(first, []);
    let suspended = done(|job, seen, _| {
        wants(job);
        if let Some(process) = &mut seen.process {
            process.suspend = true;
        }
    });
    assert_eq!(suspended, []);
    let leaving = done(|job, _, _| {
        wants(job);
        job.deleting = true;
    });
    assert_eq!(leaving, [], "it is made again when it is gone");
}

#[test]
fn one_that_is_refused_keeps_no_version_from_being_rolled_out() {
    let mut seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let mut job = job();
    job.fields = "refused".into();
    seen.cron_jobs.insert(NAME.into(), job);
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
    assert!(plan.settled.is_none(), "it is not as wanted");
    // The rest is done, and the status says what was not.
    let failure = StepFailure::new(ErrorCategory::InvalidSpec, "spec.cronJobs[sla]: refused");
    state.trouble = Some((failure, 1));
    let told = Plan {
        steps: vec![failing_status(&state, &key(), "run", &seen).unwrap()],
        ..Plan::default()
    };
    let wrong = (true, Reason::InvalidSpec);
    assert_eq!(condition(&told, ConditionType::Degraded), wrong);
    let under_way = (true, Reason::RollingOut);
    assert_eq!(condition(&told, ConditionType::Progressing), under_way);
}
