//! A workflow whose activity takes its time.

use anyhow::{Context as _, Result, ensure};
use process_example_worker::activities::Report;
use process_example_worker::workflows::{TimersAndActivity, TimersAndActivityInput};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_client::{WorkflowGetResultOptions, WorkflowStartOptions};
use temporalio_common::protos::temporal::api::enums::v1::PendingActivityState;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
};

use crate::SOON;
use crate::temporal::{Temporal, execution};
use crate::wait::until;

impl Temporal {
    /// Starts a workflow with an activity that works for so long, and waits until a worker is at it.
    pub async fn start_working(
        &self,
        namespace: &str,
        queue: &str,
        id: &str,
        activity_ms: u64,
    ) -> Result<()> {
        let input = TimersAndActivityInput {
            activity_ms,
            ..Default::default()
        };
        self.client(namespace)?
            .start_workflow(
                TimersAndActivity::run,
                input.into(),
                WorkflowStartOptions::new(queue, id).build(),
            )
            .await?;
        let what = format!("a worker is at the activity of {id}");
        until(&what, SOON, async || self.is_working(namespace, id).await).await
    }

    /// What the server says of the latest run of a workflow.
    ///
    /// # Errors
    /// It is not there, or the server gives no answer.
    pub async fn describe(
        &self,
        namespace: &str,
        id: &str,
    ) -> Result<DescribeWorkflowExecutionResponse> {
        let request = DescribeWorkflowExecutionRequest {
            namespace: namespace.to_owned(),
            execution: execution(id),
        };
        let mut connection = self.connection.clone();
        let described =
            WorkflowService::describe_workflow_execution(&mut connection, request.into_request())
                .await?;
        Ok(described.into_inner())
    }

    async fn is_working(&self, namespace: &str, id: &str) -> Result<()> {
        let found = self.describe(namespace, id).await?;
        let begun = |state| state == i32::from(PendingActivityState::Started);
        let activities = found.pending_activities;
        ensure!(
            activities.iter().any(|activity| begun(activity.state)),
            "{activities:?}"
        );
        Ok(())
    }

    /// What the activity said at its end.
    pub async fn wait_worked(&self, namespace: &str, id: &str) -> Result<Report> {
        let client = self.client(namespace)?;
        let handle = client.get_workflow_handle::<TimersAndActivity>(id);
        let result = handle.get_result(WorkflowGetResultOptions::default());
        let output = tokio::time::timeout(SOON, result).await;
        Ok(output.context("no answer in time")??.report)
    }
}
