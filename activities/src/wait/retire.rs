//! Removes a version that nothing needs: its Deployment, its ControllerRevision, its record.

use std::time::Duration;

use process_operator_crds::names;
use process_operator_crds::spec::Versioning;
use process_operator_workflows::contract::{RetireInput, RetireOutcome, VersionState};

use super::{Pace, passing};
use crate::context::Context;
use crate::error::{Fault, within};
use crate::remove::{delete_deployment, keep_revision};
use crate::routes;
use crate::temporal::{executions, versions};

pub(crate) async fn retire(context: &Context, input: &RetireInput) -> Result<RetireOutcome, Fault> {
    if !input.versioning.is_default() {
        return unrecorded(context, input).await;
    }
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

/// Removes a version that the server has no record of.
async fn unrecorded(context: &Context, input: &RetireInput) -> Result<RetireOutcome, Fault> {
    let routes = within(routes::read(context, &input.key)).await?.routes;
    let mut needed = routes.uses(&input.build_id);
    if input.versioning == Versioning::TaskQueuePerVersion {
        let queue = names::task_queue(input.versioning, &input.task_queue, &input.build_id);
        let running = executions::running_on(context, &input.temporal_namespace, &queue).await?;
        needed |= running > 0;
    }
    if needed {
        return Ok(RetireOutcome {
            in_use: true,
            ..RetireOutcome::default()
        });
    }
    if !input.name.is_empty() {
        let last_current = routes.served.get(&input.build_id).copied();
        within(async {
            delete_deployment(context, &input.key, &input.name, None).await?;
            keep_revision(
                context,
                &input.key,
                &input.name,
                last_current.zip(input.keep),
            )
            .await
        })
        .await?;
    }
    Ok(RetireOutcome {
        retired: true,
        message: "workers are removed".into(),
        ..RetireOutcome::default()
    })
}
