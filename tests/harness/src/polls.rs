//! Polls that stand in for those of workers.

use std::time::Duration;

use anyhow::Result;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest as _;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentOptions;
use temporalio_common::protos::temporal::api::enums::v1::WorkerVersioningMode;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::PollWorkflowTaskQueueRequest;

use crate::temporal::Temporal;

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

    /// Polls a queue of workflow tasks, as a worker without Worker Versioning does, for as long as something
    /// else is done.
    pub async fn while_polled<T>(
        &self,
        namespace: &str,
        queue: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        // The testbed's server forgets who polls after 5 s, also while the poll lasts.
        let anew = Duration::from_secs(2);
        let polls = async {
            loop {
                if let Err(error) = self.poll(namespace, queue, None, anew).await {
                    break error;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            done = work => done,
            error = polls => Err(error),
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
