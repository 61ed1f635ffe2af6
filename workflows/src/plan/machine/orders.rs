//! What people order of a rollout.

use process_operator_crds::ErrorCategory;

use super::Machine;
use crate::contract::{Order, Stage, StepFailure};

impl Machine {
    pub(super) fn order(&mut self, order: Order, why: &str) {
        match order {
            Order::Pause => self.progress.paused = true,
            Order::Resume => self.progress.paused = false,
            Order::Retry => self.again(),
            Order::Promote => self.promote(),
            Order::PromoteFull => {
                if self.promotable() {
                    self.force |= self.routing_held();
                    self.enter(Stage::Promoting);
                } else {
                    self.again();
                }
            }
            Order::Abort => self.abort(why),
            Order::Keep => self.keeps = true,
            Order::Unknown => {}
        }
    }

    fn abort(&mut self, why: &str) {
        let promoting = self.progress.stage == Stage::Promoting;
        let stands = self.progress.paused || self.progress.hold.is_some();
        let too_late = promoting && !stands && !self.recalls;
        if too_late || self.progress.stage == Stage::Unwinding {
            return;
        }
        self.failure = Some(StepFailure::new(
            ErrorCategory::RolloutAborted,
            why.to_owned(),
        ));
        // What was paused or held may have got through before that.
        let changing = promoting || self.progress.stage == Stage::Weighting;
        self.recall = changing && self.recalls;
        self.leave();
    }

    pub(super) fn routing_held(&self) -> bool {
        self.progress.hold.as_ref().is_some_and(|hold| {
            matches!(
                hold.category,
                ErrorCategory::RoutingChanged | ErrorCategory::DeploymentOwnedElsewhere
            )
        })
    }

    fn evidence_held(&self) -> bool {
        let hold = self.progress.hold.as_ref();
        hold.is_some_and(|hold| hold.category == ErrorCategory::AnalysisFailed)
    }

    /// What is held is done again. A pause that was cut off begins anew with its weight, since what
    /// it watched is not known to hold any more. Evidence is judged by what comes from now on: what has failed stays
    /// failed, and would hold it again at once.
    fn again(&mut self) {
        if self.progress.hold.is_none() {
            return;
        }
        let afresh = self.recalls && self.evidence_held();
        if afresh {
            self.since = None;
        }
        self.force |= self.routing_held();
        self.progress.hold = None;
        self.onward = false;
        self.tries = 1;
        if matches!(
            self.progress.stage,
            Stage::Pausing | Stage::Analyzing | Stage::StepGate
        ) && (self.force
            || self.progress.stage == Stage::Pausing
            || afresh && self.progress.stage == Stage::Analyzing)
        {
            if self.progress.stage == Stage::StepGate {
                // What ran while the routing was another one says nothing of the weight that is set again.
                self.gates += 1;
            }
            self.enter(Stage::Weighting);
        }
    }

    /// Past the point where the version is known to serve, and before it serves all.
    fn promotable(&self) -> bool {
        !matches!(
            self.progress.stage,
            Stage::Starting | Stage::Promoting | Stage::Unwinding | Stage::Ended
        )
    }

    fn promote(&mut self) {
        if !self.promotable() {
            return self.again();
        }
        let out_of = self.out_of.take();
        if out_of.is_some_and(|step| step < self.progress.step) {
            return;
        }
        self.force |= self.routing_held();
        if self.recalls && self.evidence_held() {
            // What is passed over would hold the next step too: that one is judged by what comes after it.
            self.since = None;
        }
        match self.progress.stage {
            Stage::Gate | Stage::StepGate => {
                self.progress.message = String::new();
                self.after_gate();
            }
            Stage::WaitingForPromotion => self.enter(Stage::Promoting),
            Stage::Weighting if self.progress.hold.is_some() => self.again(),
            Stage::Weighting => self.onward = out_of.is_some(),
            _ => {
                self.progress.message = String::new();
                self.next_step();
            }
        }
    }
}
