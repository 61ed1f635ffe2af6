//! Failures, and what somebody else does to the routing; each course a sentence.

use ErrorCategory::{AnalysisFailed, RoutingChanged};

use super::*;

#[test]
fn every_course_is_as_its_sentence_says() {
    for case in all() {
        play(&case, &mut BTreeSet::new(), &mut Vec::new());
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut all = failures();
    all.extend(other_hands());
    all
}

fn failures() -> Vec<Case> {
    vec![
        given("pods that fail during a pause end it", three_steps()).course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (failed(AnalysisFailed), "Unwinding 1/10%: unwind"),
            (Event::Unwound, "Ended 1/0%: AnalysisFailed"),
        ]),
        given("a weight that cannot be set ends it", three_steps()).course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (
                failed(ErrorCategory::DeploymentOwnedElsewhere),
                "Unwinding 1/0%: recall",
            ),
            // What cannot be taken back is no reason to go on for ever.
            (
                failed(ErrorCategory::DeploymentOwnedElsewhere),
                "Ended 1/0%: DeploymentOwnedElsewhere",
            ),
        ]),
        given(
            "a gate that is overtaken by evidence",
            all_at_once_in_a_step(),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Analyzing 1/10%: judge 10"),
            (conclusive(), "StepGate 1/10%: gate of step 1, try 2"),
            (failed(AnalysisFailed), "Unwinding 1/10%: unwind"),
        ]),
        given("a failed promotion of a rolling update ends it", rolling()).course([
            (Event::Served, "Promoting 0/0%: promote"),
            (failed(ErrorCategory::Forbidden), "Ended 0/0%: Forbidden"),
        ]),
        given(
            "a failed promotion of a canary takes the weight back",
            canary([step(10)]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Promoting 1/10%: promote"),
            (failed(ErrorCategory::Forbidden), "Unwinding 1/10%: unwind"),
            (Event::Unwound, "Ended 1/0%: Forbidden"),
        ]),
        given("what fails while it waits for somebody ends it", manual()).course([
            (Event::Served, "WaitingForPromotion 0/0%: wait"),
            (failed(AnalysisFailed), "Ended 0/0%: AnalysisFailed"),
        ]),
        given(
            "with onFailure Pause evidence against it holds it, weight and all",
            holding(three_steps()),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (
                failed(AnalysisFailed),
                "Pausing 1/10% held AnalysisFailed: wait",
            ),
            // The timer may have run off meanwhile.
            (ordered(Order::Retry), "Weighting 1/10%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (
                failed(AnalysisFailed),
                "Pausing 1/10% held AnalysisFailed: wait",
            ),
            (ordered(Order::Promote), "Weighting 2/10%: weigh 50"),
            (weighted(), "Pausing 2/50%: wait"),
            (
                failed(AnalysisFailed),
                "Pausing 2/50% held AnalysisFailed: wait",
            ),
            (ordered(Order::Abort), "Unwinding 2/50%: unwind"),
            (Event::Unwound, "Ended 2/0%: RolloutAborted"),
        ]),
        given(
            "a held judgement is made again",
            holding(RolloutPolicy {
                analysis: Some(analysis(10)),
                ..canary([step(10)])
            }),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Analyzing 1/10%: judge 10"),
            (
                failed(AnalysisFailed),
                "Analyzing 1/10% held AnalysisFailed: wait",
            ),
            // By what comes from now on.
            (ordered(Order::Retry), "Weighting 1/10%: weigh 10"),
            (weighted(), "Analyzing 1/10%: judge 10"),
            (
                failed(AnalysisFailed),
                "Analyzing 1/10% held AnalysisFailed: wait",
            ),
            (ordered(Order::PromoteFull), "Promoting 1/10%: promote"),
        ]),
        given(
            "a held promotion is made again by each of retry and promote",
            holding(rolling()),
        )
        .course([
            (Event::Served, "Promoting 0/0%: promote"),
            (
                failed(ErrorCategory::Forbidden),
                "Promoting 0/0% held Forbidden: wait",
            ),
            (ordered(Order::Retry), "Promoting 0/0%: promote"),
            (
                failed(ErrorCategory::Forbidden),
                "Promoting 0/0% held Forbidden: wait",
            ),
            (ordered(Order::Promote), "Promoting 0/0%: promote"),
            (
                failed(ErrorCategory::Forbidden),
                "Promoting 0/0% held Forbidden: wait",
            ),
            (ordered(Order::PromoteFull), "Promoting 0/0%: promote"),
            (
                failed(ErrorCategory::Forbidden),
                "Promoting 0/0% held Forbidden: wait",
            ),
            (ordered(Order::Abort), "Unwinding 0/0%: recall"),
        ]),
        given(
            "a held weight is set again by retry and by promote",
            holding(three_steps()),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (
                failed(ErrorCategory::Forbidden),
                "Weighting 1/0% held Forbidden: wait",
            ),
            (ordered(Order::Promote), "Weighting 1/0%: weigh 10"),
            (
                failed(ErrorCategory::Forbidden),
                "Weighting 1/0% held Forbidden: wait",
            ),
            (ordered(Order::Retry), "Weighting 1/0%: weigh 10"),
        ]),
        given("a held rollout can be superseded", holding(three_steps())).course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (
                failed(ErrorCategory::Forbidden),
                "Weighting 1/0% held Forbidden: wait",
            ),
            (Event::Cancelled, "Unwinding 1/0%: recall"),
            (Event::Unwound, "Ended 1/0%: cancelled"),
        ]),
        given(
            "a rollout that is superseded while it unwinds was superseded",
            three_steps(),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (ordered(Order::Abort), "Unwinding 1/0%: recall"),
            (Event::Cancelled, "Unwinding 1/0%: recall"),
            (Event::Unwound, "Ended 1/0%: cancelled"),
        ]),
    ]
}

/// Somebody else changes the routing.
fn other_hands() -> Vec<Case> {
    vec![
        given(
            "a changed routing holds it, whatever the policy; retry takes it back",
            three_steps(),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (
                failed(RoutingChanged),
                "Pausing 1/10% held RoutingChanged: wait",
            ),
            (Event::Due, "Pausing 1/10% held RoutingChanged: wait"),
            (ordered(Order::Retry), "Weighting 1/10%: weigh 10 by force"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Weighting 2/10%: weigh 50"),
        ]),
        given(
            "promote takes the routing back with the next step",
            three_steps(),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (
                failed(RoutingChanged),
                "Pausing 1/10% held RoutingChanged: wait",
            ),
            (
                ordered(Order::Promote),
                "Weighting 2/10%: weigh 50 by force",
            ),
        ]),
        given("promote full takes it back altogether", three_steps()).course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (
                failed(RoutingChanged),
                "Weighting 1/0% held RoutingChanged: wait",
            ),
            (
                ordered(Order::PromoteFull),
                "Promoting 1/0%: promote by force",
            ),
        ]),
        given(
            "promote full on top of a retry takes it back all the same",
            three_steps(),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (
                failed(RoutingChanged),
                "Weighting 1/0% held RoutingChanged: wait",
            ),
            (ordered(Order::Retry), "Weighting 1/0%: weigh 10 by force"),
            (
                ordered(Order::PromoteFull),
                "Promoting 1/0%: promote by force",
            ),
        ]),
        given(
            "a promotion that finds another routing is held, and forced by retry",
            canary([step(10)]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Promoting 1/10%: promote"),
            (
                failed(RoutingChanged),
                "Promoting 1/10% held RoutingChanged: wait",
            ),
            (ordered(Order::Retry), "Promoting 1/10%: promote by force"),
            (Event::Promoted, "Ended 1/100%: current"),
        ]),
        given(
            "promote full forces a held promotion too",
            canary([step(10)]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Promoting 1/10%: promote"),
            (
                failed(RoutingChanged),
                "Promoting 1/10% held RoutingChanged: wait",
            ),
            (
                ordered(Order::PromoteFull),
                "Promoting 1/10%: promote by force",
            ),
        ]),
        given(
            "abort leaves the changed routing to its owner",
            three_steps(),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (
                failed(RoutingChanged),
                "Pausing 1/10% held RoutingChanged: wait",
            ),
            (ordered(Order::Abort), "Unwinding 1/10%: unwind"),
            (Event::Unwound, "Ended 1/0%: RolloutAborted"),
        ]),
        given(
            "judgement and gate are made again at a weight that holds again",
            all_at_once_in_a_step(),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Analyzing 1/10%: judge 10"),
            (
                failed(RoutingChanged),
                "Analyzing 1/10% held RoutingChanged: wait",
            ),
            (ordered(Order::Retry), "Weighting 1/10%: weigh 10 by force"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Analyzing 1/10%: judge 10"),
            (conclusive(), "StepGate 1/10%: gate of step 1, try 2"),
            (
                failed(RoutingChanged),
                "StepGate 1/10% held RoutingChanged: wait",
            ),
            (ordered(Order::Retry), "Weighting 1/10%: weigh 10 by force"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Analyzing 1/10%: judge 10"),
            // Another workflow: what the first one came to is no result at this weight.
            (conclusive(), "StepGate 1/10%: gate of step 1, try 3"),
        ]),
        given(
            "a gate goes on where only the evidence beside it was held",
            holding(all_at_once_in_a_step()),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Analyzing 1/10%: judge 10"),
            (conclusive(), "StepGate 1/10%: gate of step 1, try 2"),
            (
                failed(AnalysisFailed),
                "StepGate 1/10% held AnalysisFailed: wait",
            ),
            (
                ordered(Order::Retry),
                "StepGate 1/10%: gate of step 1, try 2",
            ),
        ]),
    ]
}
