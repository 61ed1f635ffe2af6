//! Cleans the server's records of a Process that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use process_operator_crds::{ErrorCategory, Process, names};
use process_operator_workflows::contract::{
    CleanRecordsInput, CleanRecordsOutcome, LateStarts, ProcessKey, VersionState,
};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentInfo;

use super::{Pace, passing};
use crate::budget::Change;
use crate::context::Context;
use crate::error::Fault;
use crate::sent::Sent;
use crate::temporal::open::Whose;
use crate::temporal::policy::{self, EndAction};
use crate::temporal::{
    describe, foreign_manager, manager, routing, version_state, versions, visibility,
};

/// Versions without running workflows are gone by then: the server forgets pollers after 5 min and
/// notices a drain within 6.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Records are not deleted for so long while pods are on their way out. One on a node that is lost stays for longer, and
/// does not poll.
const LINGER: Duration = Duration::from_secs(120);

/// Whether there are pods that may still poll. The server keeps a record whose workers have polled lately, but one that was
/// restarted has forgotten who did, and the next poll makes the record anew.
async fn pods_left(context: &Context, key: &ProcessKey) -> bool {
    let api: Api<Pod> = Api::namespaced(context.kube.clone(), &key.namespace);
    let of_it = format!("{}={}", names::label::PROCESS, key.name);
    let of_it = ListParams::default().labels(&of_it).limit(1);
    let found = api.list_metadata(&of_it).await;
    // What cannot be asked holds nothing up.
    found.is_ok_and(|pods| !pods.items.is_empty())
}

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
    let mut cleaning = Cleaning {
        context,
        input,
        outcome: CleanRecordsOutcome::default(),
        looked: false,
        started: tokio::time::Instant::now(),
    };
    let mut pace = Pace::new(Duration::from_secs(1), Duration::from_secs(30));
    while !cleaning.pass().await? && cleaning.started.elapsed() <= PATIENCE {
        pace.rest().await;
    }
    Ok(cleaning.outcome)
}

struct Cleaning<'a> {
    context: &'a Context,
    input: &'a CleanRecordsInput,
    outcome: CleanRecordsOutcome,
    /// What was started late is counted.
    looked: bool,
    started: tokio::time::Instant,
}

impl Cleaning<'_> {
    /// Does what can be done now. Whether nothing is left to do.
    async fn pass(&mut self) -> Result<bool, Fault> {
        let (context, input) = (self.context, self.input);
        let (namespace, key) = (&input.temporal_namespace, &input.key);
        let seen = match describe(context, namespace, &key.worker_deployment()).await {
            // The whole Temporal namespace is gone, and the records with it.
            Err(fault) if fault.category == ErrorCategory::NamespaceNotFound => return Ok(true),
            seen => passing(seen)?,
        };
        let Some(seen) = seen else {
            return Ok(false);
        };
        // Without Worker Versioning there never was a record, but workflows were started.
        if seen.is_none() && input.late.is_none() {
            return Ok(true);
        }
        let Some(succeeded) = passing(succeeded(context, key).await)? else {
            return Ok(false);
        };
        let Some((info, token)) = seen else {
            return if succeeded {
                Ok(true)
            } else {
                self.look_for_late().await
            };
        };
        if succeeded {
            self.outcome.claimed = true;
            return Ok(true);
        }
        if foreign_manager(context, &info.manager_identity).is_some() {
            self.outcome.claimed = true;
            return Ok(true);
        }
        let token = if info.manager_identity == context.manager_identity(&key.uid) {
            token
        } else {
            // Inherited from a predecessor and never rolled out since, so never claimed.
            let claimed = manager::claim(context, namespace, key, token).await;
            let Some(token) = passing(claimed)? else {
                return Ok(false);
            };
            token
        };
        let current = info
            .routing_config
            .as_ref()
            .and_then(|config| config.current_deployment_version.as_ref());
        if current.is_some() {
            // Somebody may have taken the name over when its turn has come: the token is not good any more then.
            let how = (Change::Cleaning, &Sent::default());
            let nobody = routing::set(context, namespace, key, "", token, how);
            passing(nobody.await)?;
        }
        self.look_for_late().await?;
        if self.started.elapsed() < LINGER && pods_left(context, key).await {
            return Ok(false);
        }
        self.delete(&info).await
    }

    /// Looks once at what was started while the Process went. Whether that is done.
    async fn look_for_late(&mut self) -> Result<bool, Fault> {
        let Some(late) = self.input.late.as_ref().filter(|_| !self.looked) else {
            return Ok(true);
        };
        let counted = late_starts(self.context, self.input, late).await;
        if let Some(count) = passing(counted)? {
            self.outcome.late = count;
            self.looked = true;
        }
        Ok(self.looked)
    }

    /// Deletes the records that the server lets go. Whether all are gone.
    async fn delete(&mut self, info: &WorkerDeploymentInfo) -> Result<bool, Fault> {
        let (context, input) = (self.context, self.input);
        let (namespace, key) = (&input.temporal_namespace, &input.key);
        self.outcome.left = BTreeMap::new();
        for summary in &info.version_summaries {
            let Some(version) = &summary.deployment_version else {
                continue;
            };
            let build_id = &version.build_id;
            let draining = version_state(summary.status()) == VersionState::Draining
                && passing(draining(context, input, build_id).await)?.unwrap_or(true);
            let why = if draining {
                "running workflows are pinned to it"
            } else {
                let turn = context.change_turn(namespace, Change::Cleaning).await;
                let deleted = versions::delete(context, namespace, key, build_id, turn).await;
                if passing(deleted)? == Some(true) {
                    self.outcome.deleted.push(build_id.clone());
                    continue;
                }
                "its workers polled lately"
            };
            self.outcome.left.insert(build_id.clone(), why.into());
        }
        if !self.outcome.left.is_empty() {
            return Ok(false);
        }
        let deleted = versions::delete_deployment(context, namespace, key).await;
        Ok(passing(deleted)? == Some(true))
    }
}
