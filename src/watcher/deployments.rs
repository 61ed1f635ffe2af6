//! What a sweep asks about the Worker Deployments of one Temporal namespace.

use std::collections::BTreeMap;

use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Status};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkerDeploymentRequest, ListWorkerDeploymentsRequest,
};

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

/// Current build id of every Worker Deployment in a Temporal namespace.
pub(super) async fn routing(
    link: &Link,
    namespace: &str,
) -> Result<BTreeMap<String, Option<String>>, Status> {
    let mut found = BTreeMap::new();
    let mut next_page_token = Vec::new();
    loop {
        let request = ListWorkerDeploymentsRequest {
            namespace: namespace.to_owned(),
            page_size: 1000,
            next_page_token,
            ..Default::default()
        };
        let mut connection = link.connection.clone();
        let page =
            WorkflowService::list_worker_deployments(&mut connection, request.into_request())
                .await?
                .into_inner();
        for deployment in page.worker_deployments {
            let current = deployment
                .routing_config
                .and_then(|routing| routing.current_deployment_version)
                .map(|version| version.build_id);
            found.insert(deployment.name, current);
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        next_page_token = page.next_page_token;
    }
}
