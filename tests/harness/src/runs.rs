//! Runs of the operator's workflows with their histories, and what holds of each.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;

use crate::env::Env;

/// One run.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) info: WorkflowExecutionInfo,
    pub(crate) events: Vec<HistoryEvent>,
    /// The newest of its workflow, or one that was continued as new. Others were ended by somebody, in the middle of
    /// anything.
    pub(crate) whole: bool,
}

/// All runs of the operator's workflows in the Temporal namespace of `env`.
pub(crate) async fn runs(env: &Env) -> Result<Vec<Run>> {
    let mut seen = BTreeSet::new();
    let mut runs = Vec::new();
    // The newest first.
    for info in env.temporal.list(&env.control, "").await? {
        let execution = info.execution.clone().context("an execution has an id")?;
        let id = execution.workflow_id.clone();
        let continued = info.status() == WorkflowExecutionStatus::ContinuedAsNew;
        let whole = seen.insert(id.clone()) || continued;
        let events = env.temporal.history_of(&env.control, execution).await?;
        runs.push(Run {
            id,
            info,
            events,
            whole,
        });
    }
    Ok(runs)
}

impl Run {
    /// I9: no activity was tried more often than its policy allows, and each has a policy.
    pub(crate) fn tries(&self) -> Result<()> {
        let mut most = BTreeMap::new();
        for event in &self.events {
            match &event.attributes {
                Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) => {
                    let name = scheduled.activity_type.as_ref();
                    let name = name.map(|it| it.name.clone()).unwrap_or_default();
                    let policy = scheduled.retry_policy.as_ref();
                    let policy = policy
                        .with_context(|| format!("I9: {name} in {} has no policy", self.id))?;
                    most.insert(event.event_id, (name, policy.maximum_attempts));
                }
                Some(Attributes::ActivityTaskStartedEventAttributes(started)) => {
                    let Some((name, most)) = most.get(&started.scheduled_event_id) else {
                        continue;
                    };
                    ensure!(
                        *most == 0 || started.attempt <= *most,
                        "I9: {name} in {} was tried {} times, not {most} at most",
                        self.id,
                        started.attempt
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }
}
