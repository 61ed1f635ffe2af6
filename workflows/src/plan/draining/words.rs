//! A drain in words, and the query for what holds it.

use super::{Draining, Work};
use crate::contract::{DrainStage, EndAction, Ending};

impl Draining {
    /// What is written to the histories of the workflows.
    pub(super) fn because(&self, ending: &Ending) -> String {
        let version = format!(
            "version {} of Process {}/{}",
            self.build_id, self.key.namespace, self.key.name
        );
        if !ending.forced {
            return format!("{version}: the deadline of its drain has passed");
        }
        let actor = if ending.actor.is_empty() {
            "unknown"
        } else {
            &ending.actor
        };
        let reason = if ending.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", ending.reason)
        };
        format!("{version}: its drain was forced by {actor}{reason}")
    }

    /// The query that lists what holds the version.
    pub(super) fn query(&self) -> String {
        self.apart.holding(&self.key, &self.build_id)
    }

    /// Text for the Temporal UI.
    pub fn details(&self) -> String {
        let build_id = &self.build_id;
        match self.work() {
            Work::Wait => self.waiting(),
            Work::Count => {
                format!("Counting the running workflows that are pinned to `{build_id}`.")
            }
            Work::End { action, until, .. } => format!(
                "**{action}**: {} running workflows are pinned to `{build_id}`. Those left at {until:.0} are \
                 looked at again.\n\nTo list them: `{}`",
                self.memory.open.unwrap_or_default(),
                self.query()
            ),
            Work::Keep { until } if self.memory.stage == DrainStage::Lingering => format!(
                "`{build_id}` is drained; its pods stay until {until:.0} so that activities in flight end."
            ),
            Work::Stop => format!("Stopping the pods of `{build_id}`."),
            Work::Keep { until } => format!(
                "`{build_id}` is drained and has no pods. If it gets work again before {until:.0} they come \
                 back; then its record and its Deployment are removed."
            ),
            Work::Retire => format!("Removing record and Deployment of `{build_id}`."),
            Work::Finish(result) => result,
        }
    }

    fn waiting(&self) -> String {
        let build_id = &self.build_id;
        let open = match (self.memory.open, self.memory.oldest) {
            (None, _) => "Running workflows pinned to it: not counted yet.".to_owned(),
            (Some(open), None) => format!("Running workflows pinned to it: **{open}**."),
            (Some(open), Some(oldest)) => {
                format!("Running workflows pinned to it: **{open}**, the oldest since {oldest:.0}.")
            }
        };
        let then = match (self.deadline(), EndAction::of(self.policy.on_timeout)) {
            (Some(deadline), Some(EndAction::Cancel)) => format!(
                "At **{deadline:.0}** they are cancelled, and {} s later terminated.",
                self.policy.cancel_grace_seconds
            ),
            (Some(deadline), Some(EndAction::MoveToCurrent)) => {
                format!("At **{deadline:.0}** they are moved to the current version.")
            }
            (Some(deadline), Some(_)) => format!("At **{deadline:.0}** they are terminated."),
            _ => "There is no deadline: they are waited for.".to_owned(),
        };
        format!(
            "Keeping the workers of `{build_id}` until no running workflow is pinned to it. It has had no \
             new ones since {:.0}.\n\n{open}\n\n{then}\n\nSignal `forceCancelDrain` ends it: `{{\"action\": \
             \"Cancel\", \"actor\": \"…\", \"reason\": \"…\"}}`, or `Terminate`, or `MoveToCurrent`.\n\nTo list \
             them: `{}`",
            self.memory.since,
            self.query()
        )
    }
}
