//! Calls to Temporal: Worker Deployments, task queues, visibility.

pub(crate) mod chain;
pub(crate) mod executions;
pub(crate) mod lifecycle;
pub(crate) mod manager;
pub mod names;
pub(crate) mod open;
pub(crate) mod policy;
pub mod queues;
pub mod routing;
pub(crate) mod schedules;
pub(crate) mod shares;
pub mod versions;
pub(crate) mod visibility;

use std::collections::BTreeMap;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{ProcessKey, Routing, RoutingState, VersionState};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{self, IntoRequest};
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentInfo;
use temporalio_common::protos::temporal::api::deployment::v1::worker_deployment_info::WorkerDeploymentVersionSummary;
use temporalio_common::protos::temporal::api::enums::v1::{
    WorkerDeploymentVersionStatus, WorkflowExecutionStatus,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkerDeploymentRequest, ListWorkflowExecutionsRequest,
};

use crate::context::Context;
use crate::error::{Fault, Result};

/// How long one call may take; the client retries within it.
const CALL: std::time::Duration = std::time::Duration::from_secs(8);

/// An answer that takes longer waits for the server's own workflow to wake up.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(60);

/// Children asked about at once.
const DESCRIBES: usize = 8;

/// Gives a call its time limit and its category.
pub(crate) async fn call<T>(
    what: &str,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let asked = std::time::Instant::now();
    let answer = tokio::time::timeout(CALL, answer).await;
    let millis = asked.elapsed().as_millis();
    tracing::debug!(what, millis, "asked Temporal");
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Fault::from(status).about(what)),
        Err(_) => Err(Fault::new(
            ErrorCategory::TemporalUnavailable,
            format!("{what}: no answer from Temporal in {} s", CALL.as_secs()),
        )),
    }
}

/// `None` when it is not there, or not any more.
pub(crate) fn unless_gone<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.category == ErrorCategory::NotFound => Ok(None),
        Err(fault) => Err(fault),
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
    );
    let waking = async {
        tokio::time::sleep(PATIENCE).await;
        routing::wake(context, temporal_namespace, deployment).await;
        std::future::pending().await
    };
    let answer = tokio::select! {
        answer = answer => answer,
        answer = waking => answer,
    };
    Ok(unless_gone(answer)?.and_then(|found| {
        found
            .worker_deployment_info
            .map(|info| (info, found.conflict_token))
    }))
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
            served: by_version(&info, |summary| {
                summary.last_current_time.as_ref().map(timestamp)
            }),
            left: by_version(&info, left),
            versions: by_version(&info, |summary| Some(version_state(summary.status()))),
            ..Routing::default()
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

/// Something about each version of a Worker Deployment, by build id.
fn by_version<T>(
    info: &WorkerDeploymentInfo,
    what: impl Fn(&WorkerDeploymentVersionSummary) -> Option<T>,
) -> BTreeMap<String, T> {
    let summaries = info.version_summaries.iter();
    summaries
        .filter_map(|summary| {
            let version = summary.deployment_version.as_ref()?;
            Some((version.build_id.clone(), what(summary)?))
        })
        .collect()
}

/// When a version that is not routed to lost its traffic, or got work again after it had drained.
fn left(summary: &WorkerDeploymentVersionSummary) -> Option<jiff::Timestamp> {
    let left = summary.last_deactivation_time.as_ref().map(timestamp);
    let draining = summary
        .drainage_info
        .as_ref()
        .filter(|_| summary.status() == WorkerDeploymentVersionStatus::Draining)
        .and_then(|drainage| drainage.last_changed_time.as_ref())
        .map(timestamp);
    left.max(draining)
}

/// Percentages are whole numbers wherever the operator sets them.
#[allow(clippy::cast_possible_truncation, reason = "0 to 100")]
fn percent(info: &WorkerDeploymentInfo) -> i32 {
    shares::shares(info).percent.round() as i32
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

/// Ids of open rollouts and drains of a Process, in the order of the index.
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
    let listed = response
        .executions
        .into_iter()
        .filter_map(|execution| execution.execution)
        .collect();
    confirmed(listed, |execution| is_open(context, execution)).await
}

/// The index is behind: it lists children that have just closed. One of those would be waited for
/// and never report, so each is asked about itself.
async fn confirmed<F: Future<Output = Result<bool>>>(
    listed: Vec<WorkflowExecution>,
    is_open: impl Fn(WorkflowExecution) -> F,
) -> Result<Vec<String>> {
    let mut open = Vec::new();
    for some in listed.chunks(DESCRIBES) {
        let answers = futures::future::try_join_all(some.iter().cloned().map(&is_open)).await?;
        let answered = some.iter().zip(answers).filter(|(_, open)| *open);
        open.extend(answered.map(|(execution, _)| execution.workflow_id.clone()));
    }
    Ok(open)
}

/// What the server's own record of a workflow says; one that is gone is not open.
async fn is_open(context: &Context, child: WorkflowExecution) -> Result<bool> {
    let (id, run) = (&child.workflow_id, &child.run_id);
    let found = executions::describe(context, &context.control_namespace, id, run).await?;
    let info = found.and_then(|found| found.workflow_execution_info);
    Ok(info.is_some_and(|info| info.status() == WorkflowExecutionStatus::Running))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(id: &str) -> WorkflowExecution {
        WorkflowExecution {
            workflow_id: id.to_owned(),
            run_id: format!("run of {id}"),
        }
    }

    #[tokio::test]
    async fn listed_children_that_have_closed_are_not_adopted() {
        let listed = ["a", "b", "c"].map(child).to_vec();
        let open = confirmed(listed, async |child| {
            assert_eq!(child, self::child(&child.workflow_id), "this very run");
            Ok(child.workflow_id != "b")
        });
        assert_eq!(open.await, Ok(vec!["a".to_owned(), "c".to_owned()]));
    }

    #[tokio::test]
    async fn children_are_not_adopted_on_an_unsure_answer() {
        let away = Fault::new(ErrorCategory::TemporalUnavailable, "away");
        let open = confirmed(vec![child("a")], async |_| Err(away.clone()));
        assert_eq!(open.await, Err(away.clone()));
    }
}
