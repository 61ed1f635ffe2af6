//! The executions of a version: how they end, and whether their workflow tasks do.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use jiff::Timestamp;
use process_operator_crds::spec::Versioning;
use process_operator_workflows::contract::ProcessKey;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::coresdk::FromJsonPayloadExt;
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
};

use super::{call, unless_gone, visibility};
use crate::context::Context;
use crate::error::Result;

/// A workflow task that was tried so often fails for more than a restart of its worker.
const ATTEMPTS: i32 = 3;
/// Executions looked at one by one for each question.
const SAMPLE: i32 = 20;
/// Looked at side by side.
const AT_ONCE: usize = 4;

/// How executions of a version have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    /// With a result, or continued as new.
    pub(crate) completed: i64,
    /// With a failure, or by running out of time.
    pub(crate) failed: i64,
}

/// Where the executions of a version are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Executions {
    /// By the version that the server writes down.
    Version {
        deployment: String,
        build_id: String,
        task_queue: String,
    },
    /// By the queue that is the version's own.
    Queue(String),
}

impl Executions {
    /// Those of a version; `None` when they cannot be told from those of another.
    pub(crate) fn of(
        key: &ProcessKey,
        versioning: Versioning,
        build_id: &str,
        task_queue: &str,
    ) -> Option<Self> {
        match versioning {
            Versioning::WorkerVersioning => Some(Self::Version {
                deployment: key.worker_deployment(),
                build_id: build_id.to_owned(),
                task_queue: task_queue.to_owned(),
            }),
            Versioning::TaskQueuePerVersion => Some(Self::Queue(task_queue.to_owned())),
            Versioning::None => None,
        }
    }

    /// As a condition of a visibility query.
    fn condition(&self) -> String {
        match self {
            Self::Version {
                deployment,
                build_id,
                ..
            } => format!("TemporalWorkerDeploymentVersion = '{deployment}:{build_id}'"),
            Self::Queue(queue) => format!("TaskQueue = '{queue}'"),
        }
    }
}

/// What of them has closed since a moment. Gates are judged by their own rules: one that fails may be tried again.
fn closed_since(of: &Executions, key: &ProcessKey, since: Timestamp) -> String {
    format!(
        "{} AND WorkflowId NOT STARTS_WITH 'gate/{key}/' AND ExecutionStatus != 'Running' \
         AND CloseTime >= '{since}'",
        of.condition()
    )
}

/// Counts what has closed since a moment, but for the gates of the Process. Cancelled and terminated executions were
/// ended by somebody and say nothing about the version.
pub(crate) async fn closed(
    context: &Context,
    namespace: &str,
    of: &Executions,
    key: &ProcessKey,
    since: Timestamp,
) -> Result<Closed> {
    let query = format!("{} GROUP BY ExecutionStatus", closed_since(of, key, since));
    let response = visibility::groups(context, namespace, &query).await?;
    let mut by_status: BTreeMap<String, i64> = BTreeMap::new();
    for group in response.groups {
        let status = group.group_values.first();
        if let Some(Ok(status)) = status.map(String::from_json_payload) {
            by_status.insert(status, group.count);
        }
    }
    let of = |status: &str| by_status.get(status).copied().unwrap_or_default();
    Ok(Closed {
        completed: of("Completed") + of("ContinuedAsNew"),
        failed: of("Failed") + of("TimedOut"),
    })
}

/// Running executions whose workflow tasks fail again and again on this version, such as for
/// non-determinism or an unknown workflow type; their ids.
pub(crate) async fn troubled(
    context: &Context,
    namespace: &str,
    of: &Executions,
    since: Timestamp,
) -> Result<Vec<String>> {
    let on_it = format!("ExecutionStatus = 'Running' AND {}", of.condition());
    let queries = match of {
        Executions::Version {
            deployment,
            task_queue,
            ..
        } => vec![
            // On the version already.
            on_it,
            // On their way to it: the server writes the version with the first task that succeeds.
            format!(
                "ExecutionStatus = 'Running' AND TemporalWorkerDeployment = '{deployment}' \
                 AND TemporalReportedProblems IS NOT NULL"
            ),
            format!(
                "ExecutionStatus = 'Running' AND TaskQueue = '{task_queue}' AND StartTime >= '{since}' \
                 AND TemporalWorkerDeploymentVersion IS NULL"
            ),
        ],
        Executions::Queue(_) => vec![
            format!("{on_it} AND TemporalReportedProblems IS NOT NULL"),
            on_it,
        ],
    };
    let mut ids = std::collections::BTreeSet::new();
    for query in queries {
        let found = visibility::some(context, namespace, &query, SAMPLE).await?;
        ids.extend(found.into_iter().map(|run| (run.workflow_id, run.run_id)));
    }
    let looked = futures::stream::iter(ids)
        .map(|(workflow_id, run_id)| async move {
            let seen = describe(context, namespace, &workflow_id, &run_id).await?;
            let troubled = seen.is_some_and(|seen| fails_on(&seen, of));
            Ok(troubled.then_some(workflow_id))
        })
        .buffered(AT_ONCE)
        .collect::<Vec<Result<Option<String>>>>()
        .await;
    let found: Vec<Option<String>> = looked.into_iter().collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// `None` when it is gone.
pub(crate) async fn describe(
    context: &Context,
    namespace: &str,
    workflow_id: &str,
    run_id: &str,
) -> Result<Option<DescribeWorkflowExecutionResponse>> {
    let request = DescribeWorkflowExecutionRequest {
        namespace: namespace.to_owned(),
        execution: Some(WorkflowExecution {
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
        }),
    };
    let mut connection = context.connection.clone();
    let looked = call(
        "look at an execution",
        WorkflowService::describe_workflow_execution(&mut connection, request.into_request()),
    )
    .await;
    unless_gone(looked)
}

/// Its workflow task has failed several times, on this version.
fn fails_on(seen: &DescribeWorkflowExecutionResponse, of: &Executions) -> bool {
    let attempts = seen
        .pending_workflow_task
        .as_ref()
        .map_or(0, |task| task.attempt);
    let Executions::Version { build_id, .. } = of else {
        // Nobody else polls that queue.
        return attempts >= ATTEMPTS;
    };
    let versioning = seen
        .workflow_execution_info
        .as_ref()
        .and_then(|info| info.versioning_info.as_ref());
    // On its way to another version it is that version's code that fails.
    let on = versioning.and_then(|versioning| {
        versioning
            .version_transition
            .as_ref()
            .and_then(|transition| transition.deployment_version.as_ref())
            .or(versioning.deployment_version.as_ref())
    });
    attempts >= ATTEMPTS && on.is_some_and(|on| on.build_id == *build_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_of_the_process_are_no_evidence() {
        let key = ProcessKey {
            namespace: "shop".into(),
            name: "l2o".into(),
            uid: "u".into(),
        };
        let query = |versioning| {
            let of = Executions::of(&key, versioning, "v2", "q").expect("told apart");
            closed_since(&of, &key, Timestamp::UNIX_EPOCH)
        };
        let rest = "WorkflowId NOT STARTS_WITH 'gate/shop/l2o/u/' AND ExecutionStatus != 'Running' \
                    AND CloseTime >= '1970-01-01T00:00:00Z'";
        assert_eq!(
            query(Versioning::WorkerVersioning),
            format!("TemporalWorkerDeploymentVersion = 'shop/l2o:v2' AND {rest}")
        );
        assert_eq!(
            query(Versioning::TaskQueuePerVersion),
            format!("TaskQueue = 'q' AND {rest}")
        );
    }
}
