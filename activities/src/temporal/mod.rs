//! Calls to Temporal: Worker Deployments, task queues, visibility.

pub(crate) mod executions;
pub(crate) mod lifecycle;
pub mod routing;
pub mod versions;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{ProcessKey, Routing, RoutingState, VersionState};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{self, IntoRequest};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentInfo;
use temporalio_common::protos::temporal::api::enums::v1::WorkerDeploymentVersionStatus;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkerDeploymentRequest, ListWorkflowExecutionsRequest,
};

use crate::context::Context;
use crate::error::{Fault, Result};

/// How long one call may take; the client retries within it.
const CALL: std::time::Duration = std::time::Duration::from_secs(8);

/// Gives a call its time limit and its category.
pub(crate) async fn call<T>(
    what: &str,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(CALL, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Fault::from(status).about(what)),
        Err(_) => Err(Fault::new(
            ErrorCategory::TemporalUnavailable,
            format!("{what}: no answer from Temporal in {} s", CALL.as_secs()),
        )),
    }
}

/// Reads a Worker Deployment; `None` when the server has no record of it.
pub(crate) async fn describe(
    context: &Context,
    temporal_namespace: &str,
    deployment: &str,
) -> Result<Option<(WorkerDeploymentInfo, Vec<u8>)>> {
    context.read_turn(temporal_namespace).await;
    let request = DescribeWorkerDeploymentRequest {
        namespace: temporal_namespace.to_owned(),
        deployment_name: deployment.to_owned(),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let answer = call(
        "read Worker Deployment",
        WorkflowService::describe_worker_deployment(&mut connection, request.into_request()),
    )
    .await;
    match answer {
        Ok(response) => Ok(response
            .worker_deployment_info
            .map(|info| (info, response.conflict_token))),
        Err(fault) if fault.category == ErrorCategory::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The routing of a Process in the plan's words.
pub(crate) async fn routing(
    context: &Context,
    key: &ProcessKey,
    temporal_namespace: &str,
) -> Routing {
    match describe(context, temporal_namespace, &key.worker_deployment()).await {
        Ok(None) => Routing {
            state: RoutingState::Known,
            ..Routing::default()
        },
        Ok(Some((info, _))) => Routing {
            state: RoutingState::Known,
            foreign_manager: foreign_manager(context, &info.manager_identity),
            current: info
                .routing_config
                .as_ref()
                .and_then(|routing| routing.current_deployment_version.as_ref())
                .map(|version| version.build_id.clone()),
            ramping: info
                .routing_config
                .as_ref()
                .and_then(|routing| routing.ramping_deployment_version.as_ref())
                .map(|version| version.build_id.clone()),
            percent: percent(&info),
            served: info
                .version_summaries
                .iter()
                .filter_map(|summary| {
                    let version = summary.deployment_version.as_ref()?;
                    let at = summary.last_current_time.as_ref()?;
                    Some((version.build_id.clone(), timestamp(at)))
                })
                .collect(),
            versions: info
                .version_summaries
                .iter()
                .filter_map(|summary| {
                    let version = summary.deployment_version.as_ref()?;
                    Some((version.build_id.clone(), version_state(summary.status())))
                })
                .collect(),
            message: String::new(),
        },
        Err(fault) => Routing {
            state: match fault.category {
                ErrorCategory::NamespaceNotFound => RoutingState::NamespaceNotFound,
                ErrorCategory::Forbidden => RoutingState::Forbidden,
                _ => RoutingState::Unknown,
            },
            message: fault.message,
            ..Routing::default()
        },
    }
}

/// Percentages are whole numbers wherever the operator sets them.
#[allow(clippy::cast_possible_truncation, reason = "0 to 100")]
fn percent(info: &WorkerDeploymentInfo) -> i32 {
    routing::shares(info).percent.round() as i32
}

fn timestamp(at: &prost_wkt_types::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::new(at.seconds, at.nanos).unwrap_or_default()
}

/// Somebody who is neither us nor a predecessor of the same name in this cluster.
pub(crate) fn foreign_manager(context: &Context, manager: &str) -> Option<String> {
    let ours = context.manager_identity("");
    (!manager.is_empty() && !manager.starts_with(&ours)).then(|| manager.to_owned())
}

pub(crate) fn version_state(status: WorkerDeploymentVersionStatus) -> VersionState {
    match status {
        WorkerDeploymentVersionStatus::Created => VersionState::Created,
        WorkerDeploymentVersionStatus::Inactive => VersionState::Inactive,
        WorkerDeploymentVersionStatus::Current => VersionState::Current,
        WorkerDeploymentVersionStatus::Ramping => VersionState::Ramping,
        WorkerDeploymentVersionStatus::Draining => VersionState::Draining,
        WorkerDeploymentVersionStatus::Drained => VersionState::Drained,
        WorkerDeploymentVersionStatus::Unspecified => VersionState::Unknown,
    }
}

/// Ids of open rollouts and drains of a Process.
pub(crate) async fn open_children(context: &Context, key: &ProcessKey) -> Result<Vec<String>> {
    let query = format!(
        "ExecutionStatus = 'Running' AND (WorkflowId STARTS_WITH 'rollout/{key}/' OR WorkflowId STARTS_WITH 'drain/{key}/')"
    );
    let request = ListWorkflowExecutionsRequest {
        namespace: context.control_namespace.clone(),
        page_size: 100,
        query,
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let response = call(
        "list open children",
        WorkflowService::list_workflow_executions(&mut connection, request.into_request()),
    )
    .await?;
    Ok(response
        .executions
        .into_iter()
        .filter_map(|execution| execution.execution.map(|execution| execution.workflow_id))
        .collect())
}
