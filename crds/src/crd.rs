//! The CustomResourceDefinition that is installed in a cluster.
//!
//! [`Process::crd`](kube::CustomResourceExt::crd) is where it starts; what a derive cannot say is
//! added here. Install what [`crd`] returns, never the derived one.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use crate::{ConditionStatus, ConditionType, Process, Reason, names::annotation};

/// Name of the CustomResourceDefinition.
pub const CRD_NAME: &str = "processes.ameide.io";

/// Message of the condition that a Process has before the operator has seen it.
pub const PENDING_MESSAGE: &str = "Waiting for controller";

/// Most characters of a string inside Kubernetes' own types, which state no limit.
const OPEN_STRING: u64 = 1024;
/// Most entries of a list or map inside Kubernetes' own types.
const OPEN_ENTRIES: u64 = 64;

/// Largest integer that every reader of JSON can represent.
pub(crate) const EXACT_INTEGER: i64 = (1 << 53) - 1;

/// The CustomResourceDefinition of [`Process`].
///
/// Beyond what is derived:
///
/// * no field may be null: an optional field is absent;
/// * a Process that the operator has not seen yet is `Ready=Unknown, Pending`, so that tools built
///   on kstatus do not take it for finished;
/// * strings, lists, maps and numbers inside Kubernetes' own types (affinity, tolerations, spread
///   constraints, probes) have an upper limit. What they mean is checked by the API server when
///   the Deployment is written, and a refusal is shown as `InvalidSpec`.
///
/// Fails only if the derived definition is not the JSON it was made from, which a test excludes.
pub fn crd() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut crd = serde_json::to_value(Process::crd())?;
    crd["metadata"]["annotations"] =
        json!({ annotation::OPERATOR_VERSION: env!("CARGO_PKG_VERSION") });
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    finish(schema);
    if let Some(status) = schema.pointer_mut("/properties/status") {
        without_defaults(status);
        status["description"] =
            "What the operator has observed. Written by the operator alone.".into();
        status["default"] = pending_status();
    }
    // Kubernetes checks names of objects itself; a schema for the name is needed so that a rule can
    // say that the name is what it refuses.
    schema["properties"]["metadata"] = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "description": "Name of the Process.", "maxLength": 253}},
    });
    if let Some(spec) = schema.pointer_mut("/properties/spec") {
        spec["description"] = "What should run.".into();
    }
    serde_json::from_value(crd)
}

/// The status of a Process that the operator has not seen yet.
fn pending_status() -> Value {
    json!({
        "conditions": [{
            "type": ConditionType::Ready.as_str(),
            "status": ConditionStatus::Unknown.as_str(),
            "reason": Reason::Pending.as_str(),
            "message": PENDING_MESSAGE,
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    })
}

/// Brings `schema` and everything below it into the form described at [`crd`].
fn finish(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("nullable");
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = unwrap_lines(description);
    }
    limit(object);
    each_child(object, &mut finish);
}

/// Removes defaults from `schema` and everything below it. The operator writes status in full; a
/// default would only make the stored object differ from what was written.
fn without_defaults(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("default");
    each_child(object, &mut without_defaults);
}

/// Calls `visit` for the schema of each field, item or value of `schema`.
fn each_child(schema: &mut Map<String, Value>, visit: &mut dyn FnMut(&mut Value)) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(&mut *visit);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(key) {
            visit(child);
        }
    }
}

/// Gives a string, list, map or number that has no limit the widest one that is still sensible.
fn limit(schema: &mut Map<String, Value>) {
    let has = |key: &str| schema.contains_key(key);
    let kind = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let limits: Vec<(&str, Value)> = match kind {
        "string" if !has("enum") && !has("format") => vec![("maxLength", OPEN_STRING.into())],
        "array" => vec![
            ("maxItems", OPEN_ENTRIES.into()),
            ("x-kubernetes-list-type", "atomic".into()),
        ],
        "object" if has("additionalProperties") => vec![("maxProperties", OPEN_ENTRIES.into())],
        "integer" => {
            let wide = schema.get("format").and_then(Value::as_str) == Some("int64");
            let max = if wide { EXACT_INTEGER } else { i32::MAX.into() };
            vec![("minimum", 0.into()), ("maximum", max.into())]
        }
        _ if has("x-kubernetes-int-or-string") => vec![("maxLength", OPEN_STRING.into())],
        _ => Vec::new(),
    };
    for (key, value) in limits {
        schema.entry(key).or_insert(value);
    }
}

/// `text` with one line per paragraph: how it was wrapped in the source is of no use to a reader.
fn unwrap_lines(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|p| p.lines().map(str::trim).collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs.join("\n\n")
}
