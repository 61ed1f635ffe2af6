//! Patterns and hand-written pieces of the schema.
//!
//! Patterns are RE2 (the API server's engine): no look-around. They accept what the named thing
//! accepts elsewhere, so that a value is refused when it is written and not when it is used.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Characters of an image reference, without whitespace.
pub(crate) const IMAGE: &str = r"^[A-Za-z0-9\[][A-Za-z0-9._:/@+\[\]-]*$";
/// RFC 1123 label.
pub(crate) const DNS_LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// RFC 1123 subdomain: names of Secrets, ConfigMaps and ServiceAccounts.
pub(crate) const DNS_SUBDOMAIN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Ids of definitions and tenants; they become environment variables and nothing else.
pub(crate) const OPAQUE_ID: &str = r"^[A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?$";
/// Names of Temporal namespaces; the dot is for Temporal Cloud (`namespace.account`).
pub(crate) const TEMPORAL_NAME: &str = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
/// Names of task queues. Temporal accepts more, but a name with spaces or quotes is a typo.
pub(crate) const TASK_QUEUE: &str = r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$";
/// Workflow types. Temporal accepts more, but a type with spaces or quotes is a typo.
pub(crate) const WORKFLOW_TYPE: &str = r"^[A-Za-z0-9_$]([A-Za-z0-9._:/$@<>-]*[A-Za-z0-9_$>])?$";
/// One or more of `host:port`, separated by commas; an IPv6 address in brackets.
pub(crate) const BOOTSTRAP_SERVERS: &str = r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}(,([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5})*$";
/// Names of topics, as Kafka has them.
pub(crate) const TOPIC: &str = r"^[A-Za-z0-9._-]+$";
/// An address without user, password, query and fragment.
pub(crate) const REGISTRY_URL: &str = r"^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&'()*+,;=:-]*)*$";
/// Five fields of cron, or one of its words. What a field may hold is checked when the CronJob is made.
pub(crate) const CRON: &str = r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$";
/// Names of the time zone database. A rule refuses `Local`, as Kubernetes does.
pub(crate) const TIME_ZONE: &str = r"^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$";
/// Names of environment variables, as Kubernetes has them.
pub(crate) const ENV_NAME: &str = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$";
/// Keys of Secrets and ConfigMaps.
pub(crate) const DATA_KEY: &str = r"^[-._a-zA-Z0-9]+$";
/// Fields of a pod that can become an environment variable.
pub(crate) const POD_FIELD: &str = r"^(metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[-A-Za-z0-9_./]+'\]|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs))$";
/// A path below a mount.
pub(crate) const RELATIVE_PATH: &str = r"^[^/\s:][^\s:]*$";
/// An absolute path other than `/`.
pub(crate) const ABSOLUTE_PATH: &str = r"^/[^\s:]+$";
/// A Kubernetes quantity (apimachinery, `resource.Quantity`), not negative.
const QUANTITY: &str = r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
/// Values of labels.
const LABEL_VALUE: &str = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// A quantity: `anyOf` with a pattern is the form in which Kubernetes accepts both `1` and `1Gi`.
pub(crate) fn optional_quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": QUANTITY,
        "maxLength": 32,
        "x-kubernetes-int-or-string": true,
    })
}

/// Where an empty directory is kept. By hand, since the derive puts the description of the type in
/// the place of the field's.
pub(crate) fn empty_dir_medium(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Memory"]})
}

/// Resource names to quantities.
pub(crate) fn quantity_map(generate: &mut SchemaGenerator) -> Schema {
    let quantity = optional_quantity(generate);
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": quantity,
    })
}

/// Words of a command line.
pub(crate) fn command(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {"type": "string", "maxLength": 4096},
        "x-kubernetes-list-type": "atomic",
    })
}

/// Argument of a workflow: an object of any form.
pub(crate) fn gate_input(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Labels.
pub(crate) fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE},
    })
}

/// Annotations.
pub(crate) fn annotation_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 16_384},
    })
}

/// Tags of metrics.
pub(crate) fn metrics_tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// `metav1.Condition`, as Kubernetes' own generator writes it.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "description": "One aspect of the state of the Process.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "Which aspect, for example Ready.",
                    "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "type": "string",
                    "description": "Whether it holds: True, False or Unknown.",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "type": "string",
                    "description": "Why, as one word that programs can rely on.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "Why, in words.",
                    "maxLength": 32_768,
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When status last changed from one value to another.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that the condition is about.",
                },
            },
        },
    })
}
