//! The drain of one version as a pure state machine: an event goes in, what to do now comes out.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::contract::{
    CountOpenOutcome, DrainMemory, DrainNote, DrainPolicy, DrainProgress, DrainStage, EndAction,
    EndOpenOutcome, Ending, Force, KeptApart, Known, ProcessKey, WaitDrainedOutcome, after,
};

mod deadline;
mod words;

/// Why `MoveToCurrent` is refused where each version has a task queue of its own.
pub(super) const NO_MOVE: &str =
    "a workflow cannot move to the task queue of another version: ask for Cancel or Terminate";

/// How long one round of terminating or moving lasts before it is told that some are left.
const ROUND_SECONDS: i64 = 600;

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Wait until nothing holds the version.
    Wait,
    /// Count what holds it, before something is done to it.
    Count,
    /// End what holds it, or move it.
    End {
        /// How.
        action: EndAction,
        /// Written to the histories of the workflows.
        reason: String,
        /// When to leave those that are left.
        until: Timestamp,
    },
    /// Leave it as it is until then.
    Keep {
        /// Until when.
        until: Timestamp,
    },
    /// Stop its pods.
    Stop,
    /// Remove its record and its Deployment.
    Retire,
    /// Nothing more; the result.
    Finish(String),
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The wait has something to tell.
    Waited(WaitDrainedOutcome),
    /// A deadline has passed.
    Due(Timestamp),
    /// What holds it was counted.
    Counted(CountOpenOutcome),
    /// What holds it at the beginning.
    Found(CountOpenOutcome),
    /// What holds it was ended, or not.
    Ended(EndOpenOutcome),
    /// It was left as it is long enough.
    Kept,
    /// Its pods are stopped.
    Stopped,
    /// Everything is removed.
    Retired(String),
    /// Workflows are pinned to it again.
    Held,
    /// It is routed to again.
    InUse,
    /// Somebody has given an order.
    Forced(Force),
    /// Somebody has sent what cannot be read.
    Unreadable(String),
    /// The policy has changed.
    Policy(DrainPolicy),
}

/// A drain.
#[derive(Debug, Clone)]
pub struct Draining {
    key: ProcessKey,
    build_id: String,
    apart: KeptApart,
    policy: DrainPolicy,
    memory: DrainMemory,
    result: Option<String>,
}

impl Draining {
    /// A drain with the memory of its previous run, or a new one.
    pub fn new(
        key: ProcessKey,
        build_id: String,
        policy: DrainPolicy,
        memory: DrainMemory,
    ) -> Self {
        Self {
            key,
            build_id,
            apart: KeptApart::default(),
            policy,
            memory,
            result: None,
        }
    }

    /// How what runs on the version is told from the rest, where Temporal does not do it.
    #[must_use]
    pub fn apart(mut self, apart: KeptApart) -> Self {
        self.apart = apart;
        self
    }

    /// What must not be forgotten.
    pub fn memory(&self) -> &DrainMemory {
        &self.memory
    }

    /// The policy in force.
    pub fn policy(&self) -> &DrainPolicy {
        &self.policy
    }

    /// Takes what the lifecycle has not been told.
    pub fn take_notes(&mut self) -> Vec<DrainNote> {
        std::mem::take(&mut self.memory.notes)
    }

    /// Number of the next message to the lifecycle.
    pub fn next_serial(&mut self) -> u32 {
        self.memory.told = self.memory.told.saturating_add(1);
        self.memory.told
    }

    /// What to do now.
    pub fn work(&self) -> Work {
        if let Some(result) = &self.result {
            return Work::Finish(result.clone());
        }
        if let Some(ending) = &self.memory.ending {
            return match (ending.open, ending.until) {
                (Some(_), Some(until)) => Work::End {
                    action: ending.action,
                    reason: self.because(ending),
                    until,
                },
                _ => Work::Count,
            };
        }
        let at = self.memory.at.unwrap_or(self.memory.since);
        match self.memory.stage {
            DrainStage::Waiting | DrainStage::Unknown => Work::Wait,
            DrainStage::Lingering => Work::Keep {
                until: after(at, self.policy.scale_down_delay_seconds),
            },
            DrainStage::Stopping => Work::Stop,
            DrainStage::Kept => Work::Keep {
                until: after(at, self.policy.delete_delay_seconds),
            },
            DrainStage::Retiring => Work::Retire,
        }
    }

    /// What is known of the workflows that hold it.
    pub fn known(&self) -> Known {
        Known {
            open: self.memory.open,
            oldest: self.memory.oldest,
            counts: self.memory.counts,
        }
    }

    /// For the lifecycle.
    pub fn progress(&self) -> DrainProgress {
        DrainProgress {
            stage: self.memory.stage,
            since: self.memory.since,
            deadline: self.deadline(),
            on_timeout: self.policy.on_timeout,
            open: self.memory.open,
            oldest: self.memory.oldest,
            ending: self.memory.ending.as_ref().map(|ending| ending.action),
            at_once: self.memory.never_served || self.policy.delete_delay_seconds == 0,
        }
    }

    /// Takes in what has happened.
    pub fn apply(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Waited(waited) => self.waited(waited, now),
            Event::Due(deadline) => self.memory.overdue = Some(deadline),
            Event::Counted(counted) => self.counted(&counted, now),
            Event::Found(found) => {
                self.memory.counts += 1;
                self.memory.open = Some(found.open);
                self.memory.oldest = found.oldest;
            }
            Event::Ended(ended) => self.ended(&ended),
            Event::Kept if self.memory.stage == DrainStage::Lingering => {
                self.enter(DrainStage::Stopping, now);
            }
            Event::Stopped if self.policy.delete_delay_seconds > 0 => {
                self.enter(DrainStage::Kept, now);
            }
            Event::Kept | Event::Stopped => self.enter(DrainStage::Retiring, now),
            Event::Retired(message) => {
                let mut lines = vec![format!("{} is gone; {message}", self.build_id)];
                lines.append(&mut self.memory.done);
                self.result = Some(lines.join("; "));
            }
            Event::Held => {
                // The clock starts anew: this is work that nobody has had time to end.
                self.memory.since = now;
                self.memory.open = None;
                self.memory.oldest = None;
                self.memory.overdue = None;
                self.enter(DrainStage::Waiting, now);
                self.note("DrainResumed", "workflows are pinned to it again", "");
            }
            Event::InUse => self.result = Some(format!("{} is in use again", self.build_id)),
            Event::Forced(force) => self.forced(force),
            Event::Unreadable(why) => {
                let why = format!("signal forceCancelDrain ignored: {why}");
                self.note("SignalRefused", &why, "");
            }
            Event::Policy(policy) => self.change(policy),
        }
        self.act_when_overdue();
    }

    fn enter(&mut self, stage: DrainStage, now: Timestamp) {
        self.memory.stage = stage;
        self.memory.at = Some(now);
    }

    fn waited(&mut self, waited: WaitDrainedOutcome, now: Timestamp) {
        if waited.in_use {
            return self.apply(Event::InUse, now);
        }
        if let Some(known) = waited.known {
            self.memory.open = known.open;
            self.memory.oldest = known.oldest;
            self.memory.counts = known.counts;
            return;
        }
        self.memory.open = Some(0);
        self.memory.oldest = None;
        self.memory.never_served = waited.never_served;
        self.memory.last_current = waited.last_current.or(self.memory.last_current);
        let next = if waited.never_served {
            // Nothing in flight has to end, and nothing can come back.
            DrainStage::Retiring
        } else if self.policy.scale_down_delay_seconds > 0 {
            DrainStage::Lingering
        } else {
            DrainStage::Stopping
        };
        self.enter(next, now);
    }

    fn forced(&mut self, force: Force) {
        if force.action == EndAction::Unknown {
            let why = "action must be Cancel, Terminate or MoveToCurrent";
            return self.note("SignalRefused", why, &force.actor);
        }
        if force.action == EndAction::MoveToCurrent && !self.apart.is_default() {
            return self.note("SignalRefused", NO_MOVE, &force.actor);
        }
        self.memory.ending = Some(Ending {
            action: force.action,
            forced: true,
            actor: force.actor,
            reason: force.reason,
            ..Ending::default()
        });
    }

    fn counted(&mut self, counted: &CountOpenOutcome, now: Timestamp) {
        let Some(mut ending) = self.memory.ending.take() else {
            return;
        };
        let changed = self.memory.open != Some(counted.open);
        self.memory.counts += u32::from(changed);
        self.memory.open = Some(counted.open);
        self.memory.oldest = counted.oldest;
        if counted.open == 0 {
            if ending.forced {
                let why = format!("{}: no workflow runs on it", ending.action);
                self.note("DrainForced", &why, &ending.actor);
            }
            return;
        }
        if self.memory.stage != DrainStage::Waiting {
            self.enter(DrainStage::Waiting, now);
        }
        let what = match (ending.forced, ending.escalated) {
            (true, _) => "DrainForced",
            (false, true) => "DrainEscalated",
            (false, false) => "DrainTimedOut",
        };
        let mut why = format!(
            "{}: {} running workflows, for example {}",
            ending.action,
            counted.open,
            counted.sample.join(", ")
        );
        if !ending.reason.is_empty() {
            let _ = write!(why, " ({})", ending.reason);
        }
        if ending.rounds == 0 {
            self.note(what, &why, &ending.actor);
        }
        let seconds = if ending.action == EndAction::Cancel {
            self.policy.cancel_grace_seconds
        } else {
            ROUND_SECONDS
        };
        ending.open = Some(counted.open);
        ending.at = Some(now);
        ending.until = Some(after(now, seconds));
        self.memory.ending = Some(ending);
    }

    fn ended(&mut self, ended: &EndOpenOutcome) {
        let Some(ending) = self.memory.ending.take() else {
            return;
        };
        if ended.in_use {
            self.result = Some(format!("{} is in use again", self.build_id));
            return;
        }
        let open = ending.open.unwrap_or_default();
        self.memory.counts += u32::from(self.memory.open != Some(ended.left));
        self.memory.open = Some(ended.left);
        let mut effect = format!(
            "{} of {open} running workflows: {} left",
            ending.action, ended.left
        );
        if !ended.refused.is_empty() {
            let _ = write!(effect, ", {}", ended.refused);
        }
        self.memory.done.push(effect.clone());
        let excess = self.memory.done.len().saturating_sub(DrainMemory::LINES);
        self.memory.done.drain(..excess);
        if ended.left == 0 {
            self.memory.oldest = None;
            return self.note("WorkflowsEnded", &effect, &ending.actor);
        }
        if ending.forced {
            if ending.action == EndAction::Cancel {
                effect.push_str("; they do not end: request Terminate");
            }
            return self.note("WorkflowsLeft", &effect, &ending.actor);
        }
        if ending.action == EndAction::Cancel {
            self.memory.ending = Some(Ending {
                action: EndAction::Terminate,
                escalated: true,
                ..Ending::default()
            });
            return;
        }
        if ending.rounds == 0 {
            self.note("WorkflowsLeft", &effect, "");
        }
        self.memory.ending = Some(Ending {
            rounds: ending.rounds + 1,
            open: None,
            at: None,
            until: None,
            ..ending
        });
    }

    fn note(&mut self, what: &str, reason: &str, actor: &str) {
        self.memory.notes.push(DrainNote {
            what: what.to_owned(),
            reason: reason.to_owned(),
            actor: actor.to_owned(),
        });
        let excess = self.memory.notes.len().saturating_sub(DrainMemory::LINES);
        self.memory.notes.drain(..excess);
    }
}
