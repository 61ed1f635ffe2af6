//! Courses with and without steps, each a sentence.

use super::*;

#[test]
fn every_course_is_as_its_sentence_says() {
    for case in all() {
        play(&case, &mut BTreeSet::new(), &mut Vec::new());
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut all = without_steps();
    all.extend(steps());
    all.extend(beside_unversioned());
    all.extend(replacing_pods());
    all.extend(superseded());
    all
}

/// Without versions a promotion replaces pods.
fn replacing_pods() -> Vec<Case> {
    vec![
        given("pods that do not become ready are put back", rolling())
            .replacing_pods()
            .course([
                (Event::Served, "Promoting 0/0%: promote"),
                (
                    failed(ErrorCategory::ProgressDeadlineExceeded),
                    "Unwinding 0/0%: unwind",
                ),
                (Event::Unwound, "Ended 0/0%: ProgressDeadlineExceeded"),
            ]),
        given(
            "and so are those of a promotion that is superseded",
            rolling(),
        )
        .replacing_pods()
        .at_once()
        .course([
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Cancelled, "Unwinding 0/0%: recall"),
            (Event::Unwound, "Ended 0/0%: cancelled"),
        ]),
        given("and those of one that is aborted", rolling())
            .replacing_pods()
            .course([
                (Event::Served, "Promoting 0/0%: promote"),
                (ordered(Order::Abort), "Unwinding 0/0%: recall"),
                (Event::Promoted, "Unwinding 0/0%: recall"),
                (Event::Unwound, "Ended 0/0%: RolloutAborted"),
            ]),
        given(
            "for an earlier operator an abort came too late then",
            rolling(),
        )
        .early()
        .course([
            (Event::Served, "Promoting 0/0%: promote"),
            (ordered(Order::Abort), "Promoting 0/0%: promote"),
            (ordered(Order::Pause), "Promoting 0/0% paused: wait"),
            (ordered(Order::Abort), "Ended 0/0% paused: RolloutAborted"),
        ]),
        given("a first version has none to put back", rolling())
            .replacing_pods()
            .at_once()
            .first()
            .course([
                (Event::Served, "Promoting 0/0%: promote"),
                (Event::Cancelled, "Ended 0/0%: cancelled"),
            ]),
    ]
}

/// By another version, by the one that serves, or by nothing at all.
fn superseded() -> Vec<Case> {
    vec![
        given(
            "a weight that is being set is waited for and taken back",
            three_steps(),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (Event::Cancelled, "Unwinding 1/0%: recall"),
            (weighted(), "Unwinding 1/0%: recall"),
            (Event::Unwound, "Ended 1/0%: cancelled"),
        ]),
        given("and so is a promotion", rolling()).course([
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Cancelled, "Unwinding 0/0%: recall"),
            (Event::Promoted, "Unwinding 0/0%: recall"),
            (Event::Unwound, "Ended 0/0%: cancelled"),
        ]),
        given("also one that takes no steps", three_steps())
            .at_once()
            .course([
                (Event::Served, "Promoting 0/0%: promote"),
                (Event::Cancelled, "Unwinding 0/0%: recall"),
            ]),
        given(
            "and one beside workers without a version",
            canary([step(10)]),
        )
        .first()
        .course([
            (Event::ServedBeside, "Weighting 1/0%: weigh 10"),
            (weighted(), "Promoting 1/10%: promote"),
            (Event::Cancelled, "Unwinding 1/10%: recall"),
        ]),
        given(
            "before a first version there is nothing to go back to",
            rolling(),
        )
        .first()
        .course([
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Cancelled, "Ended 0/0%: cancelled"),
        ]),
        given(
            "an earlier operator did not wait for the weight",
            three_steps(),
        )
        .early()
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (Event::Cancelled, "Unwinding 1/0%: unwind"),
        ]),
        given("nor for the promotion", rolling()).early().course([
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Cancelled, "Ended 0/0%: cancelled"),
        ]),
    ]
}

/// A first version on a queue that workers without a version have served so far.
fn beside_unversioned() -> Vec<Case> {
    let gated = RolloutPolicy {
        gate: Some(gate(1)),
        ..three_steps()
    };
    vec![
        given(
            "it is rolled out by the steps like any other",
            three_steps(),
        )
        .first()
        .course([(Event::ServedBeside, "Weighting 1/0%: weigh 10")]),
        given("through its gate", gated)
            .first()
            .course([(Event::ServedBeside, "Gate 0/0%: gate of step 0, try 1")]),
        given("or when it is promoted", manual())
            .first()
            .course([(Event::ServedBeside, "WaitingForPromotion 0/0%: wait")]),
        given("or at once, as the strategy says", rolling())
            .first()
            .course([(Event::ServedBeside, "Promoting 0/0%: promote")]),
        given(
            "a rollback beside them is a rollback all the same",
            three_steps(),
        )
        .at_once()
        .course([(Event::ServedBeside, "Promoting 0/0%: promote")]),
    ]
}

fn without_steps() -> Vec<Case> {
    vec![
        given("a rolling update takes over once it serves", rolling()).course([
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Promoted, "Ended 0/100%: current"),
        ]),
        given("Manual waits until it is promoted", manual()).course([
            (Event::Served, "WaitingForPromotion 0/0%: wait"),
            (ordered(Order::Promote), "Promoting 0/0%: promote"),
            (Event::Promoted, "Ended 0/100%: current"),
        ]),
        given(
            "a first version or a rollback skips gates and steps",
            all_at_once_in_a_step(),
        )
        .at_once()
        .course([
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Promoted, "Ended 0/100%: current"),
        ]),
        given("and waits for nobody under Manual", manual())
            .at_once()
            .course([(Event::Served, "Promoting 0/0%: promote")]),
        given("a canary without steps is a rolling update", canary([]))
            .course([(Event::Served, "Promoting 0/0%: promote")]),
        given(
            "one that begins paused serves, and takes no traffic",
            rolling(),
        )
        .paused()
        .course([
            (Event::Served, "Promoting 0/0% paused: wait"),
            (ordered(Order::Resume), "Promoting 0/0%: promote"),
        ]),
        given("one that does not serve fails", rolling()).course([(
            failed(ErrorCategory::ProgressDeadlineExceeded),
            "Ended 0/0%: ProgressDeadlineExceeded",
        )]),
        given(
            "not serving is never held, whatever the policy says",
            holding(three_steps()),
        )
        .course([(
            failed(ErrorCategory::ProgressDeadlineExceeded),
            "Ended 0/0%: ProgressDeadlineExceeded",
        )]),
        given("late events are ignored", rolling()).course([
            (weighted(), "Starting 0/0%: serve"),
            (Event::Due, "Starting 0/0%: serve"),
            (passed(), "Starting 0/0%: serve"),
            (conclusive(), "Starting 0/0%: serve"),
            (Event::Promoted, "Starting 0/0%: serve"),
            (Event::Unwound, "Starting 0/0%: serve"),
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Served, "Promoting 0/0%: promote"),
            (Event::Promoted, "Ended 0/100%: current"),
            (Event::Cancelled, "Ended 0/100%: current"),
            (
                failed(ErrorCategory::AnalysisFailed),
                "Ended 0/100%: current",
            ),
            (ordered(Order::Abort), "Ended 0/100%: current"),
        ]),
    ]
}

fn steps() -> Vec<Case> {
    vec![
        given("a canary goes through its steps", three_steps()).course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Weighting 2/10%: weigh 50"),
            (weighted(), "Pausing 2/50%: wait"),
            (ordered(Order::Promote), "Weighting 3/50%: weigh 90"),
            (weighted(), "Promoting 3/90%: promote"),
            (Event::Promoted, "Ended 3/100%: current"),
        ]),
        given(
            "steps without anything follow each other",
            canary([step(10), step(20)]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Weighting 2/10%: weigh 20"),
            (weighted(), "Promoting 2/20%: promote"),
        ]),
        given(
            "a canary may end with a pause",
            canary([pausing(10, Some(60))]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Promoting 1/10%: promote"),
        ]),
        given(
            "the last pause is cut short by a promotion",
            canary([pausing(10, None)]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: wait"),
            (ordered(Order::Promote), "Promoting 1/10%: promote"),
        ]),
        given(
            "while paused time passes, but no weight changes",
            three_steps(),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (
                ordered(Order::Pause),
                "Pausing 1/10% paused: pause until 160",
            ),
            (Event::Due, "Weighting 2/10% paused: wait"),
            (ordered(Order::Resume), "Weighting 2/10%: weigh 50"),
        ]),
        given(
            "a promotion has to wait too while paused",
            canary([step(10)]),
        )
        .paused()
        .course([
            (Event::Served, "Weighting 1/0% paused: wait"),
            (ordered(Order::PromoteFull), "Promoting 1/0% paused: wait"),
            (ordered(Order::Resume), "Promoting 1/0%: promote"),
        ]),
    ]
}
