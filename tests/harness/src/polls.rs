//! Polls that stand in for those of workers.

use std::time::Duration;

use anyhow::Result;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest as _;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentOptions;
use temporalio_common::protos::temporal::api::enums::v1::{TaskQueueType, WorkerVersioningMode};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeTaskQueueRequest, PollWorkflowTaskQueueRequest,
};

use crate::SOON;
use crate::temporal::Temporal;
use crate::wait::until;

fn named(queue: &str) -> TaskQueue {
    TaskQueue {
        name: queue.to_owned(),
        ..Default::default()
    }
}

impl Temporal {
    /// Polls a queue of workflow tasks once, as a worker of a version does, until the server knows it.
    pub async fn poll_once(
        &self,
        namespace: &str,
        queue: &str,
        deployment: &str,
        build_id: &str,
    ) -> Result<()> {
        let version = WorkerDeploymentOptions {
            deployment_name: deployment.to_owned(),
            build_id: build_id.to_owned(),
            worker_versioning_mode: WorkerVersioningMode::Versioned.into(),
        };
        self.poll(namespace, queue, Some(version), Duration::from_secs(3))
            .await
    }

    /// Polls a queue of workflow tasks as a worker without Worker Versioning does, until the server tells
    /// of the poller, which it does for minutes after that.
    pub async fn poll_until_known(&self, namespace: &str, queue: &str) -> Result<()> {
        let known = until("the poller is known", SOON, async || {
            let request = DescribeTaskQueueRequest {
                namespace: namespace.to_owned(),
                task_queue: Some(named(queue)),
                task_queue_type: TaskQueueType::Workflow.into(),
                ..Default::default()
            };
            let mut connection = self.connection.clone();
            let found =
                WorkflowService::describe_task_queue(&mut connection, request.into_request());
            anyhow::ensure!(!found.await?.into_inner().pollers.is_empty(), "not yet");
            Ok(())
        });
        tokio::select! {
            known = known => known,
            ended = self.poll(namespace, queue, None, SOON) => ended,
        }
    }

    async fn poll(
        &self,
        namespace: &str,
        queue: &str,
        deployment_options: Option<WorkerDeploymentOptions>,
        within: Duration,
    ) -> Result<()> {
        let request = PollWorkflowTaskQueueRequest {
            namespace: namespace.to_owned(),
            task_queue: Some(named(queue)),
            identity: "tests".to_owned(),
            deployment_options,
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        let poll =
            WorkflowService::poll_workflow_task_queue(&mut connection, request.into_request());
        // The poll itself waits for a task that never comes; by then it is registered.
        let _ = tokio::time::timeout(within, poll).await;
        Ok(())
    }
}
