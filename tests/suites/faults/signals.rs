//! F14: signals that are doubled, late or for a workflow that is closed.

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_harness::{lifecycle_id, manifest};
use process_operator_workflows::contract::{
    ChangeKind, Changed, LifecycleInput, ProcessKey, QUEUE_MAIN, SIGNAL_CHANGED, TYPE_LIFECYCLE,
};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest as _;
use temporalio_common::protos::coresdk::AsJsonPayloadExt as _;
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowType};
use temporalio_common::protos::temporal::api::enums::v1::{
    EventType, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::SignalWithStartWorkflowExecutionRequest;

use crate::scenario::{Passage, Phase, Reference, at_rest, gone};
use crate::world::{NAME, SOON, World};

/// The call that the watcher makes.
pub(crate) async fn signal(
    world: &World,
    process: &Process,
    request_id: &str,
    detail: &str,
) -> Result<()> {
    let key = ProcessKey {
        namespace: world.env.namespace.clone(),
        name: process.name_any(),
        uid: process.uid().unwrap_or_default(),
    };
    let input = LifecycleInput {
        key,
        ..LifecycleInput::default()
    };
    let changed = Changed::new(ChangeKind::Process, detail);
    let call = SignalWithStartWorkflowExecutionRequest {
        namespace: world.env.control.clone(),
        workflow_id: lifecycle_id(process),
        workflow_type: Some(WorkflowType {
            name: TYPE_LIFECYCLE.into(),
        }),
        task_queue: Some(TaskQueue {
            name: QUEUE_MAIN.into(),
            ..Default::default()
        }),
        input: Some(Payloads {
            payloads: vec![input.as_json_payload()?],
        }),
        identity: "tests".into(),
        request_id: request_id.into(),
        workflow_id_reuse_policy: WorkflowIdReusePolicy::AllowDuplicate.into(),
        workflow_id_conflict_policy: WorkflowIdConflictPolicy::UseExisting.into(),
        signal_name: SIGNAL_CHANGED.into(),
        signal_input: Some(Payloads {
            payloads: vec![changed.as_json_payload()?],
        }),
        ..Default::default()
    };
    let mut connection = world.env.temporal.connection.clone();
    WorkflowService::signal_with_start_workflow_execution(&mut connection, call.into_request())
        .await?;
    Ok(())
}

/// Signals in the history of the latest run.
async fn signals(world: &World, process: &Process) -> Result<usize> {
    let history = world
        .env
        .temporal
        .history(&world.env.control, &lifecycle_id(process))
        .await?;
    let signaled = |kind| kind == EventType::WorkflowExecutionSignaled;
    Ok(history
        .iter()
        .filter(|event| signaled(event.event_type()))
        .count())
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_and_late_signals_change_nothing() -> Result<()> {
    let reference = Reference::get().await?;
    let mut passage = Passage::new(World::new("f14").await?);
    let mut picture = passage.calm(Phase::Create).await?;
    for phase in [Phase::Create, Phase::Roll] {
        if phase == Phase::Roll {
            picture = passage.calm(phase).await?;
        }
        reference.check(phase, &picture)?;
        let world = &passage.world;
        let process = world.env.api::<Process>().get(NAME).await?;
        let before = signals(world, &process).await?;
        let id = format!("{phase}-one");
        signal(world, &process, &id, "generation 1").await?;
        signal(world, &process, &id, "generation 1").await?;
        ensure!(
            signals(world, &process).await? == before + 1,
            "the same request counts once"
        );
        signal(world, &process, &format!("{phase}-other"), "generation 1").await?;
        signal(world, &process, &format!("{phase}-newer"), "generation 9").await?;
        signal(world, &process, &format!("{phase}-older"), "generation 0").await?;
        at_rest(world, if phase == Phase::Create { "v1" } else { "v2" }).await?;
        passage.again(phase).await?.same_as(&picture)?;
    }
    passage.world.hold().await?;
    let picture = passage.calm(Phase::Delete).await?;
    reference.check(Phase::Delete, &picture)?;
    passage.world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_for_a_closed_lifecycle_ends_by_itself_and_spares_the_successor() -> Result<()> {
    let world = World::new("f14c").await?;
    let env = &world.env;
    let old = world.create().await?;
    at_rest(&world, "v1").await?;
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    gone(&world, &old).await?;
    signal(&world, &old, "late", "generation 1").await?;
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(&old), SOON)
        .await?;

    let new = env.apply(&manifest(env, NAME, "v1")).await?;
    at_rest(&world, "v1").await?;
    let uids = async || {
        let deployments = env.deployments(NAME).await?;
        anyhow::Ok(
            deployments
                .iter()
                .map(|deployment| (deployment.uid(), deployment.metadata.generation))
                .collect::<Vec<_>>(),
        )
    };
    let before = uids().await?;
    signal(&world, &old, "later", "generation 1").await?;
    env.temporal
        .wait_closed(&env.control, &lifecycle_id(&old), SOON)
        .await?;
    at_rest(&world, "v1").await?;
    ensure!(uids().await? == before, "I2: {before:?}");
    env.temporal
        .quick(&env.apps, &format!("{NAME}-tq"), "after")
        .await?;
    world.hold().await?;
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    gone(&world, &new).await?;
    world.finish().await
}
