//! What is said to the server.

use std::collections::HashMap;

use process_operator_workflows::contract::{
    LifecycleInput, ProcessKey, QUEUE_MAIN, SA_NAME, SA_NAMESPACE, SIGNAL_CHANGED, TYPE_LIFECYCLE,
};
use temporalio_client::tonic::Status;
use temporalio_common::protos::coresdk::AsJsonPayloadExt;
use temporalio_common::protos::temporal::api::common::v1::{
    Payload, Payloads, SearchAttributes, WorkflowExecution, WorkflowType,
};
use temporalio_common::protos::temporal::api::enums::v1::{
    WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use temporalio_common::protos::temporal::api::sdk::v1::UserMetadata;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
};

use super::{Delivery, Inner};
use crate::watcher::Link;

/// Longest time of a workflow task; see the workflow crate.
const TASK_TIMEOUT: prost_wkt_types::Duration = prost_wkt_types::Duration {
    seconds: 5,
    nanos: 0,
};

/// A signal to a lifecycle that runs.
pub(super) fn signal(
    inner: &Inner,
    delivery: &Delivery,
) -> Result<SignalWorkflowExecutionRequest, Status> {
    Ok(SignalWorkflowExecutionRequest {
        namespace: inner.namespace.clone(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: delivery.key.lifecycle().to_string(),
            run_id: String::new(),
        }),
        signal_name: SIGNAL_CHANGED.into(),
        input: Some(payloads(delivery.changed.as_json_payload())?),
        identity: inner.identity.clone(),
        ..Default::default()
    })
}

/// A lifecycle for a Process that has none yet. It looks by itself, so nothing needs to be signalled, and its first
/// workflow task comes with the answer: the server does not have to find somebody for it. Each replica has a request id
/// of its own, so that only one of them is given that task.
pub(super) fn start(
    inner: &Inner,
    link: &Link,
    delivery: &Delivery,
) -> Result<StartWorkflowExecutionRequest, Status> {
    let key = &delivery.key;
    Ok(StartWorkflowExecutionRequest {
        namespace: inner.namespace.clone(),
        workflow_id: key.lifecycle().to_string(),
        workflow_type: Some(workflow_type()),
        task_queue: Some(task_queue()),
        input: Some(input(key)?),
        workflow_task_timeout: Some(TASK_TIMEOUT),
        identity: inner.identity.clone(),
        request_id: format!("{}/{}", delivery.request_id, inner.identity),
        workflow_id_reuse_policy: WorkflowIdReusePolicy::AllowDuplicate.into(),
        workflow_id_conflict_policy: WorkflowIdConflictPolicy::Fail.into(),
        request_eager_execution: true,
        search_attributes: search_attributes(link, key)?,
        user_metadata: Some(metadata(key)?),
        ..Default::default()
    })
}

/// Whether a lifecycle that runs already was started because of the same change, by another replica.
pub(super) fn started_for(status: &Status, request_id: &str) -> bool {
    let start = format!("{request_id}/").into_bytes();
    status
        .details()
        .windows(start.len())
        .any(|window| window == start)
}

/// A signal to a lifecycle, which is started when it does not run.
pub(super) fn signal_with_start(
    inner: &Inner,
    link: &Link,
    delivery: &Delivery,
) -> Result<SignalWithStartWorkflowExecutionRequest, Status> {
    let key = &delivery.key;
    Ok(SignalWithStartWorkflowExecutionRequest {
        namespace: inner.namespace.clone(),
        workflow_id: key.lifecycle().to_string(),
        workflow_type: Some(workflow_type()),
        task_queue: Some(task_queue()),
        input: Some(input(key)?),
        workflow_task_timeout: Some(TASK_TIMEOUT),
        identity: inner.identity.clone(),
        request_id: delivery.request_id.clone(),
        workflow_id_reuse_policy: WorkflowIdReusePolicy::AllowDuplicate.into(),
        workflow_id_conflict_policy: WorkflowIdConflictPolicy::UseExisting.into(),
        signal_name: SIGNAL_CHANGED.into(),
        signal_input: Some(payloads(delivery.changed.as_json_payload())?),
        search_attributes: search_attributes(link, key)?,
        user_metadata: Some(metadata(key)?),
        ..Default::default()
    })
}

fn workflow_type() -> WorkflowType {
    WorkflowType {
        name: TYPE_LIFECYCLE.into(),
    }
}

fn task_queue() -> TaskQueue {
    TaskQueue {
        name: QUEUE_MAIN.into(),
        ..Default::default()
    }
}

fn input(key: &ProcessKey) -> Result<Payloads, Status> {
    let input = LifecycleInput {
        key: key.clone(),
        ..LifecycleInput::default()
    };
    payloads(input.as_json_payload())
}

/// For people in the Temporal UI.
fn metadata(key: &ProcessKey) -> Result<UserMetadata, Status> {
    let name = format!("{}/{}", key.namespace, key.name);
    let details = format!(
        "Keeps Process {name} (uid {}) as its spec asks. Do not terminate it to stop a rollout: \
         set spec.suspend.",
        key.uid
    );
    Ok(UserMetadata {
        summary: Some(json(format!("Process {name}").as_json_payload())?),
        details: Some(json(details.as_json_payload())?),
    })
}

fn json<E: std::fmt::Display>(payload: Result<Payload, E>) -> Result<Payload, Status> {
    payload.map_err(|error| Status::internal(error.to_string()))
}

fn payloads<E: std::fmt::Display>(payload: Result<Payload, E>) -> Result<Payloads, Status> {
    Ok(Payloads {
        payloads: vec![json(payload)?],
    })
}

/// Set at the start, so that a lifecycle can be found from its first moment.
fn search_attributes(link: &Link, key: &ProcessKey) -> Result<Option<SearchAttributes>, Status> {
    if !*link.search_attributes.borrow() {
        return Ok(None);
    }
    let mut indexed_fields = HashMap::new();
    for (name, value) in [(SA_NAME, &key.name), (SA_NAMESPACE, &key.namespace)] {
        let mut payload = json(value.as_json_payload())?;
        payload.metadata.insert("type".into(), b"Keyword".to_vec());
        indexed_fields.insert(name.to_owned(), payload);
    }
    Ok(Some(SearchAttributes { indexed_fields }))
}

#[cfg(test)]
mod tests {
    use temporalio_client::tonic::Code;

    use super::*;

    #[test]
    fn a_lifecycle_that_another_replica_has_started_for_the_same_change_is_told_from_others() {
        let details = b"\n\x12abc123/operator@host-1\x12\x24run".to_vec();
        let status = Status::with_details(Code::AlreadyExists, "already started", details.into());
        assert!(started_for(&status, "abc123"));
        assert!(!started_for(&status, "abc124"));
        assert!(!started_for(&Status::already_exists("?"), "abc123"));
    }
}
