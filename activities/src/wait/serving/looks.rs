//! Looks at who polls while a version is waited for.

use std::time::Duration;

use process_operator_workflows::contract::WaitServingInput;
use tokio::time::Instant;

use super::super::passing;
use crate::context::Context;
use crate::error::Fault;
use crate::temporal::versions;

/// How long a poll is expected at any moment.
pub(super) const QUICK: Duration = Duration::from_secs(10);
/// Between two looks at who polls. The server forgets a poll some time after it began, so a single look at the end of the
/// grace could miss it.
const LOOK: Duration = Duration::from_secs(2);

/// Looks at who polls, which the server lets everybody do often, between those at the record of the version.
pub(super) struct Looks {
    at: Instant,
    /// Until when a poll is expected at any moment.
    quick_until: Instant,
    polls: bool,
    /// A worker that does not say its version was seen.
    pub(super) unversioned: bool,
}

impl Looks {
    pub(super) fn new(now: Instant, quick_for: Duration) -> Self {
        Self {
            at: now,
            quick_until: now + quick_for,
            polls: false,
            unversioned: false,
        }
    }

    pub(super) fn expect_a_poll(&self) -> bool {
        Instant::now() < self.quick_until
    }

    /// Rests for so long, or until a worker of the version polls: its record is there in a moment.
    pub(super) async fn rest(
        &mut self,
        context: &Context,
        input: &WaitServingInput,
        pause: Duration,
    ) -> Result<(), Fault> {
        let end = Instant::now() + pause;
        loop {
            let next = self.at + LOOK;
            tokio::time::sleep_until(next.min(end)).await;
            if next >= end || self.polls && self.unversioned {
                tokio::time::sleep_until(end).await;
                return Ok(());
            }
            let place = (input.temporal_namespace.as_str(), input.task_queue.as_str());
            let pollers = versions::pollers(context, place, &input.key, &input.build_id).await;
            let pollers = passing(pollers)?.unwrap_or_default();
            self.at = Instant::now();
            self.unversioned |= pollers.unversioned;
            if pollers.of_version && !self.polls {
                self.polls = true;
                self.quick_until = self.at + QUICK;
                return Ok(());
            }
        }
    }
}
