//! Cleans the server's records of a Process that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::{Api, ResourceExt as _};
use process_operator_crds::{ErrorCategory, Process};
use process_operator_workflows::contract::{
    CleanRecordsInput, CleanRecordsOutcome, LateStarts, ProcessKey, VersionState,
};

use super::{Pace, passing};
use crate::context::Context;
use crate::error::Fault;
use crate::sent::Sent;
use crate::temporal::open::Whose;
use crate::temporal::policy::{self, EndAction};
use crate::temporal::{describe, foreign_manager, routing, version_state, versions, visibility};

/// Versions without running workflows are gone by then: the server forgets pollers after 5 min and
/// notices a drain within 6.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Another Process has the name now, and with it the records, also before it has claimed them.
async fn succeeded(context: &Context, key: &ProcessKey) -> Result<bool, Fault> {
    let api: Api<Process> = Api::namespaced(context.kube.clone(), &key.namespace);
    let found = api.get_metadata_opt(&key.name).await?;
    Ok(found.is_some_and(|found| found.uid().as_deref() != Some(key.uid.as_str())))
}

/// Counts what was started while the Process went, and ends it when its policy ended the others. With
/// no worker left nothing can be cancelled any more.
async fn late_starts(
    context: &Context,
    input: &CleanRecordsInput,
    late: &LateStarts,
) -> Result<u64, Fault> {
    let namespace = &input.temporal_namespace;
    let whose = Whose::new(&input.key, &late.task_queue, &late.queues);
    let query = format!("{} AND StartTime <= '{}'", whose.query(), late.until);
    let count = visibility::count(context, namespace, &query).await?;
    if count > 0 && late.terminate {
        let key = &input.key;
        let reason = format!(
            "started while Process {}/{} was deleted",
            key.namespace, key.name
        );
        let identity = context.manager_identity(&key.uid);
        let action = EndAction::Terminate;
        policy::end_executions(context, namespace, &query, action, &reason, &identity).await?;
    }
    Ok(count)
}

/// Whether a version drains by its own record. The summaries of a Worker Deployment can say so for
/// good after it has drained (seen with 1.32, after changes in quick succession).
async fn draining(
    context: &Context,
    input: &CleanRecordsInput,
    build_id: &str,
) -> Result<bool, Fault> {
    let (namespace, key) = (&input.temporal_namespace, &input.key);
    let record = versions::record(context, namespace, key, build_id).await?;
    Ok(record.is_some_and(|record| record.state != VersionState::Drained))
}

pub(crate) async fn clean(
    context: &Context,
    input: &CleanRecordsInput,
) -> Result<CleanRecordsOutcome, Fault> {
    let mut outcome = CleanRecordsOutcome::default();
    let started = tokio::time::Instant::now();
    let mut looked = false;
    let mut pace = Pace::new(Duration::from_secs(1), Duration::from_secs(30));
    let identity = context.manager_identity(&input.key.uid);
    let deployment = input.key.worker_deployment();
    loop {
        let seen = match describe(context, &input.temporal_namespace, &deployment).await {
            // The whole Temporal namespace is gone, and the records with it.
            Err(fault) if fault.category == ErrorCategory::NamespaceNotFound => return Ok(outcome),
            seen => passing(seen)?,
        };
        if let Some(seen) = seen {
            let Some((info, token)) = seen else {
                return Ok(outcome);
            };
            let Some(succeeded) = passing(succeeded(context, &input.key).await)? else {
                pace.rest().await;
                continue;
            };
            if succeeded || foreign_manager(context, &info.manager_identity).is_some() {
                outcome.claimed = true;
                return Ok(outcome);
            }
            let token = if info.manager_identity == identity {
                token
            } else {
                // Inherited from a predecessor and never rolled out since, so never claimed.
                let claimed =
                    routing::claim(context, &input.temporal_namespace, &input.key, token).await;
                let Some(token) = passing(claimed)? else {
                    pace.rest().await;
                    continue;
                };
                token
            };
            let current = info
                .routing_config
                .as_ref()
                .and_then(|config| config.current_deployment_version.as_ref());
            if current.is_some() {
                let (namespace, sent) = (&input.temporal_namespace, Sent::default());
                let nobody = routing::set(context, namespace, &input.key, "", token, &sent);
                passing(nobody.await)?;
            }
            if let Some(late) = input.late.as_ref().filter(|_| !looked) {
                let ended = late_starts(context, input, late).await;
                if let Some(count) = passing(ended)? {
                    outcome.late = count;
                    looked = true;
                }
            }
            outcome.left = BTreeMap::new();
            for summary in &info.version_summaries {
                let Some(version) = &summary.deployment_version else {
                    continue;
                };
                let build_id = &version.build_id;
                let state = version_state(summary.status());
                if state == VersionState::Draining
                    && passing(draining(context, input, build_id).await)?.unwrap_or(true)
                {
                    outcome.left.insert(
                        build_id.clone(),
                        "running workflows are pinned to it".into(),
                    );
                    continue;
                }
                let deleted =
                    versions::delete(context, &input.temporal_namespace, &input.key, build_id)
                        .await;
                if passing(deleted)? == Some(true) {
                    outcome.deleted.push(build_id.clone());
                } else {
                    outcome
                        .left
                        .insert(build_id.clone(), "its workers polled lately".into());
                }
            }
            if outcome.left.is_empty() {
                let deleted =
                    versions::delete_deployment(context, &input.temporal_namespace, &input.key)
                        .await;
                if passing(deleted)? == Some(true) {
                    return Ok(outcome);
                }
            }
        }
        if started.elapsed() > PATIENCE {
            return Ok(outcome);
        }
        pace.rest().await;
    }
}
