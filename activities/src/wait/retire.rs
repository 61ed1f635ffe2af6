//! Removes a version that nothing needs: its Deployment, its ControllerRevision, its record.

use std::time::Duration;

use process_operator_workflows::contract::{RetireInput, RetireOutcome, VersionState};

use super::{Pace, passing};
use crate::context::Context;
use crate::error::{Fault, within};
use crate::remove::{delete_deployment, keep_revision};
use crate::temporal::versions;

pub(crate) async fn retire(context: &Context, input: &RetireInput) -> Result<RetireOutcome, Fault> {
    // Looked at again just before: a pinned run may have been moved here since.
    let record = versions::record(
        context,
        &input.temporal_namespace,
        &input.key,
        &input.build_id,
    )
    .await?;
    let needed = record.is_some_and(|record| {
        matches!(
            record.state,
            VersionState::Current
                | VersionState::Ramping
                | VersionState::Draining
                | VersionState::Unknown
        )
    });
    if needed {
        return Ok(RetireOutcome {
            in_use: true,
            ..RetireOutcome::default()
        });
    }
    if !input.name.is_empty() {
        let past = versions::past(
            context,
            &input.temporal_namespace,
            &input.key,
            &input.build_id,
        )
        .await?;
        let keep = past.last_current.zip(input.keep);
        within(async {
            delete_deployment(context, &input.key, &input.name, None).await?;
            keep_revision(context, &input.key, &input.name, keep).await
        })
        .await?;
    }
    // The server keeps a record until it has not seen a poller for a while (5 min by default).
    let mut pace = Pace::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        let deleted = versions::delete(
            context,
            &input.temporal_namespace,
            &input.key,
            &input.build_id,
        )
        .await;
        if passing(deleted)? == Some(true) {
            return Ok(RetireOutcome {
                retired: true,
                message: "workers and records are removed".into(),
                ..RetireOutcome::default()
            });
        }
        pace.rest().await;
    }
}
