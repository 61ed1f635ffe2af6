//! How a rollout ends without its version becoming Current.

use process_operator_crds::ErrorCategory;
use process_operator_crds::spec::OnFailure;

use super::Machine;
use crate::contract::{Stage, StepFailure};

impl Machine {
    pub(super) fn failed(&mut self, failure: StepFailure) {
        let gate = matches!(self.progress.stage, Stage::Gate | Stage::StepGate);
        let more = self.gate().is_some_and(|gate| self.tries < gate.attempts);
        if gate && failure.category == ErrorCategory::GateFailed {
            self.gates += 1;
            self.tries += 1;
            self.progress.gate.clone_from(&failure.message);
            if more {
                return;
            }
        }
        // What somebody else did is for somebody to decide, whatever the policy says of versions; and so is a
        // spec that does not have the gate any more.
        let unlike = gate && failure.category == ErrorCategory::InvalidSpec && self.recalls;
        let hold = failure.category == ErrorCategory::RoutingChanged
            || unlike
            || self.policy.on_failure == OnFailure::Pause && self.progress.stage != Stage::Starting;
        if hold {
            self.progress.due = None;
            self.progress.hold = Some(failure);
        } else {
            self.failure = Some(failure);
            // A watch may have said so while the weight was being changed.
            self.recall = self.recalls && self.progress.stage == Stage::Weighting;
            self.leave();
        }
    }

    /// Superseded, reverted, or its Process goes.
    pub(super) fn cancel(&mut self) {
        self.cancelled = true;
        let weighting = self.progress.stage == Stage::Weighting;
        // There is nothing to give back to before a first version: it serves until the next one does.
        let alone = self.first && self.at_once;
        let promoting = self.progress.stage == Stage::Promoting && !alone;
        if self.recalls && (weighting || promoting) {
            self.recall = true;
            // Then it was not this rollout that has made the version Current, should it be that.
            self.keeps |= weighting || self.routing_held();
        }
        self.leave();
    }

    /// Ends it without the version becoming Current.
    pub(super) fn leave(&mut self) {
        if self.progress.stage == Stage::Unwinding {
            return;
        }
        self.enter(if self.touched || self.recall {
            Stage::Unwinding
        } else {
            Stage::Ended
        });
    }
}
