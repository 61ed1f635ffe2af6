//! Random policies, random events: what must hold whatever happens.

use proptest::prelude::*;

use super::transitions::{every_event, legal};
use super::*;

/// One step of a walk.
#[derive(Debug, Clone)]
enum Move {
    /// What is under way succeeds.
    Succeeds,
    /// What is under way, or the watch over it, fails.
    Fails(ErrorCategory),
    /// Anything at all, however late.
    Anything(Event),
}

/// What comes of the work that is under way; `None` while only a person leads on.
fn success(machine: &Machine) -> Option<Event> {
    match machine.work() {
        Work::Serve => Some(Event::Served),
        Work::Gate { .. } => Some(passed()),
        Work::Weigh { .. } => Some(weighted()),
        Work::Pause { .. } => Some(Event::Due),
        Work::Judge { .. } => Some(conclusive()),
        Work::Promote { .. } => Some(Event::Promoted),
        Work::Unwind | Work::Recall => Some(Event::Unwound),
        Work::Wait | Work::End => None,
    }
}

fn categories() -> impl Strategy<Value = ErrorCategory> {
    prop::sample::select(vec![
        ErrorCategory::GateFailed,
        ErrorCategory::AnalysisFailed,
        ErrorCategory::RoutingChanged,
        ErrorCategory::Forbidden,
    ])
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Succeeds),
        1 => categories().prop_map(Move::Fails),
        1 => prop::sample::select(every_event()).prop_map(Move::Anything),
        1 => prop::sample::select(vec![
            Order::Pause, Order::Resume, Order::Promote, Order::Retry,
        ]).prop_map(|order| Move::Anything(ordered(order))),
    ];
    prop::collection::vec(one, 0..60)
}

fn policies() -> impl Strategy<Value = RolloutPolicy> {
    let gates = || prop::option::of((1..4).prop_map(gate));
    let analyses = || prop::option::of((0..20).prop_map(analysis));
    let pauses = prop::option::of(prop::option::of(1..100));
    // Weights rise, which the schema demands.
    let step = (1..20, pauses, gates(), analyses());
    let steps = prop::collection::vec(step, 0..5).prop_map(|steps| {
        let mut weight = 0;
        let of = |(more, pause, gate, analysis): (i32, Option<Option<i32>>, _, _)| {
            weight += more;
            RolloutStep {
                weight,
                pause: pause.map(|duration_seconds| Pause { duration_seconds }),
                gate,
                analysis,
            }
        };
        steps.into_iter().map(of).collect::<Vec<_>>()
    });
    let strategies = prop_oneof![
        1 => Just(RolloutStrategy::RollingUpdate),
        1 => Just(RolloutStrategy::Manual),
        4 => Just(RolloutStrategy::Canary),
    ];
    let on_failure = prop_oneof![Just(OnFailure::Abort), Just(OnFailure::Pause)];
    (strategies, steps, gates(), analyses(), on_failure).prop_map(
        |(strategy, steps, gate, analysis, on_failure)| RolloutPolicy {
            strategy,
            steps,
            gate,
            analysis,
            on_failure,
        },
    )
}

/// A machine on its way, and what it has been through.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
struct Walk {
    machine: Machine,
    legal: BTreeSet<Transition>,
    weighed: bool,
    unwound: bool,
    promoted: bool,
    recalls: bool,
}

impl Walk {
    fn new(machine: Machine) -> Self {
        Self {
            recalls: machine == machine.clone().recalls(true),
            machine,
            legal: legal(),
            weighed: false,
            unwound: false,
            promoted: false,
        }
    }

    /// Takes an event in and holds the step against everything that must hold.
    fn step(&mut self, event: &Event) {
        let before = self.machine.clone();
        if let Some(transition) = take(&mut self.machine, event.clone()) {
            assert!(self.legal.contains(&transition), "{transition:?}");
        }
        let (was, is) = (before.progress(), self.machine.progress());
        self.promoted |=
            was.stage == Stage::Promoting && is.stage == Stage::Ended && *event == Event::Promoted;
        self.weighed |= is.stage == Stage::Weighting;
        self.unwound |= is.stage == Stage::Unwinding;
        if was.stage == Stage::Ended {
            assert_eq!(before, self.machine, "what has ended does not change");
        }
        self.weight(&before, event);
        self.recalled(&before, event);
        assert!(was.step <= is.step, "no step is taken back");
        assert!(
            is.hold.is_none() || is.stage != Stage::Unwinding,
            "taking back is never held"
        );
        if self.machine.paused() {
            assert!(
                !matches!(
                    self.machine.work(),
                    Work::Weigh { .. } | Work::Promote { .. }
                ),
                "no change of routing while paused, but the one that takes it back"
            );
        }
        if is.stage == Stage::Ended {
            self.end();
        }
    }

    /// A weight is what the server was told, and only rises until it is taken back.
    fn weight(&self, before: &Machine, event: &Event) {
        let (was, is) = (before.progress(), self.machine.progress());
        if was.weight == is.weight {
            return;
        }
        let expected = match event {
            Event::Weighted(_) => Stage::Weighting,
            Event::Promoted => Stage::Promoting,
            _ => Stage::Unwinding,
        };
        assert_eq!(was.stage, expected, "{event:?} changed the weight");
        if was.stage == Stage::Unwinding {
            assert_eq!((is.stage, is.weight), (Stage::Ended, 0));
        } else {
            assert!(is.weight > was.weight, "{} after {}", is.weight, was.weight);
        }
    }

    /// Whatever was being changed when somebody said no is taken back.
    fn recalled(&self, before: &Machine, event: &Event) {
        let left = matches!(event, Event::Ordered(Order::Abort, _) | Event::Cancelled);
        if left
            && self.recalls
            && matches!(before.progress().stage, Stage::Weighting | Stage::Promoting)
        {
            assert_eq!(self.machine.work(), Work::Recall);
        }
    }

    fn end(&self) {
        assert_eq!(
            self.machine.outcome().is_ok(),
            self.promoted,
            "it succeeds when all goes to the version, and only then"
        );
        assert_eq!(self.machine.work(), Work::End);
        if self.weighed && !self.promoted {
            assert!(self.unwound, "what was given is taken back");
        }
        let weight = self.machine.progress().weight;
        assert_eq!(weight, if self.promoted { 100 } else { 0 });
    }

    fn walk(&mut self, moves: Vec<Move>) {
        for next in moves {
            let event = match next {
                Move::Succeeds => success(&self.machine),
                // What is not under way cannot fail.
                Move::Fails(category) => success(&self.machine).map(|_| failed(category)),
                Move::Anything(event) => Some(event),
            };
            if let Some(event) = event {
                self.step(&event);
            }
        }
    }
}

fn no_files() -> ProptestConfig {
    ProptestConfig {
        cases: 500,
        // A failure is printed in its smallest form; nothing is left in the source tree.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(no_files())]

    #[test]
    fn whatever_happens_a_rollout_keeps_its_promises(
        policy in policies(), at_once: bool, paused: bool, recalls: bool, moves in moves(),
    ) {
        Walk::new(Machine::new(policy, at_once, paused).recalls(recalls)).walk(moves);
    }

    #[test]
    fn from_anywhere_people_can_bring_it_to_its_end(
        policy in policies(), at_once: bool, paused: bool, moves in moves(),
    ) {
        let mut walk = Walk::new(Machine::new(policy, at_once, paused));
        walk.walk(moves);
        // Serve, then perhaps a gate that runs already, then promote.
        for _ in 0..3 {
            for order in [Order::Resume, Order::Retry, Order::PromoteFull] {
                walk.step(&ordered(order));
            }
            if let Some(event) = success(&walk.machine) {
                walk.step(&event);
            }
        }
        prop_assert_eq!(walk.machine.progress().stage, Stage::Ended, "{}", shown(&walk.machine));
    }

    #[test]
    fn no_two_gates_of_a_rollout_share_a_number(
        policy in policies(), moves in moves(),
    ) {
        let mut walk = Walk::new(Machine::new(policy, false, false));
        let mut steps = std::collections::BTreeMap::new();
        for next in moves {
            if let Work::Gate { step, attempt, .. } = walk.machine.work() {
                // The number names the workflow: another step's would be taken for this one's.
                prop_assert_eq!(*steps.entry(attempt).or_insert(step), step);
            }
            walk.walk(vec![next]);
        }
    }
}
