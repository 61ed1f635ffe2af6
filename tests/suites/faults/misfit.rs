//! F29: a history that the operator's code does not replay, as after it was set back to an earlier release. Nothing that
//! the workflow looks after would go on, and no new try helps.

use anyhow::{Result, ensure};
use process_operator_harness::{Env, Temporal, json_payload, lifecycle_id, manifest, until};
use process_operator_workflows::contract::TYPE_LIFECYCLE;
use serde_json::json;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest as _;
use temporalio_common::protos::temporal::api::command::v1::command::Attributes;
use temporalio_common::protos::temporal::api::command::v1::{Command, StartTimerCommandAttributes};
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowType};
use temporalio_common::protos::temporal::api::enums::v1::{CommandType, WorkflowTaskFailedCause};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    PollWorkflowTaskQueueRequest, RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

const QUEUE: &str = "process-operator";

fn queue() -> TaskQueue {
    TaskQueue {
        name: QUEUE.to_owned(),
        ..TaskQueue::default()
    }
}

/// Starts a lifecycle as the operator does, and decides in its place what no release of it ever did: to sleep.
async fn asleep(
    temporal: &Temporal,
    namespace: &str,
    id: &str,
    input: &serde_json::Value,
) -> Result<()> {
    let mut connection = temporal.connection.clone();
    let start = StartWorkflowExecutionRequest {
        namespace: namespace.to_owned(),
        workflow_id: id.to_owned(),
        workflow_type: Some(WorkflowType {
            name: TYPE_LIFECYCLE.to_owned(),
        }),
        task_queue: Some(queue()),
        input: Some(Payloads {
            payloads: vec![json_payload(input)],
        }),
        request_id: id.to_owned(),
        ..Default::default()
    };
    WorkflowService::start_workflow_execution(&mut connection, start.into_request()).await?;
    let poll = PollWorkflowTaskQueueRequest {
        namespace: namespace.to_owned(),
        task_queue: Some(queue()),
        identity: "another release".to_owned(),
        ..Default::default()
    };
    let task = WorkflowService::poll_workflow_task_queue(&mut connection, poll.into_request())
        .await?
        .into_inner();
    ensure!(!task.task_token.is_empty(), "no task");
    let sleep = Command {
        command_type: CommandType::StartTimer.into(),
        attributes: Some(Attributes::StartTimerCommandAttributes(
            StartTimerCommandAttributes {
                timer_id: "1".to_owned(),
                start_to_fire_timeout: Some(prost_wkt_types::Duration {
                    seconds: 24 * 3600,
                    nanos: 0,
                }),
            },
        )),
        ..Command::default()
    };
    let done = RespondWorkflowTaskCompletedRequest {
        namespace: namespace.to_owned(),
        task_token: task.task_token,
        identity: "another release".to_owned(),
        commands: vec![sleep],
        ..Default::default()
    };
    WorkflowService::respond_workflow_task_completed(&mut connection, done.into_request()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_that_does_not_replay_is_told_and_replaced() -> Result<()> {
    let mut world = World::empty("f29").await?;
    world.invariants = world
        .invariants
        .with_failures(WorkflowTaskFailedCause::NonDeterministicError);
    let env = &world.env;
    let process = env.apply(&manifest(env, NAME, "v1")).await?;
    let id = lifecycle_id(&process);
    let uid = process.metadata.uid.clone().unwrap_or_default();
    let key = json!({ "namespace": env.namespace, "name": NAME, "uid": uid });
    asleep(&env.temporal, &env.control, &id, &json!({ "key": key })).await?;

    world.start(true).await?;
    let something = json_payload(&json!({}));
    env.temporal
        .signal(&env.control, &id, "changed", vec![something])
        .await?;
    let said = async |env: &Env, reason: &str| {
        until(reason, SOON, async || {
            let events = env.events(&process).await?;
            let said = events.into_iter().find(|(it, _)| it == reason);
            said.map(|(_, text)| text)
                .ok_or_else(|| anyhow::anyhow!("no such Event"))
        })
        .await
    };
    let told = said(env, "WorkflowTasksFail").await?;
    ensure!(
        told.contains(&id) && told.contains("does not fit"),
        "{told}"
    );
    let replaced = said(env, "WorkflowReplaced").await?;
    ensure!(replaced.contains(&id), "{replaced}");
    at_rest(&world, "v1").await?;
    let terminated = format!("WorkflowId = '{id}' AND ExecutionStatus = 'Terminated'");
    let terminated = env.temporal.list(&env.control, &terminated).await?;
    ensure!(terminated.len() == 1, "{}", terminated.len());
    world.finish().await
}
