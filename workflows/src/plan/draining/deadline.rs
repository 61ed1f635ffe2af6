//! The deadline of a drain: what begins when it has passed, and what a policy that changes does to it.

use jiff::Timestamp;

use super::Draining;
use crate::contract::{DrainPolicy, DrainStage, EndAction, Ending, after};

impl Draining {
    /// When the policy is applied.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.policy.deadline(self.memory.since)
    }

    /// The deadline to wake up at, if one is ahead.
    pub fn alarm(&self) -> Option<Timestamp> {
        let waits = self.memory.stage == DrainStage::Waiting && self.memory.ending.is_none();
        self.deadline()
            .filter(|deadline| waits && self.memory.overdue != Some(*deadline))
    }

    /// Begins to end what runs on when the deadline has passed.
    pub(super) fn act_when_overdue(&mut self) {
        let overdue = self.memory.overdue.is_some() && self.memory.overdue == self.deadline();
        let idle = self.memory.ending.is_none() && self.memory.stage == DrainStage::Waiting;
        if !overdue || !idle || self.memory.open == Some(0) || self.result.is_some() {
            return;
        }
        self.memory.ending = EndAction::of(self.policy.on_timeout).map(|action| Ending {
            action,
            ..Ending::default()
        });
    }

    /// A changed policy also holds for what has begun under the old one; not for orders of people.
    pub(super) fn change(&mut self, policy: DrainPolicy) {
        let other = policy.on_timeout != self.policy.on_timeout;
        self.policy = policy;
        let still_overdue = self.memory.overdue == self.deadline();
        let by_policy = self
            .memory
            .ending
            .as_ref()
            .is_some_and(|ending| !ending.forced);
        if by_policy && (other || !still_overdue) {
            self.memory.ending = None;
        }
    }

    /// When the time of a Cancel that is under way is over by the policy as it is now; `None` when it is as it
    /// was, and for an order of a person.
    pub fn other_grace(&self) -> Option<Timestamp> {
        let ending = self.memory.ending.as_ref()?;
        if ending.forced || ending.action != EndAction::Cancel {
            return None;
        }
        let until = after(ending.at?, self.policy.cancel_grace_seconds);
        Some(until).filter(|until| ending.until != Some(*until))
    }

    /// Gives a Cancel that is under way the time that the policy has for it now.
    pub fn follow_grace(&mut self) {
        let until = self.other_grace();
        if let Some(ending) = &mut self.memory.ending
            && until.is_some()
        {
            ending.until = until;
        }
    }
}
