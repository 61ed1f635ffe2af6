//! Gates and evidence, each course a sentence.

use ErrorCategory::{AnalysisFailed, GateFailed, InvalidSpec};

use super::*;

#[test]
fn every_course_is_as_its_sentence_says() {
    for case in all() {
        play(&case, &mut BTreeSet::new(), &mut Vec::new());
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut all = gates();
    all.extend(evidence());
    all
}

fn gates() -> Vec<Case> {
    let step_gate = |attempts| RolloutStep {
        gate: Some(gate(attempts)),
        ..step(10)
    };
    vec![
        given("a gate stands before a rolling update", gated(rolling(), 1)).course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "Promoting 0/0%: promote"),
        ]),
        given(
            "a gate stands before the promotion by hand",
            gated(manual(), 1),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "WaitingForPromotion 0/0%: wait"),
        ]),
        given(
            "a gate stands before the first step",
            gated(three_steps(), 1),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "Weighting 1/0%: weigh 10"),
        ]),
        given(
            "a gate that the spec has changed meanwhile is held",
            gated(rolling(), 2),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (failed(InvalidSpec), "Gate 0/0% held InvalidSpec: wait"),
            (ordered(Order::Retry), "Gate 0/0%: gate of step 0, try 1"),
            (failed(InvalidSpec), "Gate 0/0% held InvalidSpec: wait"),
            (ordered(Order::Promote), "Promoting 0/0%: promote"),
        ]),
        given(
            "a gate has as many attempts as it says",
            gated(rolling(), 2),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (failed(GateFailed), "Gate 0/0%: gate of step 0, try 2"),
            (failed(GateFailed), "Ended 0/0%: GateFailed"),
        ]),
        given("the second attempt may pass", gated(rolling(), 2)).course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (failed(GateFailed), "Gate 0/0%: gate of step 0, try 2"),
            (passed(), "Promoting 0/0%: promote"),
        ]),
        given(
            "what is no result of the gate uses up no attempt",
            holding(gated(rolling(), 2)),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (
                failed(ErrorCategory::InvalidSpec),
                "Gate 0/0% held InvalidSpec: wait",
            ),
            (ordered(Order::Retry), "Gate 0/0%: gate of step 0, try 1"),
        ]),
        given(
            "a retried gate has all its attempts again, under new numbers",
            holding(gated(rolling(), 2)),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (failed(GateFailed), "Gate 0/0%: gate of step 0, try 2"),
            (failed(GateFailed), "Gate 0/0% held GateFailed: wait"),
            (ordered(Order::Retry), "Gate 0/0%: gate of step 0, try 3"),
            (failed(GateFailed), "Gate 0/0%: gate of step 0, try 4"),
            (failed(GateFailed), "Gate 0/0% held GateFailed: wait"),
        ]),
        given(
            "a promotion passes over a failed gate",
            holding(gated(manual(), 1)),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (failed(GateFailed), "Gate 0/0% held GateFailed: wait"),
            (ordered(Order::Promote), "WaitingForPromotion 0/0%: wait"),
        ]),
        given("or over a running one", gated(rolling(), 1)).course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (ordered(Order::Promote), "Promoting 0/0%: promote"),
        ]),
        given(
            "a step's gate comes after its weight, with a number of its own",
            gated(canary([step_gate(1), step(50)]), 1),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "Weighting 1/0%: weigh 10"),
            (weighted(), "StepGate 1/10%: gate of step 1, try 2"),
            (passed(), "Weighting 2/10%: weigh 50"),
        ]),
        given(
            "a step's gate has attempts too, and its failure takes the weight back",
            canary([step_gate(2)]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "StepGate 1/10%: gate of step 1, try 1"),
            (failed(GateFailed), "StepGate 1/10%: gate of step 1, try 2"),
            (failed(GateFailed), "Unwinding 1/10%: unwind"),
            (Event::Unwound, "Ended 1/0%: GateFailed"),
        ]),
        given(
            "a step's gate comes after its pause; the last one leads to all",
            canary([RolloutStep {
                gate: Some(gate(1)),
                ..pausing(10, Some(60))
            }]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "StepGate 1/10%: gate of step 1, try 1"),
            (passed(), "Promoting 1/10%: promote"),
        ]),
        given(
            "the gate after one that was passed over is another workflow",
            canary([
                step_gate(1),
                RolloutStep {
                    gate: Some(gate(1)),
                    ..step(50)
                },
            ]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "StepGate 1/10%: gate of step 1, try 1"),
            (ordered(Order::Promote), "Weighting 2/10%: weigh 50"),
            (weighted(), "StepGate 2/50%: gate of step 2, try 2"),
            (ordered(Order::Promote), "Promoting 2/50%: promote"),
        ]),
    ]
}

fn evidence() -> Vec<Case> {
    let judged = |policy| RolloutPolicy {
        analysis: Some(analysis(10)),
        ..policy
    };
    let own = |weight| RolloutStep {
        analysis: Some(analysis(99)),
        ..step(weight)
    };
    vec![
        given(
            "evidence that is enough leads on",
            judged(canary([step(10), step(50)])),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Analyzing 1/10%: judge 10"),
            (conclusive(), "Weighting 2/10%: weigh 50"),
            (weighted(), "Analyzing 2/50%: judge 10"),
            (conclusive(), "Promoting 2/50%: promote"),
        ]),
        given(
            "a step's own analysis takes the place of the rollout's",
            judged(canary([own(10), step(50)])),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Analyzing 1/10%: judge 99"),
            (conclusive(), "Weighting 2/10%: weigh 50"),
            (weighted(), "Analyzing 2/50%: judge 10"),
        ]),
        given(
            "only the step that has an analysis is judged",
            canary([own(10), step(50)]),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Analyzing 1/10%: judge 99"),
            (conclusive(), "Weighting 2/10%: weigh 50"),
            (weighted(), "Promoting 2/50%: promote"),
        ]),
        given(
            "pause, evidence and gate come in this order",
            all_at_once_in_a_step(),
        )
        .course([
            (Event::Served, "Gate 0/0%: gate of step 0, try 1"),
            (passed(), "Weighting 1/0%: weigh 10"),
            (weighted(), "Pausing 1/10%: pause until 160"),
            (Event::Due, "Analyzing 1/10%: judge 10"),
            (conclusive(), "StepGate 1/10%: gate of step 1, try 2"),
            (passed(), "Weighting 2/10%: weigh 50"),
        ]),
        given(
            "evidence against it takes the weight back",
            judged(canary([step(10)])),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Analyzing 1/10%: judge 10"),
            (failed(AnalysisFailed), "Unwinding 1/10%: unwind"),
            (Event::Unwound, "Ended 1/0%: AnalysisFailed"),
        ]),
        given(
            "the last judgement can be passed over",
            judged(canary([step(10)])),
        )
        .course([
            (Event::Served, "Weighting 1/0%: weigh 10"),
            (weighted(), "Analyzing 1/10%: judge 10"),
            (ordered(Order::Promote), "Promoting 1/10%: promote"),
        ]),
    ]
}
