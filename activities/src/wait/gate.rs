//! Runs a workflow of the user's on a version, to its end.

use std::time::Duration;

use process_operator_crds::conditions::truncate;
use process_operator_crds::spec::Rollout;
use process_operator_crds::{ErrorCategory, Process};
use process_operator_workflows::contract::{GateInput, GateOutcome};
use serde_json::Value;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Response};
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
    loop {
        match start(context, input).await {
            // Refused for what may last: that is told when it is tried again.
            Err(fault) if fault.category == ErrorCategory::Conflict => return Err(fault),
            started => {
                if passing(started)?.is_some() {
                    break;
                }
            }
        }
        pace.rest().await;
    }
    let mut pace = Pace::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let closed = match closed(context, input).await {
            Err(fault) if fault.category == ErrorCategory::NotFound => return Ok(gone(input)),
            closed => passing(closed)?,
        };
        match closed {
            Some(Some(closed)) => return Ok(outcome(input, &closed)),
            // A long poll that ends early must not become a hot loop.
            Some(None) => tokio::time::sleep(Duration::from_millis(200)).await,
            None => pace.rest().await,
        }
    }
}

/// The argument as the spec has it now; it does not pass through the operator's histories.
async fn argument(context: &Context, input: &GateInput) -> Result<Option<Value>> {
    let found = context
        .processes(&input.key.namespace)
        .get_opt(&input.key.name)
        .await?;
    let Some(found) = found else {
        return Ok(None);
    };
    let process: Process = found.try_parse().map_err(|error| {
        Fault::new(
            ErrorCategory::InvalidSpec,
            format!("the spec cannot be read: {error}"),
        )
    })?;
    argument_of(&process.spec.rollout, input)
}

/// The argument of the gate that the rollout began with. What the spec says at its place may be another gate's.
fn argument_of(rollout: &Rollout, input: &GateInput) -> Result<Option<Value>> {
    let (gate, field) = match usize::try_from(input.step)
        .ok()
        .and_then(|it| it.checked_sub(1))
    {
        None => (rollout.gate.as_ref(), "spec.rollout.gate".to_owned()),
        Some(index) => {
            let field = format!("spec.rollout.steps[{index}]");
            let step = rollout.steps.get(index);
            let weight = step.map_or_else(|| "not there".into(), |step| step.weight.to_string());
            let then = input.weight.to_string();
            if input.weight > 0 && weight != then {
                return Err(unlike(&format!("{field}.weight"), &weight, &then));
            }
            let gate = step.and_then(|step| step.gate.as_ref());
            (gate, format!("{field}.gate"))
        }
    };
    match gate {
        Some(gate) if gate.workflow_type == input.workflow_type => {
            Ok(gate.input.clone().map(Value::Object))
        }
        gate => {
            let now = gate.map_or("not there", |gate| gate.workflow_type.as_str());
            let field = format!("{field}.workflowType");
            Err(unlike(&field, now, &input.workflow_type))
        }
    }
}

fn unlike(field: &str, now: &str, then: &str) -> Fault {
    Fault::new(
        ErrorCategory::InvalidSpec,
        format!(
            "{field} is {now} now and was {then} when the rollout began, so the input of its gate is not known: \
             set it back and request `retry`, or `promote` or `abort` the rollout"
        ),
    )
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
    let started = async {
        let request = request.into_request();
        match WorkflowService::start_workflow_execution(&mut connection, request).await {
            // Closed already: started by a try whose answer was lost.
            Err(status) if status.code() == Code::AlreadyExists => Ok(Response::new(())),
            started => started.map(|answer| answer.map(drop)),
        }
    };
    call("start the gate", started).await
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

fn gone(input: &GateInput) -> GateOutcome {
    told(input, false, "was deleted before its result was seen")
}

fn told(input: &GateInput, passed: bool, how: &str) -> GateOutcome {
    GateOutcome {
        passed,
        message: format!(
            "gate workflow {} ({}) {how}",
            input.workflow_type, input.workflow_id
        ),
    }
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
    let passed = matches!(
        closed,
        Attributes::WorkflowExecutionCompletedEventAttributes(_)
    );
    told(input, passed, &how)
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

#[cfg(test)]
mod tests {
    use process_operator_crds::spec::{Gate, RolloutStep};
    use serde_json::json;

    use super::*;

    fn gate(workflow_type: &str, about: &str) -> Gate {
        let input = json!({ "about": about });
        Gate {
            workflow_type: workflow_type.into(),
            input: input.as_object().cloned(),
            timeout_seconds: 60,
            attempts: 1,
        }
    }

    fn step(weight: i32, gate: Option<Gate>) -> RolloutStep {
        RolloutStep {
            weight,
            pause: None,
            gate,
            analysis: None,
        }
    }

    fn spec() -> Rollout {
        Rollout {
            gate: Some(gate("Smoke", "start")),
            steps: vec![
                step(10, None),
                step(20, Some(gate("Smoke", "20"))),
                step(50, Some(gate("Load", "50"))),
            ],
            ..Rollout::default()
        }
    }

    fn asks(step: u32, weight: i32, workflow_type: &str) -> GateInput {
        GateInput {
            step,
            weight,
            workflow_type: workflow_type.into(),
            ..GateInput::default()
        }
    }

    #[test]
    fn a_gate_gets_the_input_that_stands_beside_it() {
        for (step, weight, workflow_type, about) in [
            (0, 0, "Smoke", "start"),
            (2, 20, "Smoke", "20"),
            (3, 50, "Load", "50"),
            // From an operator that did not say its weight.
            (3, 0, "Load", "50"),
        ] {
            let found = argument_of(&spec(), &asks(step, weight, workflow_type));
            assert_eq!(found, Ok(Some(json!({ "about": about }))));
        }
    }

    #[test]
    fn a_gate_never_gets_the_input_of_another_one() {
        for (step, weight, workflow_type, expected) in [
            (
                0,
                0,
                "Load",
                "spec.rollout.gate.workflowType is Smoke now and was Load",
            ),
            (
                2,
                25,
                "Smoke",
                "spec.rollout.steps[1].weight is 20 now and was 25",
            ),
            (
                2,
                20,
                "Load",
                "spec.rollout.steps[1].gate.workflowType is Smoke now",
            ),
            (
                1,
                10,
                "Smoke",
                "spec.rollout.steps[0].gate.workflowType is not there now",
            ),
            (
                4,
                75,
                "Smoke",
                "spec.rollout.steps[3].weight is not there now and was 75",
            ),
        ] {
            let fault = argument_of(&spec(), &asks(step, weight, workflow_type)).unwrap_err();
            assert_eq!(fault.category, ErrorCategory::InvalidSpec);
            assert!(fault.message.starts_with(expected), "{}", fault.message);
        }
    }
}
