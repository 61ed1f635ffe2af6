//! What people are told, what the executions are watched by, and on whose behalf.

use super::*;

fn after(policy: RolloutPolicy, events: impl IntoIterator<Item = Event>) -> Machine {
    let mut machine = Machine::new(policy, false, false);
    for event in events {
        machine.apply(event);
    }
    machine
}

#[test]
fn executions_are_watched_while_the_version_takes_some_of_them() {
    let own = RolloutStep {
        analysis: Some(analysis(99)),
        ..pausing(10, Some(60))
    };
    let policy = RolloutPolicy {
        analysis: Some(analysis(10)),
        ..canary([own, pausing(50, None)])
    };
    let mut machine = after(policy, [Event::Served]);
    assert_eq!(machine.watch(), None, "it has taken nothing yet");
    machine.apply(Event::Weighted(at(100)));
    assert_eq!(
        machine.watch(),
        Some((analysis(99), at(100))),
        "by the step's own analysis"
    );
    machine.apply(ordered(Order::Promote));
    assert_eq!(
        machine.watch(),
        Some((analysis(10), at(100))),
        "the first step's share runs on while the second weight is set"
    );
    machine.apply(Event::Weighted(at(200)));
    assert_eq!(
        machine.watch(),
        Some((analysis(10), at(100))),
        "counted from when it first took any"
    );
    machine.apply(failed(ErrorCategory::RoutingChanged));
    assert_eq!(machine.watch(), None, "held: somebody knows already");
    machine.apply(ordered(Order::PromoteFull));
    assert_eq!(machine.watch(), None, "it takes over");
}

/// Held for evidence against its first step, by an operator of now or by an earlier one.
fn against(revised: bool) -> Machine {
    let policy = holding(RolloutPolicy {
        analysis: Some(analysis(10)),
        ..canary([pausing(10, Some(60)), pausing(50, None)])
    });
    let mut machine = Machine::new(policy, false, false).recalls(revised);
    for event in [
        Event::Served,
        weighted(),
        failed(ErrorCategory::AnalysisFailed),
    ] {
        machine.apply(event);
    }
    machine
}

#[test]
fn evidence_that_somebody_has_passed_over_does_not_hold_the_next_step() {
    let since = |machine: &Machine| machine.watch().map(|(_, since)| since);
    let mut machine = against(true);
    machine.apply(ordered(Order::Promote));
    assert_eq!(since(&machine), None, "not while the weight is being set");
    machine.apply(Event::Weighted(at(200)));
    assert_eq!(since(&machine), Some(at(200)), "from the next weight on");
    // The watch may say so while the next weight is being set.
    let mut weighting = against(true);
    for event in [
        ordered(Order::Retry),
        failed(ErrorCategory::AnalysisFailed),
        ordered(Order::Promote),
    ] {
        weighting.apply(event);
    }
    assert_eq!(weighting.progress().stage, Stage::Weighting);
    assert_eq!(since(&weighting), None);

    let mut early = against(false);
    early.apply(ordered(Order::Promote));
    early.apply(Event::Weighted(at(200)));
    assert_eq!(since(&early), Some(at(100)), "as it was recorded then");
}

#[test]
fn evidence_that_somebody_has_tried_again_is_judged_by_what_comes_then() {
    let since = |machine: &Machine| machine.watch().map(|(_, since)| since);
    let mut again = against(true);
    again.apply(ordered(Order::Retry));
    assert_eq!(since(&again), None, "not while the weight is being set");
    again.apply(Event::Weighted(at(200)));
    assert_eq!(since(&again), Some(at(200)));
    let mut early = against(false);
    early.apply(ordered(Order::Retry));
    early.apply(Event::Weighted(at(200)));
    assert_eq!(since(&early), Some(at(100)), "as it was recorded then");
}

#[test]
fn what_is_passed_over_for_another_reason_counts_from_the_first_weight() {
    let since = |machine: &Machine| machine.watch().map(|(_, since)| since);
    let mut gated = after(
        holding(all_at_once_in_a_step()),
        [
            Event::Served,
            passed(),
            weighted(),
            Event::Due,
            conclusive(),
        ],
    )
    .recalls(true);
    gated.apply(failed(ErrorCategory::GateFailed));
    gated.apply(ordered(Order::Promote));
    assert_eq!((gated.progress().step, since(&gated)), (2, Some(at(100))));
}

#[test]
fn a_rollout_that_is_stopped_gives_back_no_more_than_it_took() {
    let stopped = |events: &[Event]| {
        let mut machine = Machine::new(canary([step(10)]), false, false).recalls(true);
        for event in events.iter().cloned().chain([Event::Cancelled]) {
            machine.apply(event);
        }
        assert_eq!(machine.work(), Work::Recall, "{events:?}");
        machine.gives_current_back()
    };
    let promoting = [Event::Served, weighted()];
    assert!(stopped(&promoting), "it may be Current already");
    assert!(!stopped(&promoting[..1]), "it has asked for a share only");
    let held = failed(ErrorCategory::RoutingChanged);
    assert!(
        !stopped(&[Event::Served, weighted(), held]),
        "whoever has made it Current since"
    );
    let keep = ordered(Order::Keep);
    assert!(
        !stopped(&[Event::Served, weighted(), keep.clone()]),
        "others have seen it Current"
    );
    let mut machine = after(rolling(), [Event::Served]).recalls(true);
    machine.apply(Event::Cancelled);
    machine.apply(keep);
    assert!(!machine.gives_current_back(), "also when they say so later");
    // A person who aborts means all of it.
    let mut machine = after(three_steps(), [Event::Served]).recalls(true);
    machine.apply(ordered(Order::Abort));
    assert!(machine.gives_current_back());
}

#[test]
fn without_an_analysis_results_are_the_users_own_affair() {
    let machine = after(three_steps(), [Event::Served, weighted()]);
    let (watched, _) = machine.watch().unwrap();
    assert_eq!(
        (watched.min_workflows, watched.max_failure_percent),
        (0, 100)
    );
    assert_eq!(
        watched.max_task_failures, 0,
        "but broken workflow code is not"
    );
}

#[test]
fn an_abort_and_a_failure_end_with_their_reason() {
    let aborted = after(
        three_steps(),
        [
            Event::Served,
            Event::Ordered(Order::Abort, "aborted by alice".into()),
            Event::Unwound,
        ],
    );
    let failure = aborted.outcome().unwrap_err().unwrap();
    assert_eq!(failure.message, "aborted by alice");
    let failing = after(
        three_steps(),
        [
            Event::Served,
            failed(ErrorCategory::AnalysisFailed),
            // How taking back went does not hide why it was taken back.
            failed(ErrorCategory::Forbidden),
        ],
    );
    let failure = failing.outcome().unwrap_err().unwrap();
    assert_eq!(failure.message, "because of AnalysisFailed");
}

#[test]
fn a_second_abort_does_not_replace_the_first() {
    let aborted = after(
        three_steps(),
        [
            Event::Served,
            failed(ErrorCategory::AnalysisFailed),
            ordered(Order::Abort),
            Event::Unwound,
        ],
    );
    let failure = aborted.outcome().unwrap_err().unwrap();
    assert_eq!(failure.category, ErrorCategory::AnalysisFailed);
}

#[test]
fn progress_tells_what_a_gate_came_to_and_what_the_evidence_is() {
    let mut machine = after(
        all_at_once_in_a_step(),
        [Event::Served, Event::GatePassed("smoke completed".into())],
    );
    assert_eq!(machine.progress().gate, "smoke completed");
    machine.apply(weighted());
    machine.apply(Event::Due);
    machine.apply(Event::Conclusive("0 of 10 failed".into()));
    assert_eq!(machine.progress().message, "0 of 10 failed");
    machine.apply(failed(ErrorCategory::GateFailed));
    assert_eq!(
        machine.progress().gate,
        "because of GateFailed",
        "also what a failed gate came to"
    );
}

#[test]
fn evidence_of_one_step_is_not_told_of_the_next() {
    for leads_on in [passed(), ordered(Order::Promote)] {
        let machine = after(
            all_at_once_in_a_step(),
            [
                Event::Served,
                passed(),
                weighted(),
                Event::Due,
                conclusive(),
                leads_on.clone(),
                weighted(),
            ],
        );
        assert_eq!(machine.progress().step, 2);
        assert_eq!(machine.progress().message, "", "{leads_on:?}");
    }
}

#[test]
fn who_waits_for_a_promotion_says_so() {
    let waits = |machine: &Machine| machine.progress().waits_for_promotion();
    assert!(waits(&after(manual(), [Event::Served])));
    let mut machine = after(three_steps(), [Event::Served, weighted()]);
    assert!(!waits(&machine), "a timer leads on");
    for event in [Event::Due, weighted()] {
        machine.apply(event);
    }
    assert!(waits(&machine), "an open pause");
    machine.apply(failed(ErrorCategory::RoutingChanged));
    assert!(!waits(&machine), "held, which is more than waiting");
}

#[test]
fn a_pause_longer_than_time_itself_does_not_overflow() {
    let mut machine = after(canary([pausing(10, Some(i32::MAX))]), [Event::Served]);
    machine.apply(Event::Weighted(Timestamp::MAX));
    assert_eq!(machine.progress().due, Some(Timestamp::MAX));
}
