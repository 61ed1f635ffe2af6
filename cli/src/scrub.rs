//! Takes out of objects what may be secret. What stays is named; nothing is kept because it looks harmless.

use serde_json::{Map, Value, json};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

/// In the place of a value.
const REDACTED: &str = "(redacted)";

/// An object of Kubernetes without values that may be secret: environment variables, commands and
/// arguments, inputs of gates, headers of probes, the content of ConfigMaps and Secrets, annotations of
/// others, managed fields.
pub(crate) fn object(mut object: Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if kind == "ConfigMap" || kind == "Secret" {
        for key in ["data", "binaryData", "stringData"] {
            if let Some(map) = object.get_mut(key).and_then(Value::as_object_mut) {
                map.values_mut().for_each(|value| *value = REDACTED.into());
            }
        }
    }
    walk(&mut object);
    object
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(map) => fields(map),
        Value::Array(items) => items.iter_mut().for_each(walk),
        _ => {}
    }
}

fn fields(map: &mut Map<String, Value>) {
    map.remove("managedFields");
    for (key, value) in map.iter_mut() {
        match key.as_str() {
            "env" | "httpHeaders" => values(value),
            "command" | "args" | "input" if !value.is_null() => *value = REDACTED.into(),
            "annotations" => annotations(value),
            _ => walk(value),
        }
    }
}

/// Names stay, and where they come from.
fn values(list: &mut Value) {
    for entry in list.as_array_mut().into_iter().flatten() {
        if let Some(value) = entry.get_mut("value") {
            *value = REDACTED.into();
        }
    }
}

/// Ours stay. Those of others may hold anything; `last-applied-configuration` holds the whole object again.
fn annotations(map: &mut Value) {
    let others = map.as_object_mut().into_iter().flatten();
    for (_, value) in others.filter(|(key, _)| !key.starts_with("ameide.io/")) {
        *value = REDACTED.into();
    }
}

/// An event without payloads: its number, time and type, and the name of what it is about.
pub(crate) fn event(event: &HistoryEvent) -> Value {
    let time = event.event_time.as_ref();
    let time = time.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
    let mut told = json!({
        "eventId": event.event_id,
        "eventTime": time.map(|at| at.to_string()),
        "eventType": event.event_type().as_str_name(),
    });
    if let Some(name) = event.attributes.as_ref().and_then(name) {
        told["name"] = name.into();
    }
    told
}

/// What an event is about.
fn name(attributes: &Attributes) -> Option<String> {
    Some(match attributes {
        Attributes::WorkflowExecutionStartedEventAttributes(started) => {
            started.workflow_type.as_ref()?.name.clone()
        }
        Attributes::ActivityTaskScheduledEventAttributes(scheduled) => {
            scheduled.activity_type.as_ref()?.name.clone()
        }
        Attributes::WorkflowExecutionSignaledEventAttributes(signaled) => {
            signaled.signal_name.clone()
        }
        Attributes::TimerStartedEventAttributes(timer) => timer.timer_id.clone(),
        Attributes::MarkerRecordedEventAttributes(marker) => marker.marker_name.clone(),
        Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(child) => {
            child.workflow_id.clone()
        }
        Attributes::ChildWorkflowExecutionCompletedEventAttributes(child) => {
            child.workflow_execution.as_ref()?.workflow_id.clone()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_names_stay() {
        let pod = json!({
            "kind": "Pod",
            "metadata": {
                "name": "l2o-1",
                "managedFields": [{ "manager": "s3cret" }],
                "annotations": {
                    "ameide.io/eventing": "{}",
                    "kubectl.kubernetes.io/last-applied-configuration": "s3cret",
                },
            },
            "spec": { "containers": [{
                "image": "i:v1",
                "command": ["/worker", "s3cret"],
                "args": ["--password=s3cret"],
                "env": [
                    { "name": "TOKEN", "value": "s3cret" },
                    { "name": "OTHER", "valueFrom": { "secretKeyRef": { "name": "creds", "key": "token" } } },
                ],
                "readinessProbe": {
                    "httpGet": { "httpHeaders": [{ "name": "Authorization", "value": "s3cret" }] },
                },
            }] },
        });
        let text = object(pod).to_string();
        assert!(!text.contains("s3cret"), "{text}");
        for kept in [
            "TOKEN",
            "OTHER",
            "creds",
            "i:v1",
            "Authorization",
            "ameide.io/eventing",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }

    #[test]
    fn maps_keep_their_keys_and_a_process_its_fields() {
        let map = object(json!({ "kind": "ConfigMap", "data": { "definition.bpmn": "s3cret" } }));
        let kept = json!({ "kind": "ConfigMap", "data": { "definition.bpmn": REDACTED } });
        assert_eq!(map, kept);
        let process = object(json!({ "kind": "Process", "spec": {
            "replicas": 2,
            "worker": { "env": [{ "name": "A", "value": "s3cret" }] },
            "rollout": { "gate": { "workflowType": "Verify", "input": { "key": "s3cret" } } },
        } }));
        let text = process.to_string();
        assert!(!text.contains("s3cret"), "{text}");
        assert!(
            text.contains("Verify") && text.contains("\"replicas\":2"),
            "{text}"
        );
    }
}
