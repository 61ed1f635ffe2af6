//! Runs a workflow of the user's on a version, to its end.

use std::time::Duration;

use process_operator_crds::conditions::truncate;
use process_operator_crds::{ErrorCategory, Process};
use process_operator_workflows::contract::{GateInput, GateOutcome};
use serde_json::Value;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::coresdk::AsJsonPayloadExt;
use temporalio_common::protos::temporal::api::common::v1::{
    Payloads, WorkflowExecution, WorkflowType,
};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion;
use temporalio_common::protos::temporal::api::enums::v1::{
    HistoryEventFilterType, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use temporalio_common::protos::temporal::api::failure::v1::Failure;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflow::v1::VersioningOverride;
use temporalio_common::protos::temporal::api::workflow::v1::versioning_override::{
    Override, PinnedOverride, PinnedOverrideBehavior,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, StartWorkflowExecutionRequest,
};

use super::{Pace, passing};
use crate::build::hash;
use crate::context::Context;
use crate::error::{Fault, Result};
use crate::temporal::call;

/// The server answers a long poll without news after 20 s.
const POLL: Duration = Duration::from_secs(40);
/// Longest part of a failure's message that is repeated.
const TOLD: usize = 256;

/// Starts the gate workflow, or finds it started by an earlier try, and waits until it has closed.
pub(crate) async fn run(context: &Context, input: &GateInput) -> Result<GateOutcome> {
    let mut pace = Pace::new(Duration::from_millis(200), Duration::from_secs(10));
    while passing(start(context, input).await)?.is_none() {
        pace.rest().await;
    }
    loop {
        if let Some(Some(closed)) = passing(closed(context, input).await)? {
            return Ok(outcome(input, &closed));
        }
        // A long poll that ends early must not become a hot loop.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The argument as the spec has it now; it does not pass through the operator's histories.
async fn argument(context: &Context, input: &GateInput) -> Result<Option<Value>> {
    let found = context
        .processes(&input.key.namespace)
        .get_opt(&input.key.name)
        .await?;
    let process: Option<Process> = found.and_then(|found| found.try_parse().ok());
    let rollout = process.map(|process| process.spec.rollout);
    let gate = rollout.and_then(|rollout| {
        let step = usize::try_from(input.step).ok()?;
        match step.checked_sub(1) {
            None => rollout.gate,
            Some(step) => rollout.steps.get(step)?.gate.clone(),
        }
    });
    Ok(gate.and_then(|gate| gate.input).map(Value::Object))
}

async fn start(context: &Context, input: &GateInput) -> Result<()> {
    let argument = argument(context, input).await?;
    let payloads = match argument {
        Some(argument) => vec![
            argument
                .as_json_payload()
                .map_err(|error| Fault::new(ErrorCategory::InvalidSpec, error.to_string()))?,
        ],
        None => Vec::new(),
    };
    let pinned = PinnedOverride {
        behavior: PinnedOverrideBehavior::Pinned.into(),
        version: Some(WorkerDeploymentVersion {
            deployment_name: input.key.worker_deployment(),
            build_id: input.build_id.clone(),
        }),
    };
    let request = StartWorkflowExecutionRequest {
        namespace: input.temporal_namespace.clone(),
        workflow_id: input.workflow_id.clone(),
        workflow_type: Some(WorkflowType {
            name: input.workflow_type.clone(),
        }),
        task_queue: Some(TaskQueue {
            name: input.task_queue.clone(),
            ..Default::default()
        }),
        input: (!payloads.is_empty()).then_some(Payloads { payloads }),
        workflow_execution_timeout: Some(prost_wkt_types::Duration {
            seconds: input.timeout_seconds,
            nanos: 0,
        }),
        identity: context.instance.clone(),
        request_id: hash::prefix(input.workflow_id.as_bytes(), 16),
        workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
        workflow_id_conflict_policy: WorkflowIdConflictPolicy::UseExisting.into(),
        // On a queue of its own there is no other version.
        versioning_override: input.versioning.is_default().then(|| VersioningOverride {
            r#override: Some(Override::Pinned(pinned)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let started = call(
        "start the gate",
        WorkflowService::start_workflow_execution(&mut connection, request.into_request()),
    )
    .await;
    match started {
        // Closed already: started by a try whose answer was lost.
        Err(fault) if fault.category == ErrorCategory::Conflict => Ok(()),
        started => started.map(|_| ()),
    }
}

/// The event that closed it; `None` while it runs.
async fn closed(context: &Context, input: &GateInput) -> Result<Option<Attributes>> {
    let request = GetWorkflowExecutionHistoryRequest {
        namespace: input.temporal_namespace.clone(),
        execution: Some(WorkflowExecution {
            workflow_id: input.workflow_id.clone(),
            run_id: String::new(),
        }),
        wait_new_event: true,
        history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let poll =
        WorkflowService::get_workflow_execution_history(&mut connection, request.into_request());
    let answer = tokio::time::timeout(POLL, poll).await;
    let Ok(answer) = answer else { return Ok(None) };
    let events = answer
        .map_err(Fault::from)?
        .into_inner()
        .history
        .map(|history| history.events)
        .unwrap_or_default();
    Ok(events
        .into_iter()
        .next_back()
        .and_then(|event| event.attributes)
        .filter(|last| {
            matches!(
                last,
                Attributes::WorkflowExecutionCompletedEventAttributes(_)
                    | Attributes::WorkflowExecutionFailedEventAttributes(_)
                    | Attributes::WorkflowExecutionTimedOutEventAttributes(_)
                    | Attributes::WorkflowExecutionCanceledEventAttributes(_)
                    | Attributes::WorkflowExecutionTerminatedEventAttributes(_)
                    | Attributes::WorkflowExecutionContinuedAsNewEventAttributes(_)
            )
        }))
}

fn outcome(input: &GateInput, closed: &Attributes) -> GateOutcome {
    let how = match closed {
        Attributes::WorkflowExecutionCompletedEventAttributes(_) => "completed".to_owned(),
        Attributes::WorkflowExecutionFailedEventAttributes(failed) => {
            format!("failed: {}", words(failed.failure.as_ref()))
        }
        Attributes::WorkflowExecutionTimedOutEventAttributes(_) => {
            format!("did not end within {} s", input.timeout_seconds)
        }
        Attributes::WorkflowExecutionTerminatedEventAttributes(_) => "was terminated".to_owned(),
        Attributes::WorkflowExecutionCanceledEventAttributes(_) => "was cancelled".to_owned(),
        _ => "continued as new, which a gate must not do".to_owned(),
    };
    GateOutcome {
        passed: matches!(
            closed,
            Attributes::WorkflowExecutionCompletedEventAttributes(_)
        ),
        message: format!(
            "gate workflow {} ({}) {how}",
            input.workflow_type, input.workflow_id
        ),
    }
}

/// The message of the failure at the root, cut short.
fn words(failure: Option<&Failure>) -> String {
    let mut failure = failure;
    while let Some(cause) = failure.and_then(|failure| failure.cause.as_deref()) {
        failure = Some(cause);
    }
    let message = failure.map_or("", |failure| failure.message.as_str());
    truncate(message, TOLD).to_owned()
}
