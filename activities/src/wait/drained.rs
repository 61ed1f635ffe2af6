//! Waits until nothing holds a version any more.

use std::time::Duration;

use process_operator_crds::names;
use process_operator_crds::spec::Versioning;
use process_operator_workflows::contract::{VersionState, WaitDrainedInput, WaitDrainedOutcome};

use super::{Pace, passing};
use crate::context::Context;
use crate::error::{Fault, within};
use crate::routes;
use crate::temporal::{executions, versions};

/// The server itself looks every three minutes by default.
const MOST: Duration = Duration::from_secs(60);

pub(crate) async fn wait(
    context: &Context,
    input: &WaitDrainedInput,
) -> Result<WaitDrainedOutcome, Fault> {
    match input.versioning {
        Versioning::WorkerVersioning => {}
        Versioning::TaskQueuePerVersion => return queue_empty(context, input).await,
        // Any version's pods take over its executions.
        Versioning::None => {
            return Ok(WaitDrainedOutcome {
                drained: true,
                never_served: true,
                ..WaitDrainedOutcome::default()
            });
        }
    }
    let mut pace = Pace::new(Duration::from_secs(1), MOST);
    loop {
        let record = versions::record(
            context,
            &input.temporal_namespace,
            &input.key,
            &input.build_id,
        )
        .await;
        match passing(record)? {
            None => {}
            Some(None) => {
                return Ok(WaitDrainedOutcome {
                    drained: true,
                    never_served: true,
                    ..WaitDrainedOutcome::default()
                });
            }
            Some(Some(record)) => match record.state {
                VersionState::Current | VersionState::Ramping => {
                    return Ok(WaitDrainedOutcome {
                        in_use: true,
                        ..WaitDrainedOutcome::default()
                    });
                }
                VersionState::Drained | VersionState::Created | VersionState::Inactive => {
                    let (namespace, key) = (&input.temporal_namespace, &input.key);
                    let past = versions::past(context, namespace, key, &input.build_id).await;
                    if let Some(past) = passing(past)? {
                        return Ok(WaitDrainedOutcome {
                            drained: true,
                            never_served: !past.served,
                            ..WaitDrainedOutcome::default()
                        });
                    }
                }
                VersionState::Draining | VersionState::Unknown => {}
            },
        }
        pace.rest().await;
    }
}

/// Waits until no execution runs on the queue of a version.
async fn queue_empty(
    context: &Context,
    input: &WaitDrainedInput,
) -> Result<WaitDrainedOutcome, Fault> {
    let queue = names::task_queue(input.versioning, &input.task_queue, &input.build_id);
    let mut pace = Pace::new(Duration::from_secs(1), MOST);
    loop {
        let routes = passing(within(routes::read(context, &input.key)).await)?;
        if let Some(routes) = routes.map(|stored| stored.routes) {
            if routes.uses(&input.build_id) {
                return Ok(WaitDrainedOutcome {
                    in_use: true,
                    ..WaitDrainedOutcome::default()
                });
            }
            let running = executions::running_on(context, &input.temporal_namespace, &queue).await;
            if passing(running)? == Some(0) {
                return Ok(WaitDrainedOutcome {
                    drained: true,
                    never_served: !routes.served.contains_key(&input.build_id),
                    ..WaitDrainedOutcome::default()
                });
            }
        }
        pace.rest().await;
    }
}
