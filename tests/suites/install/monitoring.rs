//! The kinds of the Prometheus operator, as far as the chart writes them: the API server looks at no object of a kind
//! that it does not know. They are ours and not the real ones, which have many more fields.

use anyhow::Result;
use process_operator_harness::{Env, SOON, until};
use serde_json::{Value, json};

/// Plural names.
const KINDS: [&str; 3] = [
    "podmonitors.monitoring.coreos.com",
    "servicemonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
];

/// Fields, all of which must be there.
fn object(properties: &Value) -> Value {
    let fields = properties.as_object().into_iter().flatten();
    let required: Vec<&String> = fields.map(|(name, _)| name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn list(items: &Value) -> Value {
    json!({ "type": "array", "minItems": 1, "items": items })
}

/// Names with a text each.
fn texts() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" } })
}

/// What a monitor selects, and how it reads.
fn monitor(endpoints: &str) -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let interval = json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" });
    let endpoint = object(&json!({ "port": text, "path": text, "interval": interval }));
    object(&json!({
        "selector": object(&json!({ "matchLabels": texts() })),
        endpoints: list(&endpoint),
    }))
}

fn rules() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let alert = json!({ "alert": text, "expr": text, "labels": texts(), "annotations": texts() });
    let mut alert = object(&alert);
    alert["properties"]["for"] = json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" });
    let group = object(&json!({ "name": text, "rules": list(&alert) }));
    object(&json!({ "groups": list(&group) }))
}

fn definition(kind: &str, spec: &Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.monitoring.coreos.com") },
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "singular": singular },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": object(&json!({ "spec": spec })) },
            }],
        },
    })
}

/// Makes the kinds known; nobody else in the testbed uses them.
pub(crate) async fn define(env: &Env) -> Result<()> {
    let all = json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            definition("PodMonitor", &monitor("podMetricsEndpoints")),
            definition("ServiceMonitor", &monitor("endpoints")),
            definition("PrometheusRule", &rules()),
        ],
    });
    let apply = ["apply", "--server-side", "--filename=-"];
    env.kubectl(&apply, &all.to_string())?;
    let kinds = KINDS.join(",");
    until("the kinds are served", SOON, async || {
        env.kubectl(&["get", &kinds], "")
    })
    .await?;
    Ok(())
}

/// Takes them away again.
pub(crate) fn forget(env: &Env) -> Result<()> {
    let delete = ["delete", "customresourcedefinitions", "--timeout=60s"];
    env.kubectl(&[&delete[..], &KINDS].concat(), "")?;
    Ok(())
}
