//! Waits until nothing holds a version any more.

use std::time::Duration;

use process_operator_workflows::contract::{VersionState, WaitDrainedInput, WaitDrainedOutcome};

use super::{Pace, passing};
use crate::context::Context;
use crate::error::Fault;
use crate::temporal::versions;

/// The server itself looks every three minutes by default.
const MOST: Duration = Duration::from_secs(60);

pub(crate) async fn wait(
    context: &Context,
    input: &WaitDrainedInput,
) -> Result<WaitDrainedOutcome, Fault> {
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
