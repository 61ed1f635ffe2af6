//! Questions to a Temporal server, for what Kubernetes cannot tell.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use temporalio_client::envconfig::LoadClientConfigProfileOptions;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Response, Status};
use temporalio_client::{ClientOptions, Connection, Url};
use temporalio_common::protos::temporal::api::common::v1::{WorkflowExecution, WorkflowType};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion;
use temporalio_common::protos::temporal::api::enums::v1::{
    EventType, HistoryEventFilterType, TaskQueueType, WorkerVersioningMode,
};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::taskqueue::v1::{PollerInfo, TaskQueue};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeNamespaceRequest, DescribeTaskQueueRequest, DescribeWorkerDeploymentRequest,
    GetWorkflowExecutionHistoryRequest, ListWorkflowExecutionsRequest,
    StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};

use crate::args::TemporalArgs;

/// How long one question may take.
const CALL: Duration = Duration::from_secs(8);
/// A poll lasts about a minute; who has not polled for longer is gone.
const POLLS: SignedDuration = SignedDuration::from_secs(90);
/// Most events of one history.
const EVENTS: usize = 5000;
/// Name under which questions are asked.
const IDENTITY: &str = "kubectl-process";

/// A connection.
#[derive(Clone)]
pub(crate) struct Temporal(Connection);

/// Who gets which share of new workflows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Routing {
    /// Build id of the Current version.
    pub(crate) current: String,
    /// Build id of the Ramping version.
    pub(crate) ramping: String,
    /// Its percentage.
    pub(crate) percent: f32,
    /// Who manages the Worker Deployment.
    pub(crate) manager: String,
    /// Who changed it last.
    pub(crate) modifier: String,
}

/// Who polls a task queue for workflow tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pollers {
    /// Deployment and build id of those that say their version.
    pub(crate) versioned: Vec<(String, String)>,
    /// Names of those that do not.
    pub(crate) unversioned: Vec<String>,
}

impl Temporal {
    /// Connects to the server that the arguments name; `None` when they name none.
    pub(crate) async fn connect(args: &TemporalArgs) -> Option<Result<Self, String>> {
        let address = args.temporal_address.as_deref()?;
        Some(Self::to(address).await)
    }

    async fn to(address: &str) -> Result<Self, String> {
        let read = ClientOptions::load_from_config(LoadClientConfigProfileOptions::default());
        let (mut options, _) =
            read.map_err(|error| format!("Temporal's environment configuration: {error}"))?;
        // Without a host, `localhost:7233` is read as a scheme.
        let url = Url::parse(address).ok().filter(|url| url.host().is_some());
        let scheme = if options.tls_options.is_some() {
            "https"
        } else {
            "http"
        };
        options.target = match url {
            Some(url) => url,
            None => Url::parse(&format!("{scheme}://{address}"))
                .map_err(|error| format!("--temporal-address {address}: {error}"))?,
        };
        IDENTITY.clone_into(&mut options.identity);
        options.connect_timeout = Some(CALL);
        options.retry_options.max_elapsed_time = Some(Duration::from_secs(3));
        let connecting = tokio::time::timeout(CALL, Connection::connect(options));
        match connecting.await {
            Ok(Ok(connection)) => Ok(Self(connection)),
            Ok(Err(error)) => Err(format!("{address} cannot be reached: {error}")),
            Err(_) => Err(format!(
                "{address} does not answer within {} s",
                CALL.as_secs()
            )),
        }
    }

    /// Whether a Temporal namespace exists.
    pub(crate) async fn namespace(&self, name: &str) -> Result<bool, String> {
        let request = DescribeNamespaceRequest {
            namespace: name.to_owned(),
            ..Default::default()
        };
        let mut connection = self.0.clone();
        let answer = WorkflowService::describe_namespace(&mut connection, request.into_request());
        Ok(found(call(answer).await)?.is_some())
    }

    /// Who has polled a task queue lately.
    pub(crate) async fn pollers(&self, namespace: &str, queue: &str) -> Result<Pollers, String> {
        let request = DescribeTaskQueueRequest {
            namespace: namespace.to_owned(),
            task_queue: Some(TaskQueue {
                name: queue.to_owned(),
                ..Default::default()
            }),
            task_queue_type: TaskQueueType::Workflow.into(),
            ..Default::default()
        };
        let mut connection = self.0.clone();
        let answer = WorkflowService::describe_task_queue(&mut connection, request.into_request());
        let answer = call(answer)
            .await
            .map_err(|status| status.message().to_owned())?;
        let mut pollers = Pollers::default();
        for poller in answer.pollers.into_iter().filter(recent) {
            match poller.deployment_options {
                Some(options)
                    if options.worker_versioning_mode() == WorkerVersioningMode::Versioned =>
                {
                    pollers
                        .versioned
                        .push((options.deployment_name, options.build_id));
                }
                _ => pollers.unversioned.push(poller.identity),
            }
        }
        Ok(pollers)
    }

    /// The routing of a Worker Deployment; `None` when the server has no record of it.
    pub(crate) async fn routing(
        &self,
        namespace: &str,
        deployment: &str,
    ) -> Result<Option<Routing>, String> {
        let request = DescribeWorkerDeploymentRequest {
            namespace: namespace.to_owned(),
            deployment_name: deployment.to_owned(),
            ..Default::default()
        };
        let mut connection = self.0.clone();
        let answer =
            WorkflowService::describe_worker_deployment(&mut connection, request.into_request());
        let info = found(call(answer).await)?.and_then(|answer| answer.worker_deployment_info);
        let build_id = |version: Option<WorkerDeploymentVersion>| {
            version.map(|version| version.build_id).unwrap_or_default()
        };
        Ok(info.map(|info| {
            let routing = info.routing_config.unwrap_or_default();
            Routing {
                current: build_id(routing.current_deployment_version),
                ramping: build_id(routing.ramping_deployment_version),
                percent: routing.ramping_version_percentage,
                manager: info.manager_identity,
                modifier: info.last_modifier_identity,
            }
        }))
    }

    /// Starts a workflow without input, waits until it has closed, and says how. One that takes too
    /// long is terminated.
    pub(crate) async fn probe(
        &self,
        namespace: &str,
        queue: &str,
        kind: &str,
        limit: Duration,
    ) -> Result<String, String> {
        let id = format!("verify/{queue}/{}", Timestamp::now().as_nanosecond());
        let request = StartWorkflowExecutionRequest {
            namespace: namespace.to_owned(),
            workflow_id: id.clone(),
            workflow_type: Some(WorkflowType {
                name: kind.to_owned(),
            }),
            task_queue: Some(TaskQueue {
                name: queue.to_owned(),
                ..Default::default()
            }),
            identity: IDENTITY.to_owned(),
            request_id: id.clone(),
            ..Default::default()
        };
        let mut connection = self.0.clone();
        let answer =
            WorkflowService::start_workflow_execution(&mut connection, request.into_request());
        let started = call(answer).await;
        let run_id = started
            .map_err(|status| status.message().to_owned())?
            .run_id;
        let execution = WorkflowExecution {
            workflow_id: id.clone(),
            run_id,
        };
        match tokio::time::timeout(limit, self.closed(namespace, &execution)).await {
            Ok(Ok(EventType::WorkflowExecutionCompleted)) => {
                Ok(format!("workflow {id} has completed"))
            }
            Ok(Ok(other)) => Err(format!(
                "workflow {id} has not completed: {}",
                other.as_str_name()
            )),
            Ok(Err(why)) => Err(why),
            Err(_) => {
                self.terminate(namespace, execution).await;
                Err(format!(
                    "workflow {id} has not completed within {} s",
                    limit.as_secs()
                ))
            }
        }
    }

    /// Waits for the event that closes a workflow.
    async fn closed(
        &self,
        namespace: &str,
        execution: &WorkflowExecution,
    ) -> Result<EventType, String> {
        loop {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: namespace.to_owned(),
                execution: Some(execution.clone()),
                wait_new_event: true,
                history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
                ..Default::default()
            };
            let mut connection = self.0.clone();
            let answer = WorkflowService::get_workflow_execution_history(
                &mut connection,
                request.into_request(),
            );
            let page = match answer.await {
                Ok(page) => page.into_inner(),
                // A long poll that found nothing.
                Err(status) if status.code() == Code::DeadlineExceeded => continue,
                Err(status) => return Err(status.message().to_owned()),
            };
            let events = page
                .history
                .map(|history| history.events)
                .unwrap_or_default();
            if let Some(event) = events.last().filter(|event| closes(event.event_type())) {
                return Ok(event.event_type());
            }
        }
    }

    async fn terminate(&self, namespace: &str, execution: WorkflowExecution) {
        let request = TerminateWorkflowExecutionRequest {
            namespace: namespace.to_owned(),
            workflow_execution: Some(execution),
            reason: "kubectl process verify: the probe took too long".to_owned(),
            identity: IDENTITY.to_owned(),
            ..Default::default()
        };
        let mut connection = self.0.clone();
        // It may have closed meanwhile.
        let _ = call(WorkflowService::terminate_workflow_execution(
            &mut connection,
            request.into_request(),
        ))
        .await;
    }

    /// Workflows with this query, as id and run.
    pub(crate) async fn list(
        &self,
        namespace: &str,
        query: &str,
    ) -> Result<Vec<WorkflowExecution>> {
        let request = ListWorkflowExecutionsRequest {
            namespace: namespace.to_owned(),
            page_size: 50,
            query: query.to_owned(),
            ..Default::default()
        };
        let mut connection = self.0.clone();
        let answer =
            WorkflowService::list_workflow_executions(&mut connection, request.into_request());
        let found = call(answer).await.context("listing workflows")?.executions;
        Ok(found
            .into_iter()
            .filter_map(|info| info.execution)
            .collect())
    }

    /// The events of a workflow, the oldest first, up to a limit.
    pub(crate) async fn history(
        &self,
        namespace: &str,
        execution: &WorkflowExecution,
    ) -> Result<Vec<HistoryEvent>> {
        let mut events = Vec::new();
        let mut next_page_token = Vec::new();
        loop {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: namespace.to_owned(),
                execution: Some(execution.clone()),
                next_page_token,
                ..Default::default()
            };
            let mut connection = self.0.clone();
            let answer = WorkflowService::get_workflow_execution_history(
                &mut connection,
                request.into_request(),
            );
            let page = call(answer).await.context("reading a history")?;
            events.extend(
                page.history
                    .map(|history| history.events)
                    .unwrap_or_default(),
            );
            if page.next_page_token.is_empty() || events.len() >= EVENTS {
                return Ok(events);
            }
            next_page_token = page.next_page_token;
        }
    }
}

/// With a limit of time.
async fn call<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL, answer).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer from Temporal within {} s",
            CALL.as_secs()
        ))),
    }
}

/// `None` when it is not there.
fn found<T>(answer: Result<T, Status>) -> Result<Option<T>, String> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.message().to_owned()),
    }
}

fn recent(poller: &PollerInfo) -> bool {
    let at = poller.last_access_time.as_ref();
    let at = at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
    at.is_none_or(|at| Timestamp::now().duration_since(at) < POLLS)
}

fn closes(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::WorkflowExecutionCompleted
            | EventType::WorkflowExecutionFailed
            | EventType::WorkflowExecutionTimedOut
            | EventType::WorkflowExecutionCanceled
            | EventType::WorkflowExecutionTerminated
            | EventType::WorkflowExecutionContinuedAsNew
    )
}
