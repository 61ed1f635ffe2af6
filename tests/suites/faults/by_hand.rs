//! F26: a person ends the lifecycle in the Temporal UI in the middle of a roll.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_harness::{Env, lifecycle_id, until};
use serde_json::json;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest as _;
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::workflowservice::v1::ResetWorkflowExecutionRequest;

use crate::drains::{counted, drain_id, held, on_v1};
use crate::scenario::{at_rest, gone};
use crate::world::{NAME, SOON, World};

async fn ended(name: &str, end: impl AsyncFn(&Env, &str) -> Result<()>) -> Result<()> {
    let world = World::new(name).await?;
    let env = &world.env;
    let process = world.create().await?;
    at_rest(&world, "v1").await?;
    let id = lifecycle_id(&process);
    let first = run(env, &id).await?;
    let transitions = transitions(env).await?;

    // v2 takes its time, so that the roll is under way.
    env.patch(
        NAME,
        &json!({ "spec": {
            "image": "localhost/process-example-worker:v2",
            "worker": { "env": [{ "name": "START_DELAY_MS", "value": "4000" }] },
        } }),
    )
    .await?;
    until("v2 is being rolled out", SOON, async || {
        ensure!(env.deployments(NAME).await?.len() == 2, "one Deployment");
        Ok(())
    })
    .await?;
    let rollouts = id.replacen("process/", "rollout/", 1);
    end(env, &id).await?;

    until("another run of the lifecycle", SOON, async || {
        ensure!(run(env, &id).await? != first, "none yet");
        Ok(())
    })
    .await?;
    let live = env.api::<Process>().get(NAME).await?;
    ensure!(
        live.metadata.deletion_timestamp.is_none() && !live.finalizers().is_empty(),
        "ending is not deleting"
    );
    at_rest(&world, "v2").await?;
    ensure!(env.deployments(NAME).await?.len() == 1, "v1 is retired");
    let tried = env.workflows(&format!("{rollouts}/v2-")).await?;
    ensure!(
        tried.len() == 1,
        "the rollout under way was taken over: {tried:?}"
    );
    let now = self::transitions(env).await?;
    ensure!(
        now.starts_with(&transitions),
        "status.history was lost: {transitions:?} -> {now:?}"
    );
    world.hold().await?;
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    gone(&world, &process).await?;
    world.finish().await
}

/// Run id of the open run, if there is one.
async fn run(env: &Env, id: &str) -> Result<String> {
    let query = format!("WorkflowId = '{id}' AND ExecutionStatus = 'Running'");
    let open = env.temporal.list(&env.control, &query).await?;
    let open = open.into_iter().find_map(|info| info.execution);
    Ok(open.context("no open run")?.run_id)
}

async fn transitions(env: &Env) -> Result<Vec<String>> {
    let status = env
        .api::<Process>()
        .get(NAME)
        .await?
        .status
        .unwrap_or_default();
    Ok(status
        .history
        .into_iter()
        .map(|entry| format!("{} {:?}", entry.what, entry.build_id))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_terminated_during_a_roll_is_started_again() -> Result<()> {
    ended("f26term", async |env, id| {
        env.temporal.terminate(&env.control, id).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_cancelled_during_a_roll_is_started_again_and_deletes_nothing() -> Result<()> {
    ended("f26cancel", async |env, id| {
        env.temporal.cancel(&env.control, id).await
    })
    .await
}

/// A reset forgets all that was decided since, and starts a new run that remembers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_reset_during_a_roll_goes_on_with_what_there_is() -> Result<()> {
    ended("f26reset", reset).await
}

/// To the first workflow task, as the Temporal UI offers it.
async fn reset(env: &Env, id: &str) -> Result<()> {
    let history = env.temporal.history(&env.control, id).await?;
    let first = history
        .iter()
        .find(|event| event.event_type() == EventType::WorkflowTaskCompleted)
        .context("no task is completed")?;
    let request = ResetWorkflowExecutionRequest {
        namespace: env.control.clone(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: id.to_owned(),
            run_id: run(env, id).await?,
        }),
        reason: "by hand".to_owned(),
        workflow_task_finish_event_id: first.event_id,
        request_id: format!("reset {id}"),
        ..Default::default()
    };
    let mut connection = env.temporal.connection.clone();
    WorkflowService::reset_workflow_execution(&mut connection, request.into_request()).await?;
    Ok(())
}

/// The lifecycle that runs by then did not start the drain, so Temporal tells it nothing of its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_terminated_after_its_lifecycle_is_started_again() -> Result<()> {
    let mut world = World::new("f26drain").await?;
    // A task may be under way when it is terminated.
    world.invariants = world.invariants.with_terminations();
    let env = &world.env;
    let policy = json!({ "timeoutSeconds": 3600, "onTimeout": "Wait" });
    let process = on_v1(&world, &policy, 2).await?;
    env.set_tag(NAME, "v2").await?;
    held(env, 2).await?;
    let drain = drain_id(env, &process).await?;
    let id = lifecycle_id(&process);
    env.temporal.terminate(&env.control, &id).await?;
    until("the next lifecycle has found the drain", SOON, async || {
        let history = env.temporal.history(&env.control, &drain).await?;
        let asked = history.iter().any(|event| {
            matches!(&event.attributes, Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal))
                if signal.signal_name == "report")
        });
        ensure!(asked, "it was not asked to report");
        Ok(())
    })
    .await?;
    env.temporal.terminate(&env.control, &drain).await?;
    let drains = id.replacen("process/", "drain/", 1);
    until("another drain", SOON, async || {
        let query =
            format!("WorkflowId STARTS_WITH '{drains}/v1-' AND ExecutionStatus = 'Running'");
        let open = env.temporal.list(&env.control, &query).await?;
        let ids = open.iter().filter_map(|info| info.execution.as_ref());
        let ids: Vec<_> = ids.map(|execution| &execution.workflow_id).collect();
        ensure!(ids.len() == 1 && *ids[0] != drain, "{ids:?}");
        Ok(())
    })
    .await?;
    held(env, 2).await?;
    for n in 0..2 {
        env.temporal
            .finish_waiting(&env.apps, &format!("old-{n}"))
            .await?;
    }
    counted(env, "old", "Completed", 2).await?;
    at_rest(&world, "v2").await?;
    ensure!(env.deployments(NAME).await?.len() == 1, "v1 is retired");
    world.finish().await
}
