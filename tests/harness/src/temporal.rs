//! What a person would do with a Temporal client.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use process_example_worker::workflows::{
    Quick, QuickInput, QuickOutput, WaitForSignal, WaitForSignalInput, WaitForSignalOutput,
};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest};
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, Url, VersioningOverride,
    WorkflowGetResultOptions, WorkflowStartOptions,
};
use temporalio_common::protos::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, ListWorkflowExecutionsRequest, RegisterNamespaceRequest,
    RequestCancelWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
};
use temporalio_common::worker::WorkerDeploymentVersion;

use crate::SOON;
use crate::wait::until;

/// A connection with the calls that tests make.
#[derive(Clone)]
pub struct Temporal {
    /// For everything else.
    pub connection: Connection,
}

#[allow(clippy::unnecessary_wraps, reason = "the field of every request")]
pub(crate) fn execution(id: &str) -> Option<WorkflowExecution> {
    Some(WorkflowExecution {
        workflow_id: id.to_owned(),
        run_id: String::new(),
    })
}

fn pinned_to((deployment_name, build_id): (&str, &str)) -> VersioningOverride {
    VersioningOverride::Pinned(
        WorkerDeploymentVersion::builder()
            .deployment_name(deployment_name)
            .build_id(build_id)
            .build(),
    )
}

impl Temporal {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<Self> {
        let url = Url::parse(&format!("http://{address}"))?;
        let options = ConnectionOptions::new(url)
            .identity("tests".to_owned())
            .build();
        Ok(Self {
            connection: Connection::connect(options).await?,
        })
    }

    /// Registers a Temporal namespace and waits until it can be used.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let request = RegisterNamespaceRequest {
            namespace: name.to_owned(),
            workflow_execution_retention_period: Some(prost_wkt_types::Duration {
                seconds: 24 * 3600,
                nanos: 0,
            }),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        match WorkflowService::register_namespace(&mut connection, request.into_request()).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            Err(status) => return Err(status.into()),
        }
        // A namespace is known to all parts of the server only after their caches have been refreshed.
        until(
            &format!("Temporal namespace {name} is usable"),
            SOON,
            async || {
                self.list(name, "ExecutionStatus = 'Running'")
                    .await
                    .map(|_| ())
            },
        )
        .await
    }

    /// A client in a Temporal namespace.
    pub fn client(&self, namespace: &str) -> Result<Client> {
        Ok(Client::new(
            self.connection.clone(),
            ClientOptions::new(namespace).build(),
        )?)
    }

    /// Runs a `Quick` workflow and waits for its answer.
    pub async fn quick(&self, namespace: &str, queue: &str, id: &str) -> Result<QuickOutput> {
        let client = self.client(namespace)?;
        let options = WorkflowStartOptions::new(queue, id).build();
        let handle = client
            .start_workflow(Quick::run, QuickInput::default().into(), options)
            .await?;
        let result = handle.get_result(WorkflowGetResultOptions::default());
        Ok(tokio::time::timeout(SOON, result)
            .await
            .context("Quick gave no answer in time")??)
    }

    /// Starts a workflow that stays open until it is told to finish.
    pub async fn start_waiting(&self, namespace: &str, queue: &str, id: &str) -> Result<()> {
        self.start_waiting_as(namespace, queue, id, false, None)
            .await
    }

    /// The same; one that stays open when it is cancelled, or that is pinned to a version, given as
    /// Worker Deployment and build id.
    pub async fn start_waiting_as(
        &self,
        namespace: &str,
        queue: &str,
        id: &str,
        ignore_cancel: bool,
        pinned: Option<(&str, &str)>,
    ) -> Result<()> {
        let client = self.client(namespace)?;
        let options = WorkflowStartOptions::new(queue, id)
            .maybe_versioning_override(pinned.map(pinned_to))
            .build();
        let input = WaitForSignalInput { ignore_cancel };
        client
            .start_workflow(WaitForSignal::run, input.into(), options)
            .await?;
        // Pinned to a version once its first task is done.
        self.wait_taken(namespace, id).await
    }

    /// Starts a workflow on a version, given as Worker Deployment and build id, that nobody takes.
    pub async fn start_pinned(
        &self,
        namespace: &str,
        queue: &str,
        id: &str,
        version: (&str, &str),
    ) -> Result<()> {
        self.start_untaken(namespace, queue, id, Some(version))
            .await
    }

    /// Starts a workflow that stays open, and does not wait until a worker takes it.
    pub async fn start_untaken(
        &self,
        namespace: &str,
        queue: &str,
        id: &str,
        version: Option<(&str, &str)>,
    ) -> Result<()> {
        let client = self.client(namespace)?;
        let options = WorkflowStartOptions::new(queue, id)
            .maybe_versioning_override(version.map(pinned_to))
            .build();
        let input = WaitForSignalInput {
            ignore_cancel: false,
        };
        client
            .start_workflow(WaitForSignal::run, input.into(), options)
            .await?;
        Ok(())
    }

    /// Tells it to finish and waits for its answer.
    pub async fn finish_waiting(&self, namespace: &str, id: &str) -> Result<WaitForSignalOutput> {
        self.signal(
            namespace,
            id,
            "finish",
            vec![json_payload(&serde_json::json!({}))],
        )
        .await?;
        let client = self.client(namespace)?;
        let handle = client.get_workflow_handle::<WaitForSignal>(id);
        let result = handle.get_result(WorkflowGetResultOptions::default());
        Ok(tokio::time::timeout(SOON, result)
            .await
            .context("no answer in time")??)
    }

    /// Sends any signal with any payloads.
    pub async fn signal(
        &self,
        namespace: &str,
        id: &str,
        name: &str,
        payloads: Vec<Payload>,
    ) -> Result<()> {
        let request = SignalWorkflowExecutionRequest {
            namespace: namespace.to_owned(),
            workflow_execution: execution(id),
            signal_name: name.to_owned(),
            input: Some(Payloads { payloads }),
            identity: "tests".to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::signal_workflow_execution(&mut connection, request.into_request()).await?;
        Ok(())
    }

    /// The order of a person to end a drain, as a signal at the drain: Terminate.
    pub async fn force_drain(&self, namespace: &str, drain: &str, reason: &str) -> Result<()> {
        let order = serde_json::json!({ "action": "Terminate", "actor": "ada", "reason": reason });
        self.signal(
            namespace,
            drain,
            "forceCancelDrain",
            vec![json_payload(&order)],
        )
        .await
    }

    /// Terminates a workflow, as a person does in the Temporal UI.
    pub async fn terminate(&self, namespace: &str, id: &str) -> Result<()> {
        let request = TerminateWorkflowExecutionRequest {
            namespace: namespace.to_owned(),
            workflow_execution: execution(id),
            reason: "by hand".to_owned(),
            identity: "tests".to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::terminate_workflow_execution(&mut connection, request.into_request())
            .await?;
        Ok(())
    }

    /// Requests cancellation of a workflow, as a person does in the Temporal UI.
    pub async fn cancel(&self, namespace: &str, id: &str) -> Result<()> {
        let request = RequestCancelWorkflowExecutionRequest {
            namespace: namespace.to_owned(),
            workflow_execution: execution(id),
            identity: "tests".to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::request_cancel_workflow_execution(&mut connection, request.into_request())
            .await?;
        Ok(())
    }

    /// The whole history of the latest run of a workflow.
    pub async fn history(&self, namespace: &str, id: &str) -> Result<Vec<HistoryEvent>> {
        let latest = WorkflowExecution {
            workflow_id: id.to_owned(),
            run_id: String::new(),
        };
        self.history_of(namespace, latest).await
    }

    /// The whole history of one run.
    pub async fn history_of(
        &self,
        namespace: &str,
        run: WorkflowExecution,
    ) -> Result<Vec<HistoryEvent>> {
        let mut events = Vec::new();
        let mut next_page_token = Vec::new();
        loop {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: namespace.to_owned(),
                execution: Some(run.clone()),
                next_page_token,
                ..Default::default()
            };
            let mut connection = self.connection.clone();
            let page = WorkflowService::get_workflow_execution_history(
                &mut connection,
                request.into_request(),
            )
            .await?
            .into_inner();
            events.extend(
                page.history
                    .map(|history| history.events)
                    .unwrap_or_default(),
            );
            if page.next_page_token.is_empty() {
                return Ok(events);
            }
            next_page_token = page.next_page_token;
        }
    }

    /// Workflows found by a query.
    pub async fn list(&self, namespace: &str, query: &str) -> Result<Vec<WorkflowExecutionInfo>> {
        let request = ListWorkflowExecutionsRequest {
            namespace: namespace.to_owned(),
            query: query.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        let page =
            WorkflowService::list_workflow_executions(&mut connection, request.into_request())
                .await?
                .into_inner();
        Ok(page.executions)
    }

    /// Waits until a workflow is closed.
    pub async fn wait_closed(&self, namespace: &str, id: &str, within: Duration) -> Result<()> {
        until(&format!("{id} is closed"), within, async || {
            let open = self
                .list(
                    namespace,
                    &format!("WorkflowId = '{id}' AND ExecutionStatus = 'Running'"),
                )
                .await?;
            anyhow::ensure!(open.is_empty(), "open");
            Ok(())
        })
        .await
    }
}

/// One JSON payload.
pub fn json_payload(value: &serde_json::Value) -> Payload {
    Payload {
        metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
        data: value.to_string().into_bytes(),
        ..Default::default()
    }
}

/// When something was written into a history, by the server's clock.
#[must_use]
pub fn written_at(event: &HistoryEvent) -> Option<jiff::Timestamp> {
    let at = event.event_time.as_ref()?;
    jiff::Timestamp::new(at.seconds, at.nanos).ok()
}

/// When the timers of a history went off, by the server's clock.
#[must_use]
pub fn timers_fired(events: &[HistoryEvent]) -> Vec<jiff::Timestamp> {
    let fired = events
        .iter()
        .filter(|event| event.event_type() == EventType::TimerFired);
    fired.filter_map(written_at).collect()
}

/// How many events of each type a history has.
pub fn counts(events: &[HistoryEvent]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts
            .entry(event.event_type().as_str_name().to_owned())
            .or_default() += 1;
    }
    counts
}
