//! When a worker is replaced by a fresh one, how long its activities take, and what their log lines say of them.
//!
//! The SDK (1.1) keeps some 400 bytes for each activity that a worker has started, local ones
//! included, for as long as the worker lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use temporalio_sdk::activities::ActivityInfo;
use temporalio_sdk::interceptors::{
    ActivityInboundInterceptor, ExecuteActivityInput, ExecuteActivityOutput, Next,
};
use tokio::sync::Notify;
use tracing::{Instrument as _, Span, field};

use crate::metrics::Metrics;

/// Some 20 MB, which glibc does not give back.
const ACTIVITIES: u64 = 50_000;
/// For what a count of activities does not show.
const AGE: Duration = Duration::from_secs(6 * 3600);

/// How much a worker has done.
#[derive(Debug, Default)]
pub(crate) struct Wear {
    started: AtomicU64,
    enough: Notify,
}

impl Wear {
    /// An activity starts.
    fn count(&self) {
        // Told once: the worker goes on for a moment while it is being replaced.
        if self.started.fetch_add(1, Ordering::Relaxed) + 1 == ACTIVITIES {
            self.enough.notify_one();
        }
    }

    /// Resolves when the worker is to be replaced.
    pub(crate) async fn worn(&self) {
        tokio::select! {
            () = self.enough.notified() => {}
            () = tokio::time::sleep(AGE) => {}
        }
    }
}

/// What the log lines of an activity are found by. The last three only the activity knows, which records them.
fn span(info: &ActivityInfo) -> Span {
    // Of the highest level: it stands beside every line, whichever lines are asked for.
    tracing::error_span!(
        "activity",
        activity = info.activity_type,
        workflow_id = info.workflow_id,
        run_id = info.workflow_run_id,
        attempt = info.attempt,
        namespace = field::Empty,
        process = field::Empty,
        generation = field::Empty,
    )
}

/// Counts and times each activity of one worker, and opens the span of its log lines.
pub(crate) struct Counted {
    /// Of this worker.
    pub(crate) wear: Arc<Wear>,
    /// Of this replica.
    pub(crate) metrics: Arc<Metrics>,
}

impl ActivityInboundInterceptor for Counted {
    fn execute_activity<'a>(
        &'a self,
        input: ExecuteActivityInput,
        next: Next<'a, ExecuteActivityInput, ExecuteActivityOutput<'a>>,
    ) -> ExecuteActivityOutput<'a> {
        self.wear.count();
        let name = input.activity_info().activity_type.clone();
        let begun = Instant::now();
        let span = span(input.activity_info());
        let run = next.run(input).instrument(span);
        Box::pin(async move {
            let result = run.await;
            self.metrics
                .activity(name, result.is_err(), begun.elapsed());
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_worker_is_replaced_after_a_number_of_activities_and_not_before() {
        let wear = Wear::default();
        for _ in 1..ACTIVITIES {
            wear.count();
        }
        assert_eq!(wear.worn().now_or_never(), None);
        wear.count();
        assert_eq!(wear.worn().now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn one_that_is_asked_later_finds_out_too() {
        let wear = Wear::default();
        for _ in 0..ACTIVITIES + 3 {
            wear.count();
        }
        assert_eq!(wear.worn().now_or_never(), Some(()));
    }
}
