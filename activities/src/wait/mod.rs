//! Waits. Each is one heartbeating activity, however long it takes; none is a loop of activities.

pub(crate) mod close;
pub(crate) mod drained;
pub(crate) mod ending;
pub(crate) mod evidence;
mod failing;
pub(crate) mod gate;
pub(crate) mod records;
pub(crate) mod retire;
pub(crate) mod serving;

use std::convert::Infallible;
use std::panic::Location;
use std::time::Duration;

use failing::Failing;
use jiff::Timestamp;
use process_operator_workflows::contract::ProcessKey;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::context::Context;
use crate::error::Fault;
use crate::{hindered, logged};

/// Well below the heartbeat time-out of 5 s, so that one lost heartbeat is not a death.
const BEAT: Duration = Duration::from_secs(1);
/// Between two looks at whether something has failed for long.
const LOOK: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// What fails in the wait that is carried out here.
    static FAILING: Failing;
}

/// Runs a wait while heartbeating, and stops it when the activity is cancelled or the worker stops.
pub(crate) async fn beating<T>(
    context: &Context,
    ctx: &ActivityContext,
    key: &ProcessKey,
    wait: impl Future<Output = Result<T, Fault>>,
) -> Result<T, ActivityError> {
    logged::about(key);
    let failing = Failing::default();
    let mut wait = std::pin::pin!(FAILING.scope(failing.clone(), wait));
    let mut telling = std::pin::pin!(tell_failing(context, ctx, key, &failing));
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = ctx.cancelled() => return Err(ActivityError::cancelled()),
            result = &mut wait => {
                let Err(fault) = result else { return result.map_err(Fault::fail) };
                let fault = context.count(fault);
                let info = ctx.info();
                hindered::activity_failed(context, key, &info.activity_type, info.attempt, &fault).await;
                return Err(fault.fail());
            }
            // The heartbeat carries nothing: what the wait is about stands in its summary, and
            // details that change would be written to the server each time.
            _ = beat.tick() => ctx.record_heartbeat(()).await?,
            never = &mut telling => match never {},
        }
    }
}

/// Tells what a wait cannot get past. It is not given up for that: the next try would not know what this one has
/// asked and told.
async fn tell_failing(
    context: &Context,
    ctx: &ActivityContext,
    key: &ProcessKey,
    failing: &Failing,
) -> Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some((times, fault)) = failing.due(tokio::time::Instant::now()) {
            let fault = context.count(fault);
            hindered::wait_fails(context, key, &ctx.info().activity_type, times, &fault).await;
        }
    }
}

/// How long it is until then; zero when that is over.
pub(crate) fn left(until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default()
}

/// How long ago it was; zero when it is ahead.
pub(crate) fn ago(at: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default()
}

/// A growing interval between looks at the server.
pub(crate) struct Pace {
    next: Duration,
    most: Duration,
}

impl Pace {
    /// From `first` to `most`, growing by half each time.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// The present interval; the next one is longer.
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 3 / 2).min(self.most);
        now
    }

    /// Sleeps for the present interval, then grows it.
    pub(crate) async fn rest(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

/// A failure that passes is waited out here, since a wait that ends loses its place in the queue. One that does not
/// pass after all is told. Rows of failures are kept for each place that calls this.
#[track_caller]
pub(crate) fn passing<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    let at = Location::caller();
    match result {
        Ok(value) => {
            let _ = FAILING.try_with(|failing| failing.passed(at));
            Ok(Some(value))
        }
        Err(fault) if fault.category.retryable() => {
            tracing::info!(category = fault.category.metric_label(), "{fault}; waiting");
            let now = tokio::time::Instant::now();
            let _ = FAILING.try_with(|failing| failing.failed(at, &fault, now));
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}
