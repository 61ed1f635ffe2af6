//! `spec.worker.env` and `spec.worker.envFrom`.

#![allow(
    clippy::struct_field_names,
    reason = "the names are those of Kubernetes"
)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// One environment variable of the worker container.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)")
        .message("an environment variable must have either value or valueFrom")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new(
        "!self.name.startsWith('TEMPORAL_') && !self.name.startsWith('PROCESS_') && \
         !(self.name in ['TASK_QUEUE', 'MAX_CONCURRENCY_PER_TENANT', 'METRICS_TAGS', 'METRICS_PORT'])"
    )
        .message("environment variables TEMPORAL_*, PROCESS_*, TASK_QUEUE, MAX_CONCURRENCY_PER_TENANT, METRICS_TAGS and METRICS_PORT are set by the operator and may not be overridden")
        .reason(Reason::FieldValueForbidden)
        .field_path(".name")
)]
pub struct EnvVar {
    /// Name of the variable: letters, digits, `_`, `-` and `.`, not starting with a digit. Names
    /// that the operator sets (`TEMPORAL_*`, `PROCESS_*`, `TASK_QUEUE`,
    /// `MAX_CONCURRENCY_PER_TENANT`, `METRICS_TAGS`, `METRICS_PORT`) are refused.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::ENV_NAME))]
    pub name: String,

    /// The value itself. `$(NAME)` is replaced by the value of a variable named before it. Put
    /// secrets in a Secret and use `valueFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub value: Option<String>,

    /// Where the value comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where the value of a variable comes from: exactly one of the fields.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(x, x).size() == 1"
    )
        .message("valueFrom must have exactly one of secretKeyRef, configMapKeyRef and fieldRef")
        .reason(Reason::FieldValueInvalid)
)]
pub struct EnvVarSource {
    /// A key of a Secret in the namespace of the Process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,

    /// A key of a ConfigMap in the namespace of the Process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,

    /// A field of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

/// A key of a Secret or ConfigMap.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the Secret or ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub name: String,

    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DATA_KEY))]
    pub key: String,

    /// `true` lets the pod start when the object or the key does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A field of the pod.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// One of `metadata.name`, `metadata.namespace`, `metadata.uid`, `metadata.labels['KEY']`,
    /// `metadata.annotations['KEY']`, `spec.nodeName`, `spec.serviceAccountName`,
    /// `status.hostIP`, `status.hostIPs`, `status.podIP`, `status.podIPs`.
    #[schemars(length(min = 1, max = 400), regex(pattern = schema::POD_FIELD))]
    pub field_path: String,
}

/// All keys of a Secret or ConfigMap as environment variables: exactly one of `secretRef` and
/// `configMapRef`. A variable that the operator or `env` sets wins over one from here.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretRef) != has(self.configMapRef)")
        .message("an entry of envFrom must have either secretRef or configMapRef")
        .reason(Reason::FieldValueInvalid)
)]
pub struct EnvFromSource {
    /// Put before each key to make the name of the variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::ENV_NAME))]
    pub prefix: Option<String>,

    /// A Secret in the namespace of the Process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretSource>,

    /// A ConfigMap in the namespace of the Process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapSource>,
}

/// A Secret in the namespace of the Process.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub name: String,

    /// `true` lets the pod start when the Secret does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A ConfigMap in the namespace of the Process.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub name: String,

    /// `true` lets the pod start when the ConfigMap does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}
