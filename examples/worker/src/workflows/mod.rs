//! The workflow types.
//!
//! | type | what it does |
//! |---|---|
//! | [`Quick`] | ends at once and says which worker ran it |
//! | [`WaitForSignal`] | stays open until the signal `finish` |
//! | [`TimersAndActivity`] | durable timers, then an activity |
//! | [`Renews`] | continues as new again and again, until it is cancelled |
//! | [`Verify`] | succeeds or fails as its input says: a rollout's gate |

mod quick;
mod renews;
mod timers_and_activity;
mod verify;
mod wait_for_signal;

pub use quick::{Quick, QuickInput, QuickOutput};
pub use renews::{Renews, RenewsInput};
pub use timers_and_activity::{TimersAndActivity, TimersAndActivityInput, TimersAndActivityOutput};
pub use verify::{Verify, VerifyInput, VerifyOutput};
pub use wait_for_signal::{Builds, Finish, WaitForSignal, WaitForSignalInput, WaitForSignalOutput};

use crate::activities::{WorkerActivities, WorkerFacts};
use std::time::Duration;
use temporalio_sdk::{
    ActivityExecutionError, ApplicationFailure, LocalActivityOptions, WorkflowCancellationToken,
    WorkflowContext,
};

/// Asks the worker that runs this task who it is; a replay gets the recorded answer.
async fn worker_facts<W>(
    ctx: &WorkflowContext<W>,
    cancellation: WorkflowCancellationToken,
) -> Result<WorkerFacts, ActivityExecutionError> {
    let options = LocalActivityOptions::builder()
        .cancellation_token(cancellation)
        .start_to_close_timeout(Duration::from_secs(5))
        .summary("which worker is this".to_owned())
        .build();
    ctx.execute_local_activity(WorkerActivities::worker_facts, (), options)
        .await
}

/// A failure with a type that queries and retry policies can name.
fn failure(type_name: &str, message: String) -> ApplicationFailure {
    ApplicationFailure::builder(message)
        .type_name(type_name.to_owned())
        .build()
}
