//! How workflows and Processes end: what tests of deletions and drains start and look at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use process_example_worker::workflows::{Renews, RenewsInput, WaitForSignal, WaitForSignalInput};
use process_operator_crds::{Process, names};
use temporalio_client::WorkflowStartOptions;
use temporalio_client::grpc::{OperatorService, WorkflowService};
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::common::v1::WorkflowType;
use temporalio_common::protos::temporal::api::enums::v1::{EventType, WorkflowExecutionStatus};
use temporalio_common::protos::temporal::api::operatorservice::v1::DeleteNamespaceRequest;
use temporalio_common::protos::temporal::api::schedule::v1::{
    IntervalSpec, Schedule, ScheduleAction, SchedulePatch, ScheduleSpec, schedule_action::Action,
};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflow::v1::{
    NewWorkflowExecutionInfo, WorkflowExecutionInfo,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    CreateScheduleRequest, DescribeScheduleRequest, ListSchedulesRequest,
    ListWorkerDeploymentsRequest, PatchScheduleRequest,
};

use crate::SOON;
use crate::env::Env;
use crate::look::lifecycle_id;
use crate::temporal::Temporal;
use crate::wait::until;

impl Temporal {
    /// Starts a workflow that stays open, and does not wait until a worker has taken it.
    pub async fn start_open(
        &self,
        namespace: &str,
        queue: &str,
        id: &str,
        ignore_cancel: bool,
    ) -> Result<()> {
        let client = self.client(namespace)?;
        let options = WorkflowStartOptions::new(queue, id).build();
        let input = WaitForSignalInput { ignore_cancel };
        client
            .start_workflow(WaitForSignal::run, input.into(), options)
            .await?;
        Ok(())
    }

    /// Starts a workflow that goes on in one run after the other, each as long as the least time between two
    /// that the server allows, and waits until a worker has taken it.
    pub async fn start_renewing(&self, namespace: &str, queue: &str, id: &str) -> Result<()> {
        let client = self.client(namespace)?;
        let options = WorkflowStartOptions::new(queue, id).build();
        client
            .start_workflow(Renews::run, RenewsInput::default().into(), options)
            .await?;
        self.wait_taken(namespace, id).await
    }

    /// Waits until a worker has done its first workflow task.
    pub async fn wait_taken(&self, namespace: &str, id: &str) -> Result<()> {
        until(&format!("{id} runs on a version"), SOON, async || {
            let done = self
                .history(namespace, id)
                .await?
                .iter()
                .any(|event| event.event_type() == EventType::WorkflowTaskCompleted);
            ensure!(done, "no task completed yet");
            Ok(())
        })
        .await
    }

    /// Names of all Worker Deployments in a Temporal namespace.
    pub async fn worker_deployments(&self, namespace: &str) -> Result<Vec<String>> {
        let request = ListWorkerDeploymentsRequest {
            namespace: namespace.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        let page =
            WorkflowService::list_worker_deployments(&mut connection, request.into_request())
                .await?
                .into_inner();
        Ok(page
            .worker_deployments
            .into_iter()
            .map(|deployment| deployment.name)
            .collect())
    }

    /// Ids of all schedules as they are listed, and whether each is paused.
    pub async fn schedules(&self, namespace: &str) -> Result<BTreeMap<String, bool>> {
        let request = ListSchedulesRequest {
            namespace: namespace.to_owned(),
            maximum_page_size: 1000,
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        let page = WorkflowService::list_schedules(&mut connection, request.into_request())
            .await?
            .into_inner();
        let listed = page.schedules.into_iter().map(|entry| {
            let paused = entry.info.is_some_and(|info| info.paused);
            (entry.schedule_id, paused)
        });
        Ok(listed.collect())
    }

    /// How a workflow stands, by its newest run.
    pub async fn run_status(&self, namespace: &str, id: &str) -> Result<WorkflowExecutionStatus> {
        let found = self
            .list(namespace, &format!("WorkflowId = '{id}'"))
            .await?;
        Ok(found
            .first()
            .map(WorkflowExecutionInfo::status)
            .unwrap_or_default())
    }

    /// How many workflows are open on a queue.
    pub async fn open_on(&self, namespace: &str, queue: &str) -> Result<usize> {
        let query = format!("TaskQueue = '{queue}' AND ExecutionStatus = 'Running'");
        Ok(self.list(namespace, &query).await?.len())
    }

    /// Makes a schedule that starts a workflow on a queue once a day.
    pub async fn schedule(&self, namespace: &str, id: &str, queue: &str) -> Result<()> {
        let day = prost_wkt_types::Duration {
            seconds: 24 * 3600,
            nanos: 0,
        };
        let starts = NewWorkflowExecutionInfo {
            workflow_id: format!("{id}-run"),
            workflow_type: Some(WorkflowType {
                name: "Quick".into(),
            }),
            task_queue: Some(TaskQueue {
                name: queue.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = CreateScheduleRequest {
            namespace: namespace.to_owned(),
            schedule_id: id.to_owned(),
            schedule: Some(Schedule {
                spec: Some(ScheduleSpec {
                    interval: vec![IntervalSpec {
                        interval: Some(day),
                        ..Default::default()
                    }],
                    ..Default::default()
                }),
                action: Some(ScheduleAction {
                    action: Some(Action::StartWorkflow(starts)),
                }),
                ..Default::default()
            }),
            request_id: id.to_owned(),
            identity: "tests".to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::create_schedule(&mut connection, request.into_request()).await?;
        Ok(())
    }

    /// Pauses a schedule as a person does.
    pub async fn pause_schedule(&self, namespace: &str, id: &str, note: &str) -> Result<()> {
        let request = PatchScheduleRequest {
            namespace: namespace.to_owned(),
            schedule_id: id.to_owned(),
            patch: Some(SchedulePatch {
                pause: note.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::patch_schedule(&mut connection, request.into_request()).await?;
        Ok(())
    }

    /// Whether a schedule is paused, and its note.
    pub async fn schedule_state(&self, namespace: &str, id: &str) -> Result<(bool, String)> {
        let request = DescribeScheduleRequest {
            namespace: namespace.to_owned(),
            schedule_id: id.to_owned(),
        };
        let mut connection = self.connection.clone();
        let found = WorkflowService::describe_schedule(&mut connection, request.into_request())
            .await?
            .into_inner();
        let state = found
            .schedule
            .and_then(|schedule| schedule.state)
            .unwrap_or_default();
        Ok((state.paused, state.notes))
    }

    /// Lets a Temporal namespace go; the server does it behind the answer. For each that is left it keeps
    /// workers, and timers for each version, and all later tests pay for them.
    pub(crate) async fn let_namespace_go(&self, name: &str) -> Result<()> {
        let request = DeleteNamespaceRequest {
            namespace: name.to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        OperatorService::delete_namespace(&mut connection, request.into_request()).await?;
        Ok(())
    }

    /// Deletes a Temporal namespace and waits until the server knows it no more.
    pub async fn delete_namespace(&self, name: &str) -> Result<()> {
        self.let_namespace_go(name).await?;
        until(
            &format!("Temporal namespace {name} is gone"),
            SOON,
            async || {
                let found = self.list(name, "ExecutionStatus = 'Running'").await;
                ensure!(found.is_err(), "it still answers");
                Ok(())
            },
        )
        .await
    }
}

impl Env {
    /// Nothing of a Process is left: neither owned objects nor records of the server nor a workflow
    /// about it that is open.
    pub async fn nothing_is_left(&self, process: &Process) -> Result<()> {
        let name = process.name_any();
        until("no owned object is left", SOON, async || {
            let deployments = self.deployments(&name).await?.len();
            let ours = ListParams::default().labels(&format!("ameide.io/process={name}"));
            let revisions = self
                .api::<ControllerRevision>()
                .list(&ours)
                .await?
                .items
                .len();
            let maps = self.api::<ConfigMap>().list(&ours).await?.items.len();
            let sentinel = self
                .api::<ControllerRevision>()
                .get_opt(&names::sentinel_name(&name))
                .await?;
            let pods = self.pods(&name).await?.len();
            ensure!(
                (deployments, revisions, maps, pods) == (0, 0, 0, 0) && sentinel.is_none(),
                "{deployments} Deployments, {revisions} ControllerRevisions, {maps} ConfigMaps, {pods} \
                 pods, {sentinel:?}"
            );
            Ok(())
        })
        .await?;
        let deployment = format!("{}/{name}", self.namespace);
        until("no record is left", SOON, async || {
            let record = self
                .temporal
                .worker_deployment(&self.apps, &deployment)
                .await?;
            ensure!(record.is_none(), "{record:?}");
            Ok(())
        })
        .await?;
        self.no_workflow_about(process).await
    }

    /// No lifecycle, rollout or drain of a Process is open.
    pub async fn no_workflow_about(&self, process: &Process) -> Result<()> {
        let id = lifecycle_id(process);
        let about = id.trim_start_matches("process/");
        until("no workflow about it is open", SOON, async || {
            let mut open = Vec::new();
            for kind in ["process", "rollout", "drain"] {
                let query = format!(
                    "ExecutionStatus = 'Running' AND WorkflowId STARTS_WITH '{kind}/{about}'"
                );
                let found = self.temporal.list(&self.control, &query).await?;
                open.extend(found.into_iter().filter_map(|info| info.execution));
            }
            ensure!(open.is_empty(), "{open:?}");
            Ok(())
        })
        .await
    }

    /// Deletes a Process as a user does, and does not wait.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.api::<Process>()
            .delete(name, &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Waits until a Process is gone, at most so long.
    pub async fn gone_within(&self, name: &str, within: Duration) -> Result<()> {
        until(&format!("{name} is gone"), within, async || {
            let found = self.api::<Process>().get_opt(name).await?;
            let said = found
                .as_ref()
                .map(|process| crate::condition(process, "Ready").2);
            ensure!(found.is_none(), "still there: {said:?}");
            Ok(())
        })
        .await
    }
}

/// Watches the pods of a Process together with the workflows on its queue: no pod may be told to
/// stop while one of them is open.
pub struct PodGuard {
    stopped_too_early: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl PodGuard {
    /// Begins to watch.
    pub fn start(env: &Env, process: &str, queue: &str) -> Self {
        let stopped_too_early = Arc::<Mutex<Vec<String>>>::default();
        let found = stopped_too_early.clone();
        let config = watcher::Config::default().labels(&format!("ameide.io/process={process}"));
        let pods = env.api::<Pod>();
        let (temporal, apps, queue) = (env.temporal.clone(), env.apps.clone(), queue.to_owned());
        let task = tokio::spawn(async move {
            let mut changes =
                std::pin::pin!(watcher(pods, config).default_backoff().applied_objects());
            let mut seen = std::collections::BTreeSet::new();
            while let Some(change) = changes.next().await {
                let Ok(pod) = change else { continue };
                let stops = pod.metadata.deletion_timestamp.is_some();
                if !stops || !seen.insert(pod.uid()) {
                    continue;
                }
                let open = temporal.open_on(&apps, &queue).await.unwrap_or(usize::MAX);
                if open > 0 {
                    let text = format!("{} with {open} open", pod.name_any());
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(text);
                }
            }
        });
        Self {
            stopped_too_early,
            task,
        }
    }

    /// No pod was told to stop too early, and somebody has watched until now.
    pub fn hold(self) -> Result<()> {
        ensure!(!self.task.is_finished(), "the watch of pods has ended");
        let found = self
            .stopped_too_early
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(
            found.is_empty(),
            "I3: pods were stopped under workflows: {found:?}"
        );
        Ok(())
    }
}

impl Drop for PodGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}
