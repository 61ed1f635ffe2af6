//! What activities tell a lifecycle by themselves, so that its workflow code need not.

use process_operator_workflows::contract::{
    DeletionProgress, DrainTold, ProcessKey, RolloutProgress, SIGNAL_DELETION,
    SIGNAL_DRAIN_PROGRESS, SIGNAL_PROGRESS, SetWeightInput, SetWeightOutcome, StepFailure,
};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::coresdk::AsJsonPayloadExt;
use temporalio_common::protos::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution};
use temporalio_common::protos::temporal::api::workflowservice::v1::SignalWorkflowExecutionRequest;

use super::{call, unless_gone};
use crate::build::hash;
use crate::context::Context;
use crate::error::{Fault, Result};

/// A weight is set, and tells the lifecycle so: the pause that follows begins now, and not before the activity did by
/// the server's clock.
pub(crate) async fn weighted(
    context: &Context,
    input: &SetWeightInput,
    occasion: &str,
    begun: jiff::Timestamp,
) -> SetWeightOutcome {
    let at = jiff::Timestamp::now().max(begun);
    if let Some(mut told) = input.announce.clone() {
        told.progress.due = input.pause_seconds.and_then(|seconds| {
            at.checked_add(jiff::SignedDuration::from_secs(seconds))
                .ok()
        });
        announce(context, &input.key, &told, occasion).await;
    }
    SetWeightOutcome { at }
}

/// Tells a lifecycle how far its rollout has come. A lifecycle that cannot be told asks by itself.
///
/// `occasion` names the activity, not its tries: repeated, it counts once. The same progress at
/// another time is news, and the server would drop it under the same request id.
pub(crate) async fn announce(
    context: &Context,
    key: &ProcessKey,
    progress: &RolloutProgress,
    occasion: &str,
) {
    let Ok(payload) = progress.as_json_payload() else {
        return;
    };
    let request_id = hash::prefix(format!("{}\n{occasion}", progress.id).as_bytes(), 16);
    heard(
        key,
        signal(context, key, SIGNAL_PROGRESS, payload, request_id).await,
    );
}

/// Tells a lifecycle what a change of routing waits for: the server lets few through, and those of others may come
/// first. Once for each change.
pub(crate) async fn waits(
    context: &Context,
    key: &ProcessKey,
    progress: Option<&RolloutProgress>,
    fault: &Fault,
    occasion: &str,
) {
    let Some(mut told) = progress.cloned() else {
        return;
    };
    told.progress.waits = Some(StepFailure::new(
        fault.category,
        format!("the change of routing waits for its turn: {fault}"),
    ));
    announce(context, key, &told, &format!("{occasion}/waits")).await;
}

/// Tells a lifecycle how far a drain has come. A lifecycle that is gone needs no telling: its successor looks
/// for itself. The same message counts once.
pub(crate) async fn drained(context: &Context, key: &ProcessKey, told: &DrainTold) -> Result<()> {
    let Ok(payload) = told.as_json_payload() else {
        return Ok(());
    };
    let request_id = hash::prefix(&payload.data, 16);
    let told = signal(context, key, SIGNAL_DRAIN_PROGRESS, payload, request_id);
    unless_gone(told.await).map(drop)
}

/// Tells a lifecycle how far the deletion of its Process has come. Each call counts: the same may be
/// so again later.
pub(crate) async fn tell(context: &Context, key: &ProcessKey, progress: &DeletionProgress) {
    let Ok(payload) = progress.as_json_payload() else {
        return;
    };
    let now = jiff::Timestamp::now().as_nanosecond();
    let request_id = hash::prefix(
        format!("{}\n{}\n{now}", key.uid, context.instance).as_bytes(),
        16,
    );
    heard(
        key,
        signal(context, key, SIGNAL_DELETION, payload, request_id).await,
    );
}

fn heard(key: &ProcessKey, told: Result<()>) {
    if let Err(fault) = told {
        tracing::info!(namespace = key.namespace, process = key.name, "{fault}");
    }
}

async fn signal(
    context: &Context,
    key: &ProcessKey,
    name: &str,
    payload: Payload,
    request_id: String,
) -> Result<()> {
    let request = SignalWorkflowExecutionRequest {
        namespace: context.control_namespace.clone(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: key.lifecycle().to_string(),
            run_id: String::new(),
        }),
        signal_name: name.to_owned(),
        request_id,
        input: Some(Payloads {
            payloads: vec![payload],
        }),
        identity: context.instance.clone(),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    call(
        "tell the lifecycle",
        WorkflowService::signal_workflow_execution(&mut connection, request.into_request()),
    )
    .await
    .map(drop)
}
