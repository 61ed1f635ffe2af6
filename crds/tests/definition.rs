//! The `CustomResourceDefinition` keeps to Kubernetes' conventions, and the committed files are the
//! generated ones.

use std::path::Path;

use process_operator_crds::{crd::crd, generated::files};
use serde_json::{Value, json};

/// The largest object that `kubectl apply` can keep in its annotation, in bytes.
const MAX_ANNOTATION: usize = 262_144;

fn definition() -> Value {
    serde_json::to_value(crd().expect("the definition")).expect("it is JSON")
}

fn version() -> Value {
    definition()["spec"]["versions"][0].clone()
}

fn schema() -> Value {
    version()["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` with the path and schema of everything below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), child, visit);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{suffix}"), &schema[key], visit);
        }
    }
}

#[test]
fn committed_files_are_the_generated_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in files().expect("the files can be generated") {
        let found = std::fs::read_to_string(root.join(file.path)).unwrap_or_default();
        assert!(
            found == file.content,
            "{} is not current: run `cargo xtask generate`",
            file.path
        );
    }
}

#[test]
fn everything_is_limited() {
    walk("", &schema(), &mut |path, schema| {
        let has = |key: &str| !schema[key].is_null();
        match schema["type"].as_str() {
            Some("string") => {
                assert!(
                    has("maxLength") || has("enum") || schema["format"] == "date-time",
                    "{path}: maxLength"
                );
            }
            Some("array") => {
                assert!(has("maxItems"), "{path}: maxItems");
                assert!(
                    has("x-kubernetes-list-type"),
                    "{path}: x-kubernetes-list-type"
                );
            }
            Some("integer") => {
                assert!(
                    has("minimum") && has("maximum"),
                    "{path}: minimum and maximum"
                );
                let format = schema["format"].as_str();
                assert!(
                    matches!(format, Some("int32" | "int64")),
                    "{path}: {format:?}"
                );
            }
            Some("object") if has("additionalProperties") => {
                assert!(has("maxProperties"), "{path}: maxProperties");
            }
            Some("object" | "boolean") => {}
            None => assert_eq!(
                schema["x-kubernetes-int-or-string"], true,
                "{path}: no type"
            ),
            Some(other) => panic!("{path}: {other}"),
        }
        // The argument of a user's workflow has whatever form that workflow wants.
        let free = path.ends_with(".gate.input");
        assert_eq!(
            has("x-kubernetes-preserve-unknown-fields"),
            free,
            "{path}: unknown fields"
        );
        for unwanted in ["nullable", "oneOf", "allOf", "$ref"] {
            assert!(!has(unwanted), "{path}: {unwanted}");
        }
    });
}

#[test]
fn everything_is_described() {
    walk("", &schema(), &mut |path, schema| {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            // Kubernetes describes these itself, and refuses a description of metadata.
            if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
                continue;
            }
            let text = field["description"].as_str().unwrap_or_default();
            assert!(text.len() > 3, "{path}.{name} has no description");
        }
    });
}

#[test]
fn values_of_enums_are_pascal_case() {
    walk("", &schema(), &mut |path, schema| {
        for value in schema["enum"].as_array().into_iter().flatten() {
            let text = value.as_str().expect("a string");
            assert!(
                text.starts_with(|c: char| c.is_ascii_uppercase()),
                "{path}: {text}"
            );
        }
    });
}

#[test]
fn required_fields_are_exactly_these() {
    let required =
        |pointer: &str| schema().pointer(pointer).expect("the field")["required"].clone();
    assert_eq!(required(""), json!(["spec"]));
    assert_eq!(
        required("/properties/spec"),
        json!(["definitionRef", "image", "temporal"])
    );
    assert_eq!(
        required("/properties/spec/properties/definitionRef"),
        json!(["id", "tenantId"])
    );
    assert_eq!(
        required("/properties/spec/properties/temporal"),
        json!(["namespace", "taskQueue"])
    );
    assert_eq!(required("/properties/spec/properties/worker"), Value::Null);
    assert_eq!(required("/properties/spec/properties/rollout"), Value::Null);
    assert_eq!(required("/properties/status"), Value::Null);
}

#[test]
fn defaults_are_exactly_these() {
    let mut defaults = Vec::new();
    walk("", &schema(), &mut |path, schema| {
        if !schema["default"].is_null() {
            defaults.push((path.to_owned(), schema["default"].clone()));
        }
    });
    defaults.sort_by(|(a, _), (b, _)| a.cmp(b));
    let rollout = json!({
        "onFailure": "Abort", "progressDeadlineSeconds": 600, "revisionHistoryLimit": 3,
        "strategy": "RollingUpdate", "versioning": "WorkerVersioning",
    });
    let pending = json!({"conditions": [{
        "type": "Ready", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]});
    let deletion = json!({
        "cancelGraceSeconds": 300, "onTimeout": "Abandon", "pauseSchedules": true, "timeoutSeconds": 600,
    });
    let expected = [
        (".spec.cronJobs[].concurrencyPolicy", json!("Forbid")),
        (".spec.definitionRef.registry.protocol", json!("Get")),
        (".spec.definitionRef.registry.refreshSeconds", json!(300)),
        (".spec.deletion", deletion),
        (".spec.deletion.cancelGraceSeconds", json!(300)),
        (".spec.deletion.onTimeout", json!("Abandon")),
        (".spec.deletion.pauseSchedules", json!(true)),
        (".spec.deletion.timeoutSeconds", json!(600)),
        (".spec.imagePullPolicy", json!("IfNotPresent")),
        (".spec.replicas", json!(1)),
        (".spec.rollout", rollout),
        (".spec.rollout.analysis.intervalSeconds", json!(30)),
        (".spec.rollout.analysis.maxFailurePercent", json!(5)),
        (".spec.rollout.analysis.maxTaskFailures", json!(0)),
        (".spec.rollout.analysis.minWorkflows", json!(10)),
        (".spec.rollout.gate.attempts", json!(1)),
        (".spec.rollout.gate.timeoutSeconds", json!(3600)),
        (".spec.rollout.onFailure", json!("Abort")),
        (".spec.rollout.progressDeadlineSeconds", json!(600)),
        (".spec.rollout.revisionHistoryLimit", json!(3)),
        (".spec.rollout.steps[].analysis.intervalSeconds", json!(30)),
        (".spec.rollout.steps[].analysis.maxFailurePercent", json!(5)),
        (".spec.rollout.steps[].analysis.maxTaskFailures", json!(0)),
        (".spec.rollout.steps[].analysis.minWorkflows", json!(10)),
        (".spec.rollout.steps[].gate.attempts", json!(1)),
        (".spec.rollout.steps[].gate.timeoutSeconds", json!(3600)),
        (".spec.rollout.strategy", json!("RollingUpdate")),
        (".spec.rollout.versioning", json!("WorkerVersioning")),
        (".status", pending),
    ];
    assert_eq!(
        defaults,
        expected.map(|(path, value)| (path.to_owned(), value))
    );
}

#[test]
fn lists_of_named_things_are_maps() {
    let schema = schema();
    let keys = |pointer: &str| {
        let list = schema.pointer(pointer).expect("the field");
        assert_eq!(list["x-kubernetes-list-type"], "map", "{pointer}");
        list["x-kubernetes-list-map-keys"].clone()
    };
    let worker = "/properties/spec/properties/worker/properties";
    assert_eq!(keys(&format!("{worker}/env")), json!(["name"]));
    assert_eq!(keys(&format!("{worker}/volumes")), json!(["name"]));
    assert_eq!(
        keys(&format!("{worker}/volumeMounts")),
        json!(["mountPath"])
    );
    assert_eq!(
        keys("/properties/spec/properties/imagePullSecrets"),
        json!(["name"])
    );
    assert_eq!(
        keys("/properties/status/properties/conditions"),
        json!(["type"])
    );
    assert_eq!(
        keys("/properties/status/properties/draining"),
        json!(["buildId"])
    );
}

#[test]
fn subresources_and_columns() {
    let version = version();
    assert_eq!(
        version["subresources"],
        json!({"scale": {
            "labelSelectorPath": ".status.selector",
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
        }, "status": {}})
    );
    let columns: Vec<(String, i64)> = version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            (
                c["name"].as_str().unwrap_or_default().to_owned(),
                c["priority"].as_i64().unwrap_or(0),
            )
        })
        .collect();
    let expected = [
        ("Ready", 0),
        ("Reason", 0),
        ("Current", 0),
        ("Target", 0),
        ("Weight", 0),
        ("Draining", 0),
        ("Age", 0),
        ("Task Queue", 1),
        ("Temporal NS", 1),
        ("Image", 1),
        ("Message", 1),
    ];
    assert_eq!(
        columns,
        expected.map(|(name, priority)| (name.to_owned(), priority))
    );
}

#[test]
fn names_of_the_kind() {
    let definition = definition();
    assert_eq!(
        definition["spec"]["names"],
        json!({"kind": "Process", "plural": "processes", "singular": "process", "shortNames": ["proc"], "categories": ["ameide"]})
    );
    assert_eq!(definition["spec"]["scope"], "Namespaced");
    assert_eq!(
        definition["metadata"]["name"],
        process_operator_crds::crd::CRD_NAME
    );
}

#[test]
fn kubectl_apply_can_keep_it_in_its_annotation() {
    let size = definition().to_string().len();
    assert!(size < MAX_ANNOTATION * 3 / 4, "{size} bytes");
}
