//! Every order, and the cancellation, in every stage.

use super::*;

/// What follows from each order, in the order of [`ORDERS`]; `=` for nothing.
struct Row {
    policy: RolloutPolicy,
    /// How to get there.
    by: Vec<Event>,
    there: &'static str,
    then: [&'static str; 7],
}

fn events() -> [Event; 7] {
    [
        ordered(Order::Pause),
        ordered(Order::Resume),
        ordered(Order::Retry),
        ordered(Order::Promote),
        ordered(Order::PromoteFull),
        ordered(Order::Abort),
        Event::Cancelled,
    ]
}

fn rows() -> Vec<Row> {
    let full = all_at_once_in_a_step;
    let way = [
        Event::Served,
        passed(),
        weighted(),
        Event::Due,
        conclusive(),
    ];
    let to = |length: usize| way.iter().take(length).cloned().collect::<Vec<_>>();
    vec![
        Row {
            policy: full(),
            by: to(0),
            there: "Starting 0/0%: serve",
            then: [
                "Starting 0/0% paused: serve",
                "=",
                "=",
                // It has to serve before it can take anything.
                "=",
                "=",
                "Ended 0/0%: RolloutAborted",
                "Ended 0/0%: cancelled",
            ],
        },
        Row {
            policy: full(),
            by: to(1),
            there: "Gate 0/0%: gate of step 0, try 1",
            then: [
                "Gate 0/0% paused: gate of step 0, try 1",
                "=",
                "=",
                "Weighting 1/0%: weigh 10",
                "Promoting 0/0%: promote",
                "Ended 0/0%: RolloutAborted",
                "Ended 0/0%: cancelled",
            ],
        },
        Row {
            policy: manual(),
            by: vec![Event::Served],
            there: "WaitingForPromotion 0/0%: wait",
            then: [
                "WaitingForPromotion 0/0% paused: wait",
                "=",
                "=",
                "Promoting 0/0%: promote",
                "Promoting 0/0%: promote",
                "Ended 0/0%: RolloutAborted",
                "Ended 0/0%: cancelled",
            ],
        },
        Row {
            policy: full(),
            by: to(2),
            there: "Weighting 1/0%: weigh 10",
            then: [
                "Weighting 1/0% paused: wait",
                "=",
                "=",
                // The step is being taken.
                "=",
                "Promoting 1/0%: promote",
                // The server may have been told.
                "Unwinding 1/0%: recall",
                "Unwinding 1/0%: recall",
            ],
        },
        Row {
            policy: full(),
            by: to(3),
            there: "Pausing 1/10%: pause until 160",
            then: [
                "Pausing 1/10% paused: pause until 160",
                "=",
                "=",
                "Weighting 2/10%: weigh 50",
                "Promoting 1/10%: promote",
                "Unwinding 1/10%: unwind",
                "Unwinding 1/10%: unwind",
            ],
        },
        Row {
            policy: full(),
            by: to(4),
            there: "Analyzing 1/10%: judge 10",
            then: [
                "Analyzing 1/10% paused: judge 10",
                "=",
                "=",
                "Weighting 2/10%: weigh 50",
                "Promoting 1/10%: promote",
                "Unwinding 1/10%: unwind",
                "Unwinding 1/10%: unwind",
            ],
        },
        Row {
            policy: full(),
            by: to(5),
            there: "StepGate 1/10%: gate of step 1, try 2",
            then: [
                "StepGate 1/10% paused: gate of step 1, try 2",
                "=",
                "=",
                "Weighting 2/10%: weigh 50",
                "Promoting 1/10%: promote",
                "Unwinding 1/10%: unwind",
                "Unwinding 1/10%: unwind",
            ],
        },
        Row {
            policy: rolling(),
            by: to(1),
            there: "Promoting 0/0%: promote",
            then: [
                "Promoting 0/0% paused: wait",
                "=",
                "=",
                "=",
                "=",
                // The server may have been told.
                "Unwinding 0/0%: recall",
                "Unwinding 0/0%: recall",
            ],
        },
        Row {
            policy: canary([step(10)]),
            by: vec![Event::Served, weighted()],
            there: "Promoting 1/10%: promote",
            then: [
                "Promoting 1/10% paused: wait",
                "=",
                "=",
                "=",
                "=",
                "Unwinding 1/10%: recall",
                "Unwinding 1/10%: recall",
            ],
        },
        Row {
            policy: canary([step(10)]),
            by: vec![Event::Served, weighted(), ordered(Order::Pause)],
            there: "Promoting 1/10% paused: wait",
            then: [
                "=",
                "Promoting 1/10%: promote",
                "=",
                "=",
                "=",
                "Unwinding 1/10% paused: recall",
                "Unwinding 1/10% paused: recall",
            ],
        },
        Row {
            policy: rolling(),
            by: vec![Event::Served, ordered(Order::Pause)],
            there: "Promoting 0/0% paused: wait",
            then: [
                "=",
                "Promoting 0/0%: promote",
                "=",
                "=",
                "=",
                // The server may have been told before the pause.
                "Unwinding 0/0% paused: recall",
                "Unwinding 0/0% paused: recall",
            ],
        },
        Row {
            policy: three_steps(),
            by: vec![Event::Served, weighted(), ordered(Order::Abort)],
            there: "Unwinding 1/10%: unwind",
            then: [
                "Unwinding 1/10% paused: unwind",
                "=",
                "=",
                "=",
                "=",
                "=",
                "=",
            ],
        },
        Row {
            policy: rolling(),
            by: vec![Event::Served, ordered(Order::Abort)],
            there: "Unwinding 0/0%: recall",
            then: [
                "Unwinding 0/0% paused: recall",
                "=",
                "=",
                "=",
                "=",
                "=",
                // What was begun is brought to its end.
                "=",
            ],
        },
        Row {
            policy: rolling(),
            by: vec![Event::Served, Event::Promoted],
            there: "Ended 0/100%: current",
            then: ["="; 7],
        },
    ]
}

#[test]
fn every_order_does_in_every_stage_what_the_table_says() {
    for case in all() {
        play(&case, &mut BTreeSet::new(), &mut Vec::new());
    }
}

pub(super) fn all() -> Vec<Case> {
    let of_row = |row: Row| {
        let mut machine = Machine::new(row.policy, false, false).recalls(true);
        let mut course = Vec::new();
        // The way is held against nothing here: it has cases of its own.
        for event in row.by {
            machine.apply(event);
        }
        assert_eq!(shown(&machine), row.there);
        for (event, then) in events().into_iter().zip(row.then) {
            let then = if then == "=" { row.there } else { then };
            course.push(Case {
                name: format!("{} when it is {}", kind(&event), row.there),
                machine: machine.clone(),
                course: vec![(event, then.to_owned())],
            });
        }
        course
    };
    rows().into_iter().flat_map(of_row).collect()
}

#[test]
fn an_order_of_a_newer_operator_does_nothing() {
    for case in all() {
        let mut machine = case.machine.clone();
        machine.apply(ordered(Order::Unknown));
        assert_eq!(machine, case.machine, "{}", case.name);
    }
}

/// Two open steps, the first of which has its weight set.
fn weighting() -> Machine {
    let policy = canary([pausing(10, None), pausing(50, None)]);
    let mut machine = Machine::new(policy, false, false).recalls(true);
    machine.apply(Event::Served);
    assert_eq!(shown(&machine), "Weighting 1/0%: weigh 10");
    machine
}

fn promoted(machine: &mut Machine, out_of: Option<u32>) {
    machine.out_of(out_of);
    machine.apply(ordered(Order::Promote));
}

#[test]
fn a_promotion_that_comes_before_the_word_that_the_weight_is_set_is_not_lost() {
    let mut machine = weighting();
    promoted(&mut machine, Some(1));
    assert_eq!(shown(&machine), "Weighting 1/0%: weigh 10");
    machine.apply(weighted());
    assert_eq!(shown(&machine), "Weighting 2/10%: weigh 50");
    machine.apply(weighted());
    assert_eq!(shown(&machine), "Pausing 2/50%: wait", "it was one step");
}

#[test]
fn a_promotion_out_of_a_step_that_is_over_takes_no_other_step() {
    let mut machine = weighting();
    machine.apply(weighted());
    promoted(&mut machine, Some(1));
    machine.apply(weighted());
    promoted(&mut machine, Some(1));
    assert_eq!(shown(&machine), "Pausing 2/50%: wait");
    promoted(&mut machine, Some(2));
    assert_eq!(shown(&machine), "Promoting 2/50%: promote");
}

#[test]
fn one_that_says_no_step_does_what_it_did() {
    let mut machine = weighting();
    promoted(&mut machine, None);
    machine.apply(weighted());
    assert_eq!(shown(&machine), "Pausing 1/10%: wait");
    promoted(&mut machine, None);
    assert_eq!(shown(&machine), "Weighting 2/10%: weigh 50");
}
