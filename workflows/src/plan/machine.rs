//! The course of one rollout, as a state machine without a clock: an event goes in, what to do next
//! comes out. `ProcessRollout` only carries it out.

use jiff::Timestamp;
use process_operator_crds::spec::{Analysis, Gate, RolloutStep, RolloutStrategy};

use crate::contract::{Order, Progress, RolloutPolicy, Stage, StepFailure, after};

mod ending;
mod orders;

/// What is to be done now. As long as it stays the same, what runs goes on running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Wait until pods are ready and poll.
    Serve,
    /// Run a gate; `step` 0 is the one before any traffic.
    Gate {
        /// Which gate.
        step: u32,
        /// Which try, from 1, over all retries of this rollout.
        attempt: u32,
        /// What the gate is.
        gate: Gate,
    },
    /// Set the weight.
    Weigh {
        /// Percentage of new executions.
        percent: i32,
        /// Whatever the routing is now: somebody decided to take it back.
        force: bool,
    },
    /// Let time pass.
    Pause {
        /// Until when.
        due: Timestamp,
    },
    /// Wait until there is evidence enough.
    Judge {
        /// By what.
        analysis: Analysis,
    },
    /// Make the version Current.
    Promote {
        /// See [`Work::Weigh`].
        force: bool,
    },
    /// Take the weight back.
    Unwind,
    /// Take everything back: the version may be Current already.
    Recall,
    /// Nothing but a person or an event leads on.
    Wait,
    /// Over.
    End,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
pub enum Event {
    /// Pods are ready and poll.
    Served,
    /// The same, and workers without a version have served the queue so far.
    ServedBeside,
    /// A gate workflow completed; with what, for people.
    GatePassed(String),
    /// The weight is set, and all task queues know it.
    Weighted(Timestamp),
    /// The pause is over.
    Due,
    /// The evidence is enough; what it is, for people.
    Conclusive(String),
    /// All new executions go to the version.
    Promoted,
    /// The weight is taken back.
    Unwound,
    /// What was under way cannot be done, or the evidence speaks against the version.
    Failed(StepFailure),
    /// Somebody asks for something, on behalf of somebody.
    Ordered(Order, String),
    /// The rollout is superseded, or the Process goes.
    Cancelled,
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact"
)]
pub struct Machine {
    policy: RolloutPolicy,
    /// No steps and no gate: a first version, or one that has served before.
    at_once: bool,
    /// No version serves yet.
    first: bool,
    /// Making the version Current replaces pods, which has to be undone when it does not succeed.
    replaces_pods: bool,
    /// A change of routing that is under way is waited for and taken back.
    recalls: bool,
    progress: Progress,
    /// Routing may have been changed by this rollout.
    touched: bool,
    /// A change of routing was under way when it was left, and may get through yet.
    recall: bool,
    /// Whatever is Current then stays that.
    keeps: bool,
    force: bool,
    /// The step that the next order is to lead out of.
    out_of: Option<u32>,
    /// The step whose weight is being set is over with that.
    onward: bool,
    /// Gate workflows started so far, and those of the present gate.
    gates: u32,
    tries: i32,
    since: Option<Timestamp>,
    failure: Option<StepFailure>,
    cancelled: bool,
}

impl Machine {
    /// At its beginning.
    pub fn new(policy: RolloutPolicy, at_once: bool, paused: bool) -> Self {
        let mut machine = Self {
            policy,
            at_once,
            first: false,
            replaces_pods: false,
            recalls: false,
            progress: Progress {
                paused,
                ..Progress::default()
            },
            touched: false,
            recall: false,
            keeps: false,
            force: false,
            out_of: None,
            onward: false,
            gates: 1,
            tries: 1,
            since: None,
            failure: None,
            cancelled: false,
        };
        machine.count_steps();
        machine
    }

    /// No version serves yet.
    #[must_use]
    pub fn first(mut self, first: bool) -> Self {
        self.first = first;
        self
    }

    /// Making the version Current replaces the pods of the one that serves.
    #[must_use]
    pub fn replaces_pods(mut self, replaces: bool) -> Self {
        self.replaces_pods = replaces;
        self
    }

    /// A change of routing that is under way is waited for and taken back, a promotion too; and evidence that was passed
    /// over is not looked at again.
    #[must_use]
    pub fn recalls(mut self, recalls: bool) -> Self {
        self.recalls = recalls;
        self
    }

    fn count_steps(&mut self) {
        let stepped = !self.at_once && self.policy.strategy == RolloutStrategy::Canary;
        let steps = if stepped { self.policy.steps.len() } else { 0 };
        self.progress.steps = u32::try_from(steps).unwrap_or(u32::MAX);
    }

    /// It shares new executions with what served before, or waits beside it.
    pub fn shares(&self) -> bool {
        !self.at_once && self.policy.strategy != RolloutStrategy::RollingUpdate
    }

    /// For the lifecycle.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Changes of routing are held back.
    pub fn paused(&self) -> bool {
        self.progress.paused
    }

    /// The weight of the step under way.
    pub fn weight_of_step(&self) -> Option<i32> {
        self.step().map(|step| step.weight)
    }

    /// How it ended: `Err(None)` when it was cancelled.
    pub fn outcome(&self) -> Result<(), Option<StepFailure>> {
        match &self.failure {
            _ if self.cancelled => Err(None),
            Some(failure) => Err(Some(failure.clone())),
            None => Ok(()),
        }
    }

    /// What it takes back when it is left includes that its version is Current.
    pub fn gives_current_back(&self) -> bool {
        !self.keeps
    }

    /// What to do now.
    pub fn work(&self) -> Work {
        let held = self.progress.hold.is_some();
        match self.progress.stage {
            Stage::Ended => Work::End,
            Stage::Unwinding if self.recall => Work::Recall,
            Stage::Unwinding => Work::Unwind,
            _ if held => Work::Wait,
            Stage::Starting => Work::Serve,
            Stage::Gate | Stage::StepGate => self.gate().map_or(Work::Wait, |gate| Work::Gate {
                step: self.progress.step,
                attempt: self.gates,
                gate,
            }),
            Stage::Weighting | Stage::Promoting if self.progress.paused => Work::Wait,
            Stage::Weighting => Work::Weigh {
                percent: self.step().map_or(0, |step| step.weight),
                force: self.force,
            },
            Stage::Pausing => self
                .progress
                .due
                .map_or(Work::Wait, |due| Work::Pause { due }),
            Stage::Analyzing => self.analysis().map_or(Work::Wait, |analysis| Work::Judge {
                analysis: analysis.clone(),
            }),
            Stage::Promoting => Work::Promote { force: self.force },
            Stage::WaitingForPromotion | Stage::Unknown => Work::Wait,
        }
    }

    /// What the executions are watched by while the version takes some of them, and since when.
    pub fn watch(&self) -> Option<(Analysis, Timestamp)> {
        let watched = matches!(
            self.progress.stage,
            Stage::Weighting | Stage::Pausing | Stage::Analyzing | Stage::StepGate
        ) && self.progress.hold.is_none();
        let since = self.since.filter(|_| watched)?;
        // Without an analysis how executions end is the user's own affair.
        let unjudged = Analysis {
            min_workflows: 0,
            max_failure_percent: 100,
            ..Analysis::default()
        };
        Some((self.analysis().cloned().unwrap_or(unjudged), since))
    }

    /// Which step the next order was judged by. The lifecycle hears of a weight from the activity that sets it, before
    /// this does.
    pub fn out_of(&mut self, step: Option<u32>) {
        self.out_of = step;
    }

    /// Takes an event in. One that does not fit where the rollout stands is late and is ignored.
    pub fn apply(&mut self, event: Event) {
        match (self.progress.stage, event) {
            (Stage::Ended, _) => {}
            (_, Event::Cancelled) => self.cancel(),
            (_, Event::Ordered(order, why)) => self.order(order, &why),
            // Nothing is under way while it is held: only a person leads on.
            _ if self.progress.hold.is_some() => {}
            (Stage::Starting, Event::Served) => self.served(),
            (Stage::Starting, Event::ServedBeside) => {
                // Workflows run already: the first version takes them over like any other.
                if self.first {
                    self.at_once = false;
                    self.count_steps();
                }
                self.served();
            }
            (Stage::Gate | Stage::StepGate, Event::GatePassed(result)) => {
                self.progress.gate = result;
                self.after_gate();
            }
            (Stage::Weighting, Event::Weighted(at)) => self.weighted(at),
            (Stage::Pausing, Event::Due) => self.judge(),
            (Stage::Analyzing, Event::Conclusive(message)) => {
                self.progress.message = message;
                self.step_gate();
            }
            (Stage::Promoting, Event::Promoted) => {
                self.progress.weight = 100;
                self.enter(Stage::Ended);
            }
            (Stage::Unwinding, Event::Unwound | Event::Failed(_)) => {
                self.progress.weight = 0;
                self.enter(Stage::Ended);
            }
            (_, Event::Failed(failure)) => self.failed(failure),
            _ => {}
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.touched |= stage == Stage::Promoting && self.replaces_pods && !self.first;
        self.progress.stage = stage;
        self.progress.due = None;
        self.progress.hold = None;
        self.tries = 1;
    }

    fn step(&self) -> Option<&RolloutStep> {
        let index = usize::try_from(self.progress.step).ok()?.checked_sub(1)?;
        self.policy.steps.get(index)
    }

    fn gate(&self) -> Option<Gate> {
        match self.progress.step {
            0 => self.policy.gate.clone(),
            _ => self.step().and_then(|step| step.gate.clone()),
        }
    }

    fn analysis(&self) -> Option<&Analysis> {
        self.step()
            .and_then(|step| step.analysis.as_ref())
            .or(self.policy.analysis.as_ref())
    }

    fn served(&mut self) {
        if self.at_once {
            self.enter(Stage::Promoting);
        } else if self.policy.gate.is_some() {
            self.enter(Stage::Gate);
        } else {
            self.begin();
        }
    }

    /// After everything that comes before traffic.
    fn begin(&mut self) {
        match self.policy.strategy {
            RolloutStrategy::RollingUpdate => self.enter(Stage::Promoting),
            RolloutStrategy::Manual => self.enter(Stage::WaitingForPromotion),
            RolloutStrategy::Canary => self.next_step(),
        }
    }

    fn next_step(&mut self) {
        let next = self.progress.step + 1;
        if usize::try_from(next).is_ok_and(|next| next <= self.policy.steps.len()) {
            self.progress.step = next;
            self.touched = true;
            self.enter(Stage::Weighting);
        } else {
            self.enter(Stage::Promoting);
        }
    }

    fn weighted(&mut self, at: Timestamp) {
        self.force = false;
        self.since.get_or_insert(at);
        self.progress.weight = self.step().map_or(0, |step| step.weight);
        self.progress.message = String::new();
        if std::mem::take(&mut self.onward) {
            return self.next_step();
        }
        let Some(pause) = self.step().and_then(|step| step.pause.clone()) else {
            return self.judge();
        };
        self.enter(Stage::Pausing);
        self.progress.due = pause
            .duration_seconds
            .map(|seconds| after(at, seconds.into()));
    }

    fn judge(&mut self) {
        if self.analysis().is_some() {
            self.enter(Stage::Analyzing);
        } else {
            self.step_gate();
        }
    }

    fn step_gate(&mut self) {
        if self.step().is_some_and(|step| step.gate.is_some()) {
            self.enter(Stage::StepGate);
        } else {
            self.next_step();
        }
    }

    fn after_gate(&mut self) {
        self.gates += 1;
        if self.progress.step == 0 {
            self.begin();
        } else {
            self.next_step();
        }
    }
}
