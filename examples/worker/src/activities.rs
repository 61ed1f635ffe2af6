//! The activities: how a workflow learns about the worker it runs on.

// The SDK's macros make a public constant of each method, and nothing can document those.
#![allow(missing_docs)]

use crate::{config::Config, eventing::Bound};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

/// How often a long `Report` tells the server that it is alive.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The worker that took a task, as it knows itself.
///
/// A workflow gets this from a local activity: the answer is then part of its history, and a replay
/// on another worker sees what the first worker said. Reading the environment from workflow code
/// would give every worker another answer. `ctx.current_deployment_version()` is replay-safe too,
/// but knows only versioned workers by name and nothing of tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerFacts {
    /// The pod's name.
    pub pod: String,
    /// `TEMPORAL_WORKER_BUILD_ID`, also when the worker polls unversioned.
    pub build_id: String,
    /// `TEMPORAL_DEPLOYMENT_NAME`, also when the worker polls unversioned.
    pub deployment_name: String,
    /// `PROCESS_NAME`.
    pub process: String,
    /// `PROCESS_DEFINITION_ID`.
    pub definition_id: String,
    /// `PROCESS_TENANT_ID`.
    pub tenant_id: String,
    /// What is below `PROCESS_DEFINITION_PATH`.
    pub definition: BTreeMap<String, String>,
    /// What `PROCESS_EVENTING_FILE` says.
    pub bindings: BTreeMap<String, Bound>,
    /// The fault `FAIL_PERCENT`.
    pub fail_percent: u8,
    /// The fault `FAIL_TASK_PERCENT`.
    pub fail_task_percent: u8,
    /// The fault `FAIL_VERIFY`.
    pub fail_verify: bool,
}

impl From<&Config> for WorkerFacts {
    fn from(config: &Config) -> Self {
        Self {
            pod: config.pod.clone(),
            build_id: config.build_id.clone(),
            deployment_name: config.deployment_name.clone(),
            process: config.process.clone(),
            definition_id: config.definition_id.clone(),
            tenant_id: config.tenant_id.clone(),
            definition: config.definition.clone(),
            bindings: config.bindings.clone(),
            fail_percent: config.faults.fail_percent,
            fail_task_percent: config.faults.fail_task_percent,
            fail_verify: config.faults.fail_verify,
        }
    }
}

/// Input of the activity `Report`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportInput {
    /// How long the activity takes. With 0 it answers at once and sends no heartbeat.
    pub duration_ms: u64,
}

/// Output of the activity `Report`: where it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The pod that finished the activity.
    pub pod: String,
    /// That pod's build id.
    pub build_id: String,
    /// Which attempt this was, from 1.
    pub attempt: u32,
    /// How many heartbeats this attempt sent.
    pub heartbeats: u32,
    /// How much of the time earlier attempts had already spent.
    pub resumed_at_ms: u64,
}

/// The activities' shared state.
#[derive(Clone, Debug)]
pub struct WorkerActivities {
    facts: WorkerFacts,
}

impl WorkerActivities {
    /// Activities that speak for the worker with this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            facts: WorkerFacts::from(config),
        }
    }
}

// Names are given, as the default name contains the Rust type's name and renaming the type would
// break running workflows.
#[activities]
impl WorkerActivities {
    /// What the worker knows of itself. Workflows call this as a local activity.
    #[activity(name = "WorkerFacts")]
    #[allow(clippy::unused_async)] // The macro wants a future.
    pub async fn worker_facts(
        self: Arc<Self>,
        _ctx: ActivityContext,
    ) -> Result<WorkerFacts, ActivityError> {
        Ok(self.facts.clone())
    }

    /// Works for the given time and says which pod did it.
    ///
    /// Heartbeats carry the time already spent, so that the next attempt goes on from there when
    /// this pod is stopped or lost.
    #[activity(name = "Report")]
    pub async fn report(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: ReportInput,
    ) -> Result<Report, ActivityError> {
        let resumed_at_ms = ctx
            .heartbeat_details()
            .deserialize::<u64>()?
            .unwrap_or_default();
        let total = Duration::from_millis(input.duration_ms);
        let mut spent = Duration::from_millis(resumed_at_ms);
        let mut heartbeats = 0;
        while spent < total {
            let step = total.saturating_sub(spent).min(HEARTBEAT_INTERVAL);
            tokio::select! {
                () = tokio::time::sleep(step) => spent += step,
                // The run was cancelled or this worker is being stopped. The client library tells
                // the two apart: the second is retried on another worker.
                () = ctx.cancelled() => return Err(ActivityError::cancelled()),
            }
            ctx.record_heartbeat(u64::try_from(spent.as_millis()).unwrap_or(u64::MAX))
                .await?;
            heartbeats += 1;
        }
        Ok(Report {
            pod: self.facts.pod.clone(),
            build_id: self.facts.build_id.clone(),
            attempt: ctx.info().attempt,
            heartbeats,
            resumed_at_ms,
        })
    }
}
