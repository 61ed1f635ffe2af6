//! Records of versions, and who polls.

use std::collections::BTreeSet;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{ProcessKey, VersionState};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion;
use temporalio_common::protos::temporal::api::enums::v1::{TaskQueueType, WorkerVersioningMode};
use temporalio_common::protos::temporal::api::taskqueue::v1::{PollerInfo, TaskQueue};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    CreateWorkerDeploymentRequest, CreateWorkerDeploymentVersionRequest,
    DeleteWorkerDeploymentRequest, DeleteWorkerDeploymentVersionRequest, DescribeTaskQueueRequest,
    DescribeTaskQueueResponse, DescribeWorkerDeploymentVersionRequest,
};

use super::shares::{Shares, build_id};
use super::{call, unless_gone, version_state};
use crate::budget::Turn;
use crate::build::hash;
use crate::context::Context;
use crate::error::Result;

/// One version's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its state.
    pub(crate) state: VersionState,
    /// Task queues it polls or polled, each with the type of its tasks.
    pub(crate) queues: BTreeSet<(String, TaskQueueType)>,
}

/// What a version has been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// It was routed to at some time.
    pub(crate) served: bool,
    /// When it was Current last, if it ever was.
    pub(crate) last_current: Option<jiff::Timestamp>,
}

/// Reads a version's past. The server tells it only in the summaries of the Worker Deployment, not
/// with the version itself (seen with 1.32).
pub(crate) async fn past(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
) -> Result<Past> {
    let Some((info, _)) = super::describe(context, namespace, &key.worker_deployment()).await?
    else {
        return Ok(Past::default());
    };
    let summary = info.version_summaries.iter().find(|summary| {
        let version = summary.deployment_version.as_ref();
        version.is_some_and(|version| version.build_id == build_id)
    });
    Ok(summary.map_or_else(Past::default, |summary| Past {
        served: summary.first_activation_time.is_some(),
        last_current: summary.last_current_time.as_ref().map(super::timestamp),
    }))
}

fn version(key: &ProcessKey, build_id: &str) -> WorkerDeploymentVersion {
    WorkerDeploymentVersion {
        build_id: build_id.to_owned(),
        deployment_name: key.worker_deployment(),
    }
}

/// Reads a version's record, as waits do again and again; `None` when there is none.
pub(crate) async fn record(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
) -> Result<Option<Record>> {
    context.poll_turn(namespace).await;
    let request = DescribeWorkerDeploymentVersionRequest {
        namespace: namespace.to_owned(),
        deployment_version: Some(version(key, build_id)),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let answer = call(
        "read version",
        WorkflowService::describe_worker_deployment_version(
            &mut connection,
            request.into_request(),
        ),
    )
    .await;
    let found = unless_gone(answer)?.and_then(|found| found.worker_deployment_version_info);
    Ok(found.map(|info| Record {
        state: version_state(info.status()),
        queues: info
            .task_queue_infos
            .iter()
            .map(|queue| (queue.name.clone(), queue.r#type()))
            .collect(),
    }))
}

/// Why the server takes no record of a version whose workers poll; `None` when it would. What polls
/// is registered by the server itself, and a limit that it has reached is told to the worker only.
/// So it is asked to register the version, which it would do anyhow.
pub(crate) async fn full(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
) -> Result<Option<String>> {
    let deployment = key.worker_deployment();
    let known = super::describe(context, namespace, &deployment).await?;
    let request_id = hash::prefix(format!("{key}/{build_id}").as_bytes(), 16);
    let identity = context.manager_identity(&key.uid);
    // Past the client's own retries: it would ask again and again what is full.
    let mut service = context.connection.workflow_service();
    let answer = if known.is_some() {
        let request = CreateWorkerDeploymentVersionRequest {
            namespace: namespace.to_owned(),
            deployment_version: Some(version(key, build_id)),
            identity,
            request_id,
            ..Default::default()
        };
        let asked = service.create_worker_deployment_version(request.into_request());
        call("register version", asked).await.map(|_| ())
    } else {
        let request = CreateWorkerDeploymentRequest {
            namespace: namespace.to_owned(),
            deployment_name: deployment,
            identity,
            request_id,
        };
        let asked = service.create_worker_deployment(request.into_request());
        call("register Worker Deployment", asked).await.map(|_| ())
    };
    match answer {
        // The same status says that requests come too fast; only the words differ.
        Err(fault)
            if fault.category == ErrorCategory::RateLimited
                && fault.message.contains("maximum") =>
        {
            Ok(Some(fault.message))
        }
        // Registered meanwhile, or by an earlier question.
        Err(fault) if fault.category == ErrorCategory::Conflict => Ok(None),
        answer => answer.map(|()| None),
    }
}

/// Deletes a version's record. `Ok(false)` while the server still refuses, for pollers seen lately
/// or for running workflows. Its turn is waited for before: what it goes by is looked at after that.
pub(crate) async fn delete(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
    _turn: Turn,
) -> Result<bool> {
    let request = DeleteWorkerDeploymentVersionRequest {
        namespace: namespace.to_owned(),
        deployment_version: Some(version(key, build_id)),
        identity: context.manager_identity(&key.uid),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let answer = call(
        "delete version record",
        WorkflowService::delete_worker_deployment_version(&mut connection, request.into_request()),
    )
    .await;
    deleted(answer)
}

/// Deletes the Worker Deployment once it has no versions. `Ok(false)` while the server refuses.
pub(crate) async fn delete_deployment(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
) -> Result<bool> {
    let request = DeleteWorkerDeploymentRequest {
        namespace: namespace.to_owned(),
        deployment_name: key.worker_deployment(),
        identity: context.manager_identity(&key.uid),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let answer = call(
        "delete Worker Deployment",
        WorkflowService::delete_worker_deployment(&mut connection, request.into_request()),
    )
    .await;
    deleted(answer)
}

/// Gone already is as good as deleted; a failed precondition is a refusal for now.
fn deleted<T>(answer: Result<T>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(fault) if fault.category == ErrorCategory::NotFound => Ok(true),
        Err(fault) if fault.category == ErrorCategory::Conflict => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// The routing as a task queue knows it: for workflow tasks, and for activity tasks where versions
/// poll those too.
pub(crate) async fn routing_of_queue(
    context: &Context,
    namespace: &str,
    queue: &str,
) -> Result<Vec<Shares>> {
    context.queue_turn(namespace).await;
    let (workflows, activities) = tokio::try_join!(
        task_queue(context, namespace, queue, TaskQueueType::Workflow),
        task_queue(context, namespace, queue, TaskQueueType::Activity),
    )?;
    let shares = |response: DescribeTaskQueueResponse| {
        let known = response.versioning_info?;
        Some(Shares {
            current: build_id(known.current_deployment_version.as_ref()),
            ramping: build_id(known.ramping_deployment_version.as_ref()),
            percent: known.ramping_version_percentage,
        })
    };
    let mut known = vec![shares(workflows).unwrap_or_default()];
    known.extend(shares(activities).filter(|known| *known != Shares::default()));
    Ok(known)
}

/// Who was seen to poll for workflow tasks lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pollers {
    /// A worker of the version that is asked for.
    pub(crate) of_version: bool,
    /// One that does not say which version it is.
    pub(crate) unversioned: bool,
}

/// Who polls a queue, beside a version of a Process.
pub(crate) async fn pollers(
    context: &Context,
    (namespace, queue): (&str, &str),
    key: &ProcessKey,
    build_id: &str,
) -> Result<Pollers> {
    let pollers = polling(context, namespace, queue).await?;
    let deployment = key.worker_deployment();
    let is_of_version = |poller: &PollerInfo| {
        let options = poller.deployment_options.as_ref();
        !is_unversioned(poller)
            && options.is_some_and(|options| {
                options.deployment_name == deployment && options.build_id == build_id
            })
    };
    Ok(Pollers {
        of_version: pollers.iter().any(is_of_version),
        unversioned: pollers.iter().any(is_unversioned),
    })
}

/// Pollers of workflow tasks on a queue that do not say which version they are.
pub(crate) async fn unversioned_pollers(
    context: &Context,
    namespace: &str,
    queue: &str,
) -> Result<usize> {
    let pollers = polling(context, namespace, queue).await?;
    let unversioned = pollers.iter().filter(|poller| is_unversioned(poller));
    Ok(unversioned.count())
}

async fn polling(context: &Context, namespace: &str, queue: &str) -> Result<Vec<PollerInfo>> {
    context.queue_turn(namespace).await;
    let response = task_queue(context, namespace, queue, TaskQueueType::Workflow).await?;
    Ok(response.pollers)
}

/// Reads one side of a task queue.
async fn task_queue(
    context: &Context,
    namespace: &str,
    queue: &str,
    side: TaskQueueType,
) -> Result<DescribeTaskQueueResponse> {
    describe_queue(context, namespace, queue, side, false).await
}

/// Reads one side of a task queue with its backlog, which is for the metrics: when nothing more urgent is to be read.
pub(super) async fn queue_with_stats(
    context: &Context,
    namespace: &str,
    queue: &str,
    side: TaskQueueType,
) -> Result<DescribeTaskQueueResponse> {
    context.poll_turn(namespace).await;
    describe_queue(context, namespace, queue, side, true).await
}

async fn describe_queue(
    context: &Context,
    namespace: &str,
    queue: &str,
    side: TaskQueueType,
    report_stats: bool,
) -> Result<DescribeTaskQueueResponse> {
    let request = DescribeTaskQueueRequest {
        namespace: namespace.to_owned(),
        task_queue: Some(TaskQueue {
            name: queue.to_owned(),
            ..Default::default()
        }),
        task_queue_type: side.into(),
        report_stats,
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    call(
        "read task queue",
        WorkflowService::describe_task_queue(&mut connection, request.into_request()),
    )
    .await
}

fn is_unversioned(poller: &PollerInfo) -> bool {
    poller
        .deployment_options
        .as_ref()
        .is_none_or(|options| options.worker_versioning_mode() != WorkerVersioningMode::Versioned)
}
