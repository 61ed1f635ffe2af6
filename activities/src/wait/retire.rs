//! Stops the pods of a version that nothing needs, and removes it: its record, its Deployment, its
//! ControllerRevision.

use std::time::Duration;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{
    ProcessKey, RetireInput, RetireOutcome, StopVersionInput, StopVersionOutcome,
};

use super::drained::{Need, need, past};
use super::{Pace, passing};
use crate::apply;
use crate::budget::Change;
use crate::context::Context;
use crate::error::{Fault, Result, within};
use crate::remove::{delete_deployment, deployment_uid, keep_revision};
use crate::temporal::{manager, versions, visibility};

/// How long it is waited for pods that were told to stop, at most. They are not waited for when they take longer.
const STOPPING: Duration = Duration::from_secs(10);
/// Between looks at what this process knows.
const LOOK: Duration = Duration::from_millis(50);

/// Stops the pods, when nothing needs them at this moment.
pub(crate) async fn stop(
    context: &Context,
    input: &StopVersionInput,
) -> Result<StopVersionOutcome> {
    let (namespace, key) = (&input.temporal_namespace, &input.key);
    let mut outcome = StopVersionOutcome::default();
    match need(context, namespace, key, &input.build_id, &input.apart).await? {
        Need::Routed => outcome.in_use = true,
        Need::Held => outcome.held = true,
        Need::Nothing => {}
        Need::Unknown if !input.apart.is_default() => {}
        Need::Unknown => {
            let query = input.apart.holding(key, &input.build_id);
            outcome.held = visibility::count(context, namespace, &query).await? > 0;
        }
    }
    if !outcome.in_use && !outcome.held && !input.name.is_empty() {
        Box::pin(within(apply::scale_to_zero(context, key, &input.name))).await?;
        stopped(context, key, &input.name).await;
    }
    Ok(outcome)
}

/// Waits a little until the Deployment says that its pods are gone: a look that follows then sees what stays.
async fn stopped(context: &Context, key: &ProcessKey, name: &str) {
    let gone = async {
        let found = || context.cache.workload(&key.namespace, name);
        while found().is_some_and(|workload| !workload.is_stopped()) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(STOPPING, gone).await;
}

pub(crate) async fn retire(context: &Context, input: &RetireInput) -> Result<RetireOutcome> {
    // Read before it is asked whether anything needs it: one that is made again after that is another.
    let uid = within(deployment_uid(context, &input.key, &input.name)).await?;
    let uid = uid.as_deref();
    if let Some(outcome) = needed(context, input).await? {
        return Ok(outcome);
    }
    let (namespace, key, build_id) = (&input.temporal_namespace, &input.key, &input.build_id);
    let seen = past(context, namespace, key, build_id, &input.apart).await?;
    let last_current = seen.last_current.or(input.last_current);
    // Where Temporal does not keep versions apart the server has no record of it.
    let recorded = input.apart.is_default();
    if !input.stopped || !recorded {
        remove(context, input, uid, last_current).await?;
    }
    if !recorded {
        return Ok(RetireOutcome {
            retired: true,
            message: "workers are removed".into(),
            ..RetireOutcome::default()
        });
    }
    // The server keeps a record until it has not seen a poller for a while (5 min by default).
    let mut pace = Pace::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        let turn = context.change_turn(namespace, Change::Cleaning).await;
        // Its pods are gone, but not what makes them: they can come back.
        if input.stopped
            && let Some(Some(outcome)) = passing(needed(context, input).await)?
        {
            return Ok(outcome);
        }
        let deleted = versions::delete(context, namespace, key, build_id, turn).await;
        if passing(deleted)? == Some(true) {
            break;
        }
        passing(manager::inherit(context, namespace, key).await)?;
        pace.rest().await;
    }
    if input.stopped {
        remove(context, input, uid, last_current).await?;
    }
    Ok(RetireOutcome {
        retired: true,
        message: "workers and records are removed".into(),
        ..RetireOutcome::default()
    })
}

/// Looked at again just before: a pinned run may have been moved here since.
async fn needed(context: &Context, input: &RetireInput) -> Result<Option<RetireOutcome>> {
    let namespace = &input.temporal_namespace;
    let need = need(
        context,
        namespace,
        &input.key,
        &input.build_id,
        &input.apart,
    )
    .await?;
    Ok(
        matches!(need, Need::Routed | Need::Held).then(|| RetireOutcome {
            in_use: true,
            routed: need == Need::Routed,
            ..RetireOutcome::default()
        }),
    )
}

async fn remove(
    context: &Context,
    input: &RetireInput,
    uid: Option<&str>,
    last_current: Option<jiff::Timestamp>,
) -> Result<()> {
    let (key, name) = (&input.key, &input.name);
    if name.is_empty() {
        return Ok(());
    }
    let keep = last_current.zip(input.keep);
    within(async {
        let found = deployment_uid(context, key, name).await?;
        if found.is_some() && found.as_deref() != uid {
            return Err(Fault::new(
                ErrorCategory::Conflict,
                format!("Deployment {name} was made again while its version was being retired"),
            ));
        }
        delete_deployment(context, key, name, uid).await?;
        keep_revision(context, key, name, keep).await
    })
    .await
}
