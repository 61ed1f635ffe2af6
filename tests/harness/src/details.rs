//! What a workflow shows as its current details.

use anyhow::{Context as _, Result};
use serde_json::Value;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::query::v1::WorkflowQuery;
use temporalio_common::protos::temporal::api::workflowservice::v1::QueryWorkflowRequest;

use crate::temporal::{Temporal, execution};

impl Temporal {
    /// The current details of a workflow, as the UI asks for them.
    pub async fn current_details(&self, namespace: &str, id: &str) -> Result<String> {
        let request = QueryWorkflowRequest {
            namespace: namespace.to_owned(),
            execution: execution(id),
            query: Some(WorkflowQuery {
                query_type: "__temporal_workflow_metadata".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        let answer =
            WorkflowService::query_workflow(&mut connection, request.into_request()).await?;
        let result = answer.into_inner().query_result.unwrap_or_default();
        let payload = result.payloads.first().context("no answer")?;
        let metadata: Value = serde_json::from_slice(&payload.data)?;
        let details = metadata["currentDetails"].as_str();
        Ok(details.unwrap_or_default().to_owned())
    }
}
