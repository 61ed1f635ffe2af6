//! What a sweep asks about the Worker Deployments of one Temporal namespace.

use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Status};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeWorkerDeploymentRequest;

use super::Link;

/// Who manages a Worker Deployment; empty when nobody does.
pub(super) async fn manager(
    link: &Link,
    namespace: &str,
    deployment: &str,
) -> Result<String, Status> {
    let request = DescribeWorkerDeploymentRequest {
        namespace: namespace.to_owned(),
        deployment_name: deployment.to_owned(),
        ..Default::default()
    };
    let mut connection = link.connection.clone();
    let answer =
        WorkflowService::describe_worker_deployment(&mut connection, request.into_request()).await;
    match answer {
        Ok(found) => Ok(found
            .into_inner()
            .worker_deployment_info
            .map(|info| info.manager_identity)
            .unwrap_or_default()),
        Err(status) if status.code() == Code::NotFound => Ok(String::new()),
        Err(status) => Err(status),
    }
}

/// A mark when a Worker Deployment may be read.
pub(super) async fn allowed(
    link: &Link,
    namespace: &str,
    deployment: &str,
) -> Result<Option<String>, Status> {
    match manager(link, namespace, deployment).await {
        Ok(_) => Ok(Some(String::new())),
        Err(status) if status.code() == Code::PermissionDenied => Ok(None),
        Err(status) => Err(status),
    }
}
