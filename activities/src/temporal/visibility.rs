//! Executions by query: how many there are, and which.

use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    CountWorkflowExecutionsRequest, CountWorkflowExecutionsResponse, ListWorkflowExecutionsRequest,
};

use super::call;
use crate::context::Context;
use crate::error::Result;

/// Counts executions that match a query.
pub(crate) async fn count(context: &Context, namespace: &str, query: &str) -> Result<u64> {
    let counted = groups(context, namespace, query).await?;
    Ok(u64::try_from(counted.count).unwrap_or_default())
}

/// The same for a query that groups them.
pub(crate) async fn groups(
    context: &Context,
    namespace: &str,
    query: &str,
) -> Result<CountWorkflowExecutionsResponse> {
    context.read_turn(namespace).await;
    let request = CountWorkflowExecutionsRequest {
        namespace: namespace.to_owned(),
        query: query.to_owned(),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    call(
        "count executions",
        WorkflowService::count_workflow_executions(&mut connection, request.into_request()),
    )
    .await
}

/// One page of executions that match a query, and the token of the next.
pub(crate) async fn page(
    context: &Context,
    namespace: &str,
    query: &str,
    size: i32,
    token: Vec<u8>,
) -> Result<(Vec<WorkflowExecutionInfo>, Vec<u8>)> {
    context.read_turn(namespace).await;
    let request = ListWorkflowExecutionsRequest {
        namespace: namespace.to_owned(),
        page_size: size,
        next_page_token: token,
        query: query.to_owned(),
    };
    let mut connection = context.connection.clone();
    let response = call(
        "list executions",
        WorkflowService::list_workflow_executions(&mut connection, request.into_request()),
    )
    .await?;
    Ok((response.executions, response.next_page_token))
}

/// Some executions that match a query, at most `size`.
pub(crate) async fn some(
    context: &Context,
    namespace: &str,
    query: &str,
    size: i32,
) -> Result<Vec<WorkflowExecution>> {
    let (found, _) = page(context, namespace, query, size, Vec::new()).await?;
    Ok(found
        .into_iter()
        .filter_map(|info| info.execution)
        .collect())
}
