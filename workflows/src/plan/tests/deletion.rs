//! How a Process goes, as a table.

mod workers;

use process_operator_crds::spec::{Deletion, DeletionPolicy};

use super::*;
use crate::contract::{
    CloseBy, CloseRunsInput, CloseRunsOutcome, DeletionProgress, DeletionStage, DeletionView,
    Request, Verb,
};

type Change = fn(&mut Observation);

const TIMEOUT: i64 = 600;
const GRACE: i64 = 300;

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// A settled Process that is being deleted since [`now`].
fn going(policy: DeletionPolicy) -> Observation {
    let view = DeletionView {
        since: now(),
        policy: Deletion {
            on_timeout: policy,
            ..Deletion::default()
        },
        ..DeletionView::default()
    };
    world(V1).with(V1, Some(deployment(2))).change(|process| {
        process.deleting = true;
        process.deletion = Some(view);
    })
}

fn view(seen: &mut Observation) -> &mut DeletionView {
    let process = seen.process.as_mut().unwrap();
    process.deletion.as_mut().unwrap()
}

fn run(state: &mut State, seen: &Observation, at: i64) -> Plan {
    plan(state, &key(), "run", seen, &Inbox::default(), after(at))
}

fn open(count: u64) -> DeletionProgress {
    DeletionProgress {
        open: Some(count),
        sample: vec!["order-1".into()],
        ..DeletionProgress::default()
    }
}

/// The stage under way ends like this.
fn ends(state: &mut State, closed: bool, count: u64) {
    let memory = state.deletion.as_mut().unwrap();
    let progress = DeletionProgress {
        stage: memory.stage,
        ..open(count)
    };
    memory.progress = progress.clone();
    memory.ended = Some(CloseRunsOutcome {
        progress,
        closed,
        ..CloseRunsOutcome::default()
    });
}

fn events(plan: &Plan) -> Vec<&str> {
    let reasons = plan.steps.iter().filter_map(|step| match step {
        Step::Event { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    reasons.collect()
}

fn leaves(plan: &Plan) -> bool {
    let lets_go = matches!(plan.steps.last(), Some(Step::RemoveFinalizer));
    assert_eq!(lets_go, plan.finish, "it ends when it lets go");
    assert_ne!(lets_go, plan.close.is_some(), "it works until it lets go");
    lets_go
}

fn deletes(plan: &Plan) -> usize {
    let deletes = |step: &&Step| matches!(step, Step::DeleteVersion { .. });
    plan.steps.iter().filter(deletes).count()
}

/// What the activity is to do: how what is open is ended, and until when.
fn work(plan: &Plan) -> (Option<CloseBy>, Option<Timestamp>) {
    let CloseRunsInput { end, until, .. } = plan.close.clone().expect("work to do");
    (end, until)
}

fn said(plan: &Plan) -> String {
    let status = plan.steps.iter().find_map(|step| match step {
        Step::PublishStatus { status } => Some(status),
        _ => None,
    });
    status.expect("a status").conditions[0].message.clone()
}

#[test]
fn workers_stay_until_nothing_is_open() {
    let seen = going(DeletionPolicy::Abandon);
    let mut state = settled();
    state.rollout = Some(Rollout {
        id: "r".into(),
        ..Rollout::default()
    });
    let first = run(&mut state, &seen, 0);
    assert!(!leaves(&first) && deletes(&first) == 0);
    assert_eq!(first.cancel, ["r"]);
    assert_eq!(work(&first), (None, Some(after(TIMEOUT))));
    assert!(first.close.as_ref().unwrap().pause_schedules);
    assert_eq!(events(&first), ["Deleting"]);
    assert_eq!(
        condition(&first, ConditionType::Ready),
        (false, Reason::Deleting)
    );
    assert!(
        said(&first).contains("pausing schedules"),
        "{}",
        said(&first)
    );

    ends(&mut state, true, 0);
    let last = run(&mut state, &seen, 2);
    assert!(leaves(&last) && deletes(&last) == 1);
    assert_eq!(events(&last), ["StoppingWorkers"]);
    let late = state.deletion.unwrap().late.unwrap();
    assert_eq!((late.until, late.terminate), (after(2), false));
}

#[test]
fn what_it_waits_for_is_told_once() {
    let seen = going(DeletionPolicy::Cancel);
    let mut state = settled();
    run(&mut state, &seen, 0);
    state.deletion.as_mut().unwrap().progress = DeletionProgress {
        late: 1,
        paused: vec!["nightly".into()],
        ..open(3)
    };
    let told = run(&mut state, &seen, 1);
    assert_eq!(
        events(&told),
        ["SchedulesPaused", "WaitingForWorkflows", "LateStarts"]
    );
    let text = said(&told);
    assert!(
        text.contains("waiting for 3 running workflows until 2026-01-01T00:10:00Z")
            && text.contains("asked to cancel, and terminated after 300 s")
            && text.contains("1 started since"),
        "{text}"
    );
    state.published = Some((told.status.unwrap(), String::new()));
    let again = run(&mut state, &seen, 2);
    assert!(again.steps.is_empty(), "{:?}", again.steps);
    assert_eq!(again.close, told.close, "the same work goes on");
}

#[test]
fn after_its_time_what_is_open_is_treated_by_the_policy() {
    for (policy, expected) in [
        (DeletionPolicy::Abandon, None),
        (
            DeletionPolicy::Cancel,
            Some((Some(CloseBy::Cancel), Some(after(601 + GRACE)))),
        ),
        (
            DeletionPolicy::Terminate,
            Some((Some(CloseBy::Terminate), None)),
        ),
    ] {
        let seen = going(policy);
        let mut state = settled();
        run(&mut state, &seen, 0);
        ends(&mut state, false, 2);
        let over = run(&mut state, &seen, 601);
        assert_eq!(leaves(&over), expected.is_none(), "{policy:?}");
        if let Some(expected) = expected {
            assert_eq!(work(&over), expected, "{policy:?}");
            let again = over.close.as_ref().unwrap().pause_schedules;
            assert!(!again, "schedules are paused by now");
            assert_eq!(deletes(&over), 0, "{policy:?}");
        } else {
            assert!(said(&over).contains("2 running workflows left open"));
        }
    }
}

#[test]
fn what_does_not_cancel_is_terminated() {
    let seen = going(DeletionPolicy::Cancel);
    let mut state = settled();
    run(&mut state, &seen, 0);
    ends(&mut state, false, 2);
    run(&mut state, &seen, 601);
    ends(&mut state, false, 1);
    let over = run(&mut state, &seen, 901);
    assert_eq!(work(&over), (Some(CloseBy::Terminate), None));
    assert!(events(&over).contains(&"TerminatingWorkflows"));
    ends(&mut state, true, 0);
    assert!(leaves(&run(&mut state, &seen, 902)));
    assert!(state.deletion.unwrap().late.unwrap().terminate);
}

#[test]
fn a_change_of_the_policy_counts_at_once() {
    let mut seen = going(DeletionPolicy::Cancel);
    let mut state = settled();
    run(&mut state, &seen, 0);
    view(&mut seen).policy.timeout_seconds = 60;
    let sooner = run(&mut state, &seen, 1);
    assert_eq!(work(&sooner), (None, Some(after(60))));
    ends(&mut state, false, 2);
    run(&mut state, &seen, 60);
    view(&mut seen).policy.cancel_grace_seconds = 10;
    assert_eq!(work(&run(&mut state, &seen, 61)).1, Some(after(70)));
    view(&mut seen).policy.on_timeout = DeletionPolicy::Terminate;
    assert_eq!(
        work(&run(&mut state, &seen, 62)).0,
        Some(CloseBy::Terminate)
    );
    view(&mut seen).policy.on_timeout = DeletionPolicy::Abandon;
    let look = run(&mut state, &seen, 63);
    assert_eq!(
        work(&look),
        (None, Some(after(60))),
        "a look that is over at once"
    );
    ends(&mut state, false, 2);
    assert!(leaves(&run(&mut state, &seen, 64)));
}

#[test]
fn in_a_namespace_on_its_way_out_nothing_waits_and_nothing_is_made() {
    for (policy, end) in [
        (DeletionPolicy::Abandon, None),
        (DeletionPolicy::Cancel, Some(CloseBy::Terminate)),
        (DeletionPolicy::Terminate, Some(CloseBy::Terminate)),
    ] {
        // A namespace on its way out may have taken the revision too before anybody has looked.
        for all_taken in [false, true] {
            let mut seen = going(policy);
            view(&mut seen).namespace_terminating = true;
            seen.versions.get_mut(V1).unwrap().deployment = None;
            if all_taken {
                seen.versions.clear();
            }
            let mut state = settled();
            let plan = run(&mut state, &seen, 5);
            assert!(applies(&plan).is_empty(), "{policy:?}");
            assert_eq!(work(&plan).0, end, "{policy:?}");
            let until = work(&plan).1.unwrap();
            assert!(until <= after(65), "{policy:?}: {until}");
            ends(&mut state, false, 4);
            assert!(
                leaves(&run(&mut state, &seen, 70)),
                "{policy:?}: never stuck"
            );
        }
    }
}

#[test]
fn a_namespace_that_begins_to_go_ends_the_wait() {
    let mut seen = going(DeletionPolicy::Terminate);
    let mut state = settled();
    run(&mut state, &seen, 0);
    view(&mut seen).namespace_terminating = true;
    assert_eq!(work(&run(&mut state, &seen, 5)).0, Some(CloseBy::Terminate));
}

#[test]
fn some_go_at_once() {
    let cases: [(&str, Change); 3] = [
        ("forced", |seen| view(seen).forced = true),
        ("its queue is another's", |seen| {
            seen.queue_holder = Some("sales/older".into());
        }),
        ("never deployed", |seen| seen.versions.clear()),
    ];
    for (what, change) in cases {
        let mut seen = going(DeletionPolicy::Terminate);
        change(&mut seen);
        let plan = run(&mut settled(), &seen, 0);
        assert!(leaves(&plan), "{what}");
        assert_eq!(deletes(&plan), seen.versions.len(), "{what}");
    }
}

#[test]
fn force_ends_a_wait() {
    let mut seen = going(DeletionPolicy::Terminate);
    let mut state = settled();
    run(&mut state, &seen, 0);
    view(&mut seen).forced = true;
    assert!(leaves(&run(&mut state, &seen, 1)));
    assert!(!state.deletion.unwrap().late.unwrap().terminate);
}

#[test]
fn orphaned_workers_are_left_as_they_are() {
    let mut marked = going(DeletionPolicy::Terminate);
    view(&mut marked).orphan = true;
    let mut orphaned = going(DeletionPolicy::Terminate);
    let version = orphaned.versions.get_mut(V1).unwrap();
    version.revision = false;
    let pods = version.deployment.as_mut().unwrap();
    (pods.foreign, pods.orphaned) = (true, true);
    for seen in [marked, orphaned] {
        let mut state = settled();
        let first = run(&mut state, &seen, 0);
        assert!(first.remember && !first.finish && first.close.is_none());
        assert_eq!(
            events(&first).len(),
            first.steps.len(),
            "nothing is done yet"
        );
        let plan = run(&mut state, &seen, 0);
        assert!(leaves(&plan) && deletes(&plan) == 0);
        let memory = state.deletion.clone().unwrap();
        assert!(memory.untouched && memory.late.is_none());
        // The task is done again, and the Process is gone by now.
        assert!(run(&mut state, &Observation::default(), 1).finish);
        assert!(state.deletion.unwrap().untouched);
    }
}

#[test]
fn what_is_not_ours_to_end_is_left() {
    let seen = going(DeletionPolicy::Terminate);
    let mut state = settled();
    run(&mut state, &seen, 0);
    ends(&mut state, false, 2);
    run(&mut state, &seen, 601);
    ends(&mut state, false, 2);
    let ended = state.deletion.as_mut().unwrap().ended.as_mut().unwrap();
    ended.managed_by = Some("somebody".into());
    let plan = run(&mut state, &seen, 602);
    assert!(leaves(&plan) && said(&plan).contains("somebody"));
    assert!(!state.deletion.unwrap().late.unwrap().terminate);
}

#[test]
fn a_temporal_namespace_that_is_gone_holds_nothing() {
    let seen = going(DeletionPolicy::Cancel);
    let mut state = settled();
    run(&mut state, &seen, 0);
    ends(&mut state, true, 0);
    let ended = state.deletion.as_mut().unwrap().ended.as_mut().unwrap();
    ended.namespace_gone = true;
    let plan = run(&mut state, &seen, 1);
    assert!(leaves(&plan) && said(&plan).contains("sales-process does not exist"));
}

#[test]
fn nothing_can_be_asked_for_any_more() {
    let seen = going(DeletionPolicy::Abandon);
    let mut state = settled();
    let inbox = Inbox {
        requests: vec![Request {
            id: "restart/1".into(),
            verb: Verb::Restart,
            ..Request::default()
        }],
        ..Inbox::default()
    };
    let plan = plan(&mut state, &key(), "run", &seen, &inbox, now());
    let (id, answer) = &plan.answers[0];
    assert_eq!(id, "restart/1");
    assert!(!answer.accepted && answer.message.contains("being deleted"));
}

#[test]
fn a_lifecycle_that_starts_anew_counts_from_the_deletion() {
    let seen = going(DeletionPolicy::Terminate);
    let plan = run(&mut State::default(), &seen, 3600);
    assert_eq!(work(&plan), (None, Some(after(TIMEOUT))), "over at once");
    let mut state = State::default();
    run(&mut state, &seen, 3600);
    assert_eq!(state.deletion.unwrap().stage, DeletionStage::Waiting);
}

#[test]
fn children_of_a_terminated_lifecycle_are_cancelled_too() {
    let seen = Observation {
        children: vec![format!("rollout/sales/l2o/u1/{V2}/4")],
        ..going(DeletionPolicy::Abandon)
    };
    let plan = run(&mut State::default(), &seen, 0);
    assert_eq!(plan.cancel, [format!("rollout/sales/l2o/u1/{V2}/4")]);
}
