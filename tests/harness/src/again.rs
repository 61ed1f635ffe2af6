//! Work that comes to a version again: workflows that a person resets, or moves to it.

use anyhow::{Context as _, Result};
use prost_wkt_types::FieldMask;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest as _;
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion;
use temporalio_common::protos::temporal::api::enums::v1::{EventType, ResetReapplyExcludeType};
use temporalio_common::protos::temporal::api::workflow::v1::versioning_override::{
    Override, PinnedOverride, PinnedOverrideBehavior,
};
use temporalio_common::protos::temporal::api::workflow::v1::{
    VersioningOverride, WorkflowExecutionOptions,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    ResetWorkflowExecutionRequest, UpdateWorkflowExecutionOptionsRequest,
};

use crate::temporal::Temporal;

/// The latest run.
fn execution(id: &str) -> WorkflowExecution {
    WorkflowExecution {
        workflow_id: id.to_owned(),
        run_id: String::new(),
    }
}

impl Temporal {
    /// Resets a workflow to a workflow task, counted from 1, as a person does in the Temporal UI. Signals that
    /// came after it are left out.
    pub async fn reset(&self, namespace: &str, id: &str, task: usize) -> Result<()> {
        let history = self.history(namespace, id).await?;
        let mut tasks = history
            .iter()
            .filter(|event| event.event_type() == EventType::WorkflowTaskCompleted);
        let to = tasks
            .nth(task.saturating_sub(1))
            .context("no such task was completed")?;
        let found = self
            .list(namespace, &format!("WorkflowId = '{id}'"))
            .await?;
        let run = found.first().and_then(|info| info.execution.clone());
        let request = ResetWorkflowExecutionRequest {
            namespace: namespace.to_owned(),
            workflow_execution: run,
            reason: "by hand".to_owned(),
            workflow_task_finish_event_id: to.event_id,
            request_id: format!("reset {id} to {}", to.event_id),
            reset_reapply_exclude_types: vec![ResetReapplyExcludeType::Signal.into()],
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::reset_workflow_execution(&mut connection, request.into_request()).await?;
        Ok(())
    }

    /// Moves an open workflow to a version, given as Worker Deployment and build id, as a person does with
    /// `temporal workflow update-options`.
    pub async fn move_to(
        &self,
        namespace: &str,
        id: &str,
        (deployment, build_id): (&str, &str),
    ) -> Result<()> {
        let pinned = PinnedOverride {
            behavior: PinnedOverrideBehavior::Pinned.into(),
            version: Some(WorkerDeploymentVersion {
                deployment_name: deployment.to_owned(),
                build_id: build_id.to_owned(),
            }),
        };
        let request = UpdateWorkflowExecutionOptionsRequest {
            namespace: namespace.to_owned(),
            workflow_execution: Some(execution(id)),
            workflow_execution_options: Some(WorkflowExecutionOptions {
                versioning_override: Some(VersioningOverride {
                    r#override: Some(Override::Pinned(pinned)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["versioning_override".to_owned()],
            }),
            identity: "tests".to_owned(),
        };
        let mut connection = self.connection.clone();
        WorkflowService::update_workflow_execution_options(&mut connection, request.into_request())
            .await?;
        Ok(())
    }
}
