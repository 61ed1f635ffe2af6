//! Cleans the server's records of a Process that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{CleanRecordsInput, CleanRecordsOutcome, VersionState};

use super::{Pace, passing};
use crate::context::Context;
use crate::error::Fault;
use crate::temporal::{describe, routing, version_state, versions};

/// Versions without running workflows are gone by then: the server forgets pollers after 5 min and
/// notices a drain within 6.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

pub(crate) async fn clean(
    context: &Context,
    input: &CleanRecordsInput,
) -> Result<CleanRecordsOutcome, Fault> {
    let mut outcome = CleanRecordsOutcome::default();
    let started = tokio::time::Instant::now();
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
            let manager = &info.manager_identity;
            // A successor that has not claimed it yet exists in Kubernetes already.
            let successor = context
                .cache
                .process_named(&input.key.namespace, &input.key.name);
            if (!manager.is_empty() && *manager != identity)
                || successor.is_some_and(|successor| successor.uid != input.key.uid)
            {
                outcome.claimed = true;
                return Ok(outcome);
            }
            let current = info
                .routing_config
                .as_ref()
                .and_then(|config| config.current_deployment_version.as_ref());
            if current.is_some() {
                passing(
                    routing::set(context, &input.temporal_namespace, &input.key, "", token).await,
                )?;
            }
            outcome.left = BTreeMap::new();
            for summary in &info.version_summaries {
                let Some(version) = &summary.deployment_version else {
                    continue;
                };
                let build_id = &version.build_id;
                let state = version_state(summary.status());
                if matches!(state, VersionState::Draining) {
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
