//! What holds after every scenario: converged, nothing double, nothing lost, nothing of others touched, zero writes after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditFilter, AuditMark, Entry};
use temporalio_common::protos::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::SOON;
use crate::env::Env;
use crate::look::lifecycle_id;
use crate::operator::Operator;
use crate::owners;
use crate::runs::{Run, runs};
use crate::secrets;
use crate::wait::until;

/// Checks after a scenario. Start it before the scenario, so that it sees every write.
pub struct Invariants {
    mark: AuditMark,
    /// Why workflow tasks fail in this scenario.
    expected: Vec<WorkflowTaskFailedCause>,
}

/// The operator's writes in the audit log.
fn writes(env: &Env) -> AuditFilter {
    AuditFilter::mutating()
        .service_account("process-operator", "process-operator")
        .namespace(&env.namespace)
}

impl Invariants {
    /// Remembers where the audit log stands.
    pub fn start(env: &Env) -> Result<Self> {
        Ok(Self {
            mark: env.audit.mark()?,
            expected: Vec::new(),
        })
    }

    /// For a scenario that terminates workflows of the operator while they may be in the middle of a task, which the
    /// server writes down as failed.
    #[must_use]
    pub fn with_terminations(self) -> Self {
        self.with_failures(WorkflowTaskFailedCause::ForceCloseCommand)
    }

    /// For a scenario in which workflow tasks fail for this.
    #[must_use]
    pub fn with_failures(mut self, cause: WorkflowTaskFailedCause) -> Self {
        self.expected.push(cause);
        self
    }

    /// All writes of operators in this namespace since the start.
    pub fn writes(&self, env: &Env) -> Result<Vec<Entry>> {
        env.audit.select(self.mark, &writes(env))
    }

    /// Holds every invariant, with a quiet window of `quiet` at the end.
    pub async fn hold(&self, env: &Env, operators: &[&Operator], quiet: Duration) -> Result<()> {
        one_lifecycle_each(env).await?;
        self.nothing_created_twice(env)?;
        let runs = runs(env).await?;
        for run in runs.iter().filter(|run| run.whole) {
            self.no_workflow_task_failed(run)?;
            run.tries()?;
        }
        secrets::are_kept(env, operators, &runs).await?;
        only_documented_events(env).await?;
        env.pods_left_alone().await?;
        for operator in operators {
            let log = operator.log_text();
            ensure!(
                !log.contains("panicked at"),
                "I9: panic in {}",
                operator.log.display()
            );
        }
        silent(env, quiet).await?;
        owners::are_respected(env).await
    }

    /// I8: no object that still exists or was needed once is created a second time while it exists.
    fn nothing_created_twice(&self, env: &Env) -> Result<()> {
        let mut balance: BTreeMap<(String, String), i32> = BTreeMap::new();
        let everybody = AuditFilter::mutating().namespace(&env.namespace);
        for entry in env.audit.select(self.mark, &everybody)? {
            let Some(object) = &entry.object_ref else {
                continue;
            };
            // A person and the garbage collector delete too, but only the operator's creations count.
            if entry.verb != "delete" && !writes(env).matches(&entry) {
                continue;
            }
            if object.resource == "events" || !(200..300).contains(&entry.code()) {
                continue;
            }
            let key = (object.resource.clone(), object.name.clone());
            let count = balance.entry(key.clone()).or_default();
            match (entry.verb.as_str(), entry.code()) {
                ("create" | "patch", 201) => *count += 1,
                ("delete", _) => *count -= 1,
                _ => {}
            }
            ensure!(*count <= 1, "I8: {key:?} was created twice");
        }
        Ok(())
    }

    /// I9: no workflow task failed, none was non-deterministic.
    fn no_workflow_task_failed(&self, run: &Run) -> Result<()> {
        for event in &run.events {
            let failed = event.event_type() == EventType::WorkflowTaskFailed;
            ensure!(
                !failed || self.no_fault(event),
                "I9: workflow task failed in {}: {event:?}",
                run.id
            );
        }
        Ok(())
    }

    /// What the server writes as a failed task although no code has failed: a reset by a person, something that
    /// arrived while the workflow was about to end, with which the task is done again, and what the scenario is
    /// about.
    fn no_fault(&self, event: &HistoryEvent) -> bool {
        let Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) = &event.attributes else {
            return false;
        };
        let cause = failed.cause();
        matches!(
            cause,
            WorkflowTaskFailedCause::ResetWorkflow | WorkflowTaskFailedCause::UnhandledCommand
        ) || self.expected.contains(&cause)
    }
}

/// Ids of the lifecycles that Processes should have, and of those that are open.
async fn lifecycles(env: &Env) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let processes = env.api::<Process>().list(&ListParams::default()).await?;
    let wanted = processes.iter().map(lifecycle_id).collect();
    let query = "WorkflowType = 'ProcessLifecycle' AND ExecutionStatus = 'Running'";
    let mut open = BTreeSet::new();
    for info in env.temporal.list(&env.control, query).await? {
        let id = info
            .execution
            .map(|execution| execution.workflow_id)
            .unwrap_or_default();
        ensure!(open.insert(id.clone()), "{id} is open twice");
    }
    Ok((wanted, open))
}

/// I1: exactly one open lifecycle for each Process uid, and none without a Process. One whose Process has just gone
/// ends by itself when it has cleaned the server's records.
async fn one_lifecycle_each(env: &Env) -> Result<()> {
    let what = "I1: one open lifecycle for each Process, and no other";
    // Those of Processes of another namespace may be in the same Temporal namespace.
    let ours = format!("process/{}/", env.namespace);
    until(what, SOON, async || {
        let (wanted, open) = lifecycles(env).await?;
        let lost: Vec<_> = wanted.difference(&open).collect();
        let unwanted = open.difference(&wanted);
        let unwanted: Vec<_> = unwanted.filter(|id| id.starts_with(&ours)).collect();
        ensure!(
            lost.is_empty() && unwanted.is_empty(),
            "no lifecycle: {lost:?}; no Process: {unwanted:?}"
        );
        Ok(())
    })
    .await
}

/// Every Event of the operator is one that the documentation explains.
async fn only_documented_events(env: &Env) -> Result<()> {
    let page = include_str!("../../../docs/events.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let mut known: BTreeSet<&str> = cells.flat_map(|cell| cell.split(['`', ',', ' '])).collect();
    // What a condition would say, where it cannot be written.
    let page = include_str!("../../../docs/reference/conditions.md");
    let (_, errors) = page.split_once("## Errors").unwrap_or_default();
    known.extend(errors.lines().filter_map(|row| row.split('`').nth(3)));
    let events = env.api::<Event>().list(&ListParams::default()).await?;
    for event in events {
        let ours = event.reporting_controller.as_deref() == Some("ameide.io/process-operator");
        let reason = event.reason.unwrap_or_default();
        ensure!(
            !ours || known.contains(reason.as_str()),
            "docs/events.md does not have {reason}: {:?}",
            event.note
        );
    }
    Ok(())
}

/// I7 and I12: a quiet window without a write to Kubernetes and without a new history event. The
/// window may begin late, never be interrupted.
async fn silent(env: &Env, quiet: Duration) -> Result<()> {
    let deadline = std::time::Instant::now() + SOON + quiet;
    loop {
        let (mark, events) = (env.audit.mark()?, event_count(env).await?);
        // The window itself is what is measured, so here time has to pass.
        tokio::time::sleep(quiet).await;
        let written = env.audit.select(mark, &writes(env))?;
        let grown = event_count(env).await?;
        if written.is_empty() && grown == events {
            return Ok(());
        }
        ensure!(
            std::time::Instant::now() < deadline,
            "I7: not silent: {} writes ({:?}), history events {events} -> {grown}",
            written.len(),
            written
                .iter()
                .map(|entry| (&entry.verb, &entry.object_ref))
                .collect::<Vec<_>>(),
        );
    }
}

/// Events in the histories of all open lifecycles.
async fn event_count(env: &Env) -> Result<usize> {
    let mut count = 0;
    for info in env
        .temporal
        .list(&env.control, "ExecutionStatus = 'Running'")
        .await?
    {
        if let Some(execution) = info.execution {
            count += env
                .temporal
                .history(&env.control, &execution.workflow_id)
                .await?
                .len();
        }
    }
    Ok(count)
}
