//! The course of a rollout, as tables and as random walks.

#![allow(clippy::too_many_lines, reason = "a table is as long as it is")]

mod cases;
mod details;
mod failures;
mod gates;
mod orders;
mod transitions;
mod walk;

use std::collections::BTreeSet;

use jiff::Timestamp;
use process_operator_crds::ErrorCategory;
use process_operator_crds::spec::{Analysis, Gate, OnFailure, Pause, RolloutStep, RolloutStrategy};

use super::machine::{Event, Machine, Work};
use crate::contract::{Order, RolloutPolicy, Stage, StepFailure};

/// A course: the machine as it begins, and what it must look like after each event.
struct Case {
    name: String,
    machine: Machine,
    course: Vec<(Event, String)>,
}

/// Where a course begins; see [`Case`].
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact"
)]
struct Begin {
    name: &'static str,
    policy: RolloutPolicy,
    at_once: bool,
    first: bool,
    paused: bool,
    replaces_pods: bool,
    /// Begun by an operator that took no promotion back.
    early: bool,
}

fn given(name: &'static str, policy: RolloutPolicy) -> Begin {
    Begin {
        name,
        policy,
        at_once: false,
        first: false,
        paused: false,
        replaces_pods: false,
        early: false,
    }
}

impl Begin {
    fn at_once(self) -> Self {
        Self {
            at_once: true,
            ..self
        }
    }

    fn replacing_pods(self) -> Self {
        Self {
            replaces_pods: true,
            ..self
        }
    }

    fn early(self) -> Self {
        Self {
            early: true,
            ..self
        }
    }

    /// No version serves yet.
    fn first(self) -> Self {
        Self {
            at_once: true,
            first: true,
            ..self
        }
    }

    fn paused(self) -> Self {
        Self {
            paused: true,
            ..self
        }
    }

    fn course<const N: usize>(self, course: [(Event, &str); N]) -> Case {
        Case {
            name: self.name.into(),
            machine: Machine::new(self.policy, self.at_once, self.paused)
                .first(self.first)
                .replaces_pods(self.replaces_pods)
                .recalls(!self.early),
            course: course
                .into_iter()
                .map(|(event, expected)| (event, expected.to_owned()))
                .collect(),
        }
    }
}

/// A change of stage or step.
type Transition = (Stage, String, Stage);

/// Plays a case, holds every step against what is expected, and tells which transitions it took and
/// in which states it was.
fn play(case: &Case, taken: &mut BTreeSet<Transition>, states: &mut Vec<Machine>) {
    let mut machine = case.machine.clone();
    states.push(machine.clone());
    for (place, (event, expected)) in case.course.iter().enumerate() {
        taken.extend(take(&mut machine, event.clone()));
        let found = shown(&machine);
        let name = &case.name;
        assert_eq!(found, *expected, "{name}: after event {place}, {event:?}");
        states.push(machine.clone());
    }
}

/// Applies an event; the transition that it was, if it was one.
fn take(machine: &mut Machine, event: Event) -> Option<Transition> {
    let before = (machine.progress().stage, machine.progress().step);
    let kind = kind(&event);
    machine.apply(event);
    let after = (machine.progress().stage, machine.progress().step);
    (before != after).then_some((before.0, kind, after.0))
}

/// An event's name; an order's is the order's.
fn kind(event: &Event) -> String {
    match event {
        Event::Ordered(order, _) => order.to_string(),
        event => <&str>::from(event).to_owned(),
    }
}

/// A machine in one line: stage, step, weight, what holds it, and what is to be done.
fn shown(machine: &Machine) -> String {
    let progress = machine.progress();
    let paused = if machine.paused() { " paused" } else { "" };
    let hold = progress.hold.as_ref();
    let hold = hold.map_or_else(String::new, |hold| format!(" held {}", hold.category));
    let work = match machine.work() {
        Work::Serve => "serve".into(),
        Work::Gate { step, attempt, .. } => format!("gate of step {step}, try {attempt}"),
        Work::Weigh { percent, force } => format!("weigh {percent}{}", forced(force)),
        Work::Pause { due } => format!("pause until {}", due.as_second()),
        Work::Judge { analysis } => format!("judge {}", analysis.min_workflows),
        Work::Promote { force } => format!("promote{}", forced(force)),
        Work::Unwind => "unwind".into(),
        Work::Recall => "recall".into(),
        Work::Wait => "wait".into(),
        Work::End => match machine.outcome() {
            Ok(()) => "current".into(),
            Err(None) => "cancelled".into(),
            Err(Some(failure)) => failure.category.to_string(),
        },
    };
    format!(
        "{} {}/{}%{paused}{hold}: {work}",
        progress.stage, progress.step, progress.weight
    )
}

fn forced(force: bool) -> &'static str {
    if force { " by force" } else { "" }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn passed() -> Event {
    Event::GatePassed("completed".into())
}

fn weighted() -> Event {
    Event::Weighted(at(100))
}

fn conclusive() -> Event {
    Event::Conclusive("0 of 10 failed".into())
}

fn failed(category: ErrorCategory) -> Event {
    Event::Failed(StepFailure::new(category, format!("because of {category}")))
}

fn ordered(order: Order) -> Event {
    Event::Ordered(order, "by alice".into())
}

fn gate(attempts: i32) -> Gate {
    Gate {
        workflow_type: "smoke".into(),
        input: None,
        timeout_seconds: 60,
        attempts,
    }
}

fn analysis(min_workflows: i32) -> Analysis {
    Analysis {
        min_workflows,
        ..Analysis::default()
    }
}

fn step(weight: i32) -> RolloutStep {
    RolloutStep {
        weight,
        pause: None,
        gate: None,
        analysis: None,
    }
}

/// Held for a time, or until somebody promotes it.
fn pausing(weight: i32, duration_seconds: Option<i32>) -> RolloutStep {
    RolloutStep {
        pause: Some(Pause { duration_seconds }),
        ..step(weight)
    }
}

fn policy(strategy: RolloutStrategy) -> RolloutPolicy {
    RolloutPolicy {
        strategy,
        ..RolloutPolicy::default()
    }
}

fn rolling() -> RolloutPolicy {
    policy(RolloutStrategy::RollingUpdate)
}

fn manual() -> RolloutPolicy {
    policy(RolloutStrategy::Manual)
}

fn canary(steps: impl Into<Vec<RolloutStep>>) -> RolloutPolicy {
    RolloutPolicy {
        steps: steps.into(),
        ..policy(RolloutStrategy::Canary)
    }
}

/// Each kind of pause once.
fn three_steps() -> RolloutPolicy {
    canary([pausing(10, Some(60)), pausing(50, None), step(90)])
}

/// Everything that a step can have, behind a gate.
fn all_at_once_in_a_step() -> RolloutPolicy {
    let full = RolloutStep {
        gate: Some(gate(1)),
        ..pausing(10, Some(60))
    };
    RolloutPolicy {
        gate: Some(gate(1)),
        analysis: Some(analysis(10)),
        ..canary([full, step(50)])
    }
}

fn holding(policy: RolloutPolicy) -> RolloutPolicy {
    RolloutPolicy {
        on_failure: OnFailure::Pause,
        ..policy
    }
}

fn gated(policy: RolloutPolicy, attempts: i32) -> RolloutPolicy {
    RolloutPolicy {
        gate: Some(gate(attempts)),
        ..policy
    }
}

/// Every case of every table.
fn all() -> Vec<Case> {
    let mut all = cases::all();
    all.extend(gates::all());
    all.extend(failures::all());
    all.extend(orders::all());
    all
}
