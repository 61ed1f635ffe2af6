//! The reference pages under `docs/reference`, generated from the schema and from the enums.

use std::fmt::Write as _;

use serde_json::Value;
use strum::IntoEnumIterator as _;

use crate::{ConditionType, ErrorCategory, Reason};

/// Fields that hold one of Kubernetes' own types. They are described in Kubernetes' reference, not
/// here.
const KUBERNETES_TYPES: [(&str, &str); 5] = [
    ("spec.worker.affinity", "Affinity"),
    ("spec.worker.tolerations", "Toleration"),
    (
        "spec.worker.topologySpreadConstraints",
        "TopologySpreadConstraint",
    ),
    ("spec.worker.livenessProbe", "Probe"),
    ("spec.worker.readinessProbe", "Probe"),
];

/// Maxima that only say which numbers exist.
const NO_LIMIT: [&str; 2] = ["2147483647", "9007199254740991"];

/// `docs/reference/process.md`: every field of a `Process`, from `schema`, the `openAPIV3Schema`
/// of its definition.
pub fn process_reference(schema: &Value) -> String {
    let mut page = String::from(
        "# Process\n\n\
         `ameide.io/v1`, kind `Process`, namespaced, short name `proc`. The same text is shown by\n\
         `kubectl explain process.spec --recursive`.\n\n",
    );
    line(&mut page, &text(schema));
    page.push_str("\n`metadata.name` is a DNS label of at most 40 characters, without dots.\n");
    rules(&mut page, schema);
    page.push_str(
        "\nAn optional field is left out, never null. Fields that hold one of Kubernetes' own types\n\
         are checked in detail when the Deployment is written; a refusal is shown as `InvalidSpec`.\n",
    );
    for field in ["spec", "status"] {
        section(&mut page, field, &schema["properties"][field]);
    }
    page
}

/// `docs/reference/conditions.md`: condition types, reasons and error categories.
pub fn conditions_reference() -> String {
    let mut page = String::from(
        "# Conditions and reasons\n\n\
         Types and reasons are part of the API: programs may compare them. They are not renamed and\n\
         do not change their meaning within `ameide.io/v1`; new ones may be added. Messages are for\n\
         people and may change.\n\n\
         `lastTransitionTime` moves only when `status` changes, not with reason or message.\n\
         `observedGeneration` is the `metadata.generation` that the condition is about: as long as it\n\
         is lower than the object's, the condition is about an earlier spec.\n\n\
         ## Types\n\n\
         | Type | When settled | Meaning |\n|---|---|---|\n",
    );
    for type_ in ConditionType::iter() {
        let good = if type_.positive() { "True" } else { "False" };
        line(
            &mut page,
            &format!("| `{type_}` | {good} | {} |", one_line(type_.meaning())),
        );
    }
    page.push_str("\n## Reasons\n\n| Reason | Meaning |\n|---|---|\n");
    for reason in Reason::iter() {
        line(
            &mut page,
            &format!("| `{reason}` | {} |", one_line(reason.meaning())),
        );
    }
    page.push_str(
        "\n## Errors\n\n\
         Each error falls into one category. The category decides whether the operator tries again by\n\
         itself, the reason in conditions and Events, and the label `category` of the error counter.\n\n\
         | Category | Reason | Metric label | Tried again | To be put right by |\n|---|---|---|---|---|\n",
    );
    for category in ErrorCategory::iter() {
        let again = if category.retryable() {
            "yes"
        } else {
            "after a change"
        };
        let whom = if category.user_fault() {
            "the user"
        } else {
            "the platform"
        };
        line(
            &mut page,
            &format!(
                "| `{category}` | `{}` | `{}` | {again} | {whom} |",
                category.reason(),
                category.metric_label()
            ),
        );
    }
    page
}

/// One heading and table for the object at `path`, and the same for the objects below it.
fn section(page: &mut String, path: &str, schema: &Value) {
    let object = element(schema);
    let Some(properties) = object["properties"].as_object() else {
        return;
    };
    line(
        page,
        &format!(
            "\n## {path}\n\n{}\n\n| Field | Type | Meaning |\n|---|---|---|",
            text(schema)
        ),
    );
    let required: Vec<&str> = object["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in properties {
        let mark = if required.contains(&name.as_str()) {
            " (required)"
        } else {
            ""
        };
        let kind = kind(&format!("{path}.{name}"), field);
        line(
            page,
            &format!(
                "| `{name}`{mark} | {kind} | {} |",
                text(field).replace("\n\n", " ")
            ),
        );
    }
    rules(page, object);
    for (name, field) in properties {
        // Rules on an object are listed in the section of the object.
        if field["properties"].is_null() {
            rules_of_field(page, name, field);
        }
    }
    for (name, field) in properties {
        let below = format!("{path}.{name}");
        if kubernetes_type(&below).is_none() {
            let suffix = if field["type"] == "array" { "[]" } else { "" };
            section(page, &format!("{below}{suffix}"), field);
        }
    }
}

/// The items of a list, or the thing itself.
fn element(schema: &Value) -> &Value {
    if schema["type"] == "array" {
        &schema["items"]
    } else {
        schema
    }
}

/// The rules on the object `schema`, one line each.
fn rules(page: &mut String, schema: &Value) {
    let messages: Vec<String> = messages(schema).collect();
    if !messages.is_empty() {
        page.push('\n');
        for message in messages {
            line(page, &format!("* {message}."));
        }
    }
}

/// The rules on the field `name`, one line each.
fn rules_of_field(page: &mut String, name: &str, field: &Value) {
    for message in messages(field) {
        line(page, &format!("\n`{name}`: {message}."));
    }
}

/// As Markdown: what is in angle brackets is not HTML.
fn messages(schema: &Value) -> impl Iterator<Item = String> {
    schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| Some(rule["message"].as_str()?.replace('<', "\\<")))
}

fn kubernetes_type(path: &str) -> Option<&'static str> {
    KUBERNETES_TYPES
        .iter()
        .find(|(p, _)| *p == path)
        .map(|(_, name)| *name)
}

/// Type, default and limits of a field in few words.
fn kind(path: &str, field: &Value) -> String {
    let list = if field["type"] == "array" {
        "list of "
    } else {
        ""
    };
    if let Some(name) = kubernetes_type(path) {
        return format!("{list}Kubernetes `{name}`");
    }
    let mut words = format!("{list}{}", base_kind(element(field)));
    if list.is_empty() && field["default"].is_object() {
        return words;
    }
    for (key, before, after) in [
        ("default", ", default `", "`"),
        ("minimum", ", at least ", ""),
        ("maximum", ", at most ", ""),
        ("maxLength", ", at most ", " characters"),
        ("maxItems", ", at most ", " entries"),
        ("maxProperties", ", at most ", " entries"),
    ] {
        if let Some(value) = plain(&field[key]).filter(|v| !NO_LIMIT.contains(&v.as_str())) {
            let _ = write!(words, "{before}{value}{after}");
        }
    }
    words
}

fn base_kind(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .filter_map(plain)
            .map(|v| format!("`{v}`"))
            .collect();
        return values.join(", ");
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "quantity".into();
    }
    if !schema["additionalProperties"].is_null() {
        return format!("map to {}", base_kind(&schema["additionalProperties"]));
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (_, Some("date-time")) => "time".into(),
        (Some(kind), _) => kind.into(),
        (None, _) => "any".into(),
    }
}

/// A scalar as text; numbers without the fraction that JSON schema gives them.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(
            number
                .as_i64()
                .map_or_else(|| number.to_string(), |n| n.to_string()),
        ),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn text(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .replace('|', "\\|")
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}
