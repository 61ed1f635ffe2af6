//! Executions of a new version that run out of time.

use anyhow::{Result, ensure};
use process_operator_harness::{Env, Scene, condition};
use serde_json::json;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest as _;
use temporalio_common::protos::temporal::api::common::v1::WorkflowType;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;

use crate::support::{at_step, canary, change, reason, routed};

/// Enough for some of them to go to the new version, which takes most.
const STARTS: usize = 8;
/// How long each may last: a worker has taken it by then.
const SECONDS: i64 = 3;

/// Starts a workflow that nobody ends.
async fn start(env: &Env, id: &str) -> Result<()> {
    let request = StartWorkflowExecutionRequest {
        namespace: env.apps.clone(),
        workflow_id: id.to_owned(),
        workflow_type: Some(WorkflowType {
            name: "WaitForSignal".to_owned(),
        }),
        task_queue: Some(TaskQueue {
            name: "l2o-tq".to_owned(),
            ..TaskQueue::default()
        }),
        workflow_execution_timeout: Some(prost_wkt_types::Duration {
            seconds: SECONDS,
            nanos: 0,
        }),
        request_id: id.to_owned(),
        ..Default::default()
    };
    let mut connection = env.temporal.connection.clone();
    WorkflowService::start_workflow_execution(&mut connection, request.into_request()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_that_run_out_of_time_count_as_failed() -> Result<()> {
    let (scene, _) = Scene::settled("timeouts").await?;
    let env = &scene.env;
    let mut policy = canary(&json!([{ "weight": 95, "pause": {} }]));
    policy["analysis"] =
        json!({ "minWorkflows": 1, "maxFailurePercent": 50, "intervalSeconds": 1 });
    env.patch("l2o", &change("v2", &[], &policy)).await?;
    at_step(env, 1).await?;
    for n in 0..STARTS {
        start(env, &format!("late-{n}")).await?;
    }
    let aborted = reason(env, "Stalled", "AnalysisFailed").await?;
    let message = condition(&aborted, "Degraded").2;
    ensure!(
        message.contains("closed executions failed (at most 50 % may)"),
        "{message}"
    );
    routed(env, "v1", "", 0.0).await?;
    let closed = format!(
        "TemporalWorkerDeploymentVersion STARTS_WITH '{}/l2o:v2-' AND ExecutionStatus != 'Running'",
        env.namespace
    );
    let closed = env.temporal.list(&env.apps, &closed).await?;
    let ended: Vec<_> = closed.iter().map(WorkflowExecutionInfo::status).collect();
    let timed_out = |status: &WorkflowExecutionStatus| *status == WorkflowExecutionStatus::TimedOut;
    ensure!(
        !ended.is_empty() && ended.iter().all(timed_out),
        "nothing else has failed: {ended:?}"
    );
    scene.finish().await
}
