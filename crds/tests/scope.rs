//! A Process is confined to its own namespace: nothing in it can name an object of another one.

use process_operator_crds::crd::crd;
use serde_json::Value;

/// Paths of properties whose name has to do with namespaces.
fn namespaces(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if name.to_lowercase().contains("namespace") {
            found.push(path.clone());
        }
        namespaces(property, &path, found);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            namespaces(&schema[below], path, found);
        }
    }
}

#[test]
fn no_reference_leads_out_of_the_namespace() {
    let definition = serde_json::to_value(crd().expect("the definition")).expect("it is JSON");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut found = Vec::new();
    namespaces(schema, "", &mut found);
    // Where pods run may depend on pods of other namespaces: the scheduler reads them, not the operator.
    found.retain(|path| !path.starts_with(".spec.worker.affinity."));
    assert_eq!(
        found,
        [".spec.temporal.namespace", ".status.workflow.namespace"],
        "both are namespaces of Temporal"
    );
}
