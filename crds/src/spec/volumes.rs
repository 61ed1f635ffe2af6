//! `spec.worker.volumes` and `spec.worker.volumeMounts`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A volume of the worker pods: a name and exactly one source.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.secret), has(self.configMap), has(self.emptyDir)].filter(x, x).size() == 1")
        .message("a volume must have exactly one of secret, configMap and emptyDir")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("!self.name.startsWith('process-')")
        .message("names of volumes may not start with process-, which is reserved for volumes of the operator")
        .reason(Reason::FieldValueForbidden)
        .field_path(".name")
)]
pub struct Volume {
    /// Name of the volume, to which a mount refers. May not start with `process-`.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::DNS_LABEL))]
    pub name: String,

    /// A Secret in the namespace of the Process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,

    /// A ConfigMap in the namespace of the Process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,

    /// An empty directory that lives as long as the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolume>,
}

/// A Secret as files.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub secret_name: String,

    /// Which keys become which files. Absent means all keys, each as a file of its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub items: Vec<KeyToPath>,

    /// Mode of the files as a decimal number, 0 to 511 (0777 octal). Default 420 (0644).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: Option<i32>,

    /// `true` lets the pod start when the Secret or a key does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A ConfigMap as files.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub name: String,

    /// Which keys become which files. Absent means all keys, each as a file of its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub items: Vec<KeyToPath>,

    /// Mode of the files as a decimal number, 0 to 511 (0777 octal). Default 420 (0644).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: Option<i32>,

    /// `true` lets the pod start when the ConfigMap or a key does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// One key as one file.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyToPath {
    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DATA_KEY))]
    pub key: String,

    /// The file, relative to the mount. May not start with `/` or contain `..`.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::RELATIVE_PATH))]
    #[x_kube(
        validation = Rule::new("!self.contains('..')")
            .message("path must not contain '..'")
            .reason(Reason::FieldValueInvalid)
    )]
    pub path: String,

    /// Mode of the file as a decimal number, 0 to 511 (0777 octal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub mode: Option<i32>,
}

/// An empty directory.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirVolume {
    /// `Memory` keeps the directory in memory; it then counts against the memory limit. Absent
    /// means the node's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::empty_dir_medium")]
    pub medium: Option<EmptyDirMedium>,

    /// How much the directory may hold, for example `1Gi`. A pod that exceeds it is evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_quantity")]
    pub size_limit: Option<Quantity>,
}

/// Where an empty directory is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmptyDirMedium {
    /// In memory (tmpfs).
    Memory,
}

/// Where a volume appears in the worker container.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Name of one of the volumes.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::DNS_LABEL))]
    pub name: String,

    /// Absolute path in the container. Paths that start with `/etc/process-` are reserved for the
    /// operator.
    #[schemars(length(min = 2, max = 253), regex(pattern = schema::ABSOLUTE_PATH))]
    #[x_kube(
        validation = Rule::new("!self.contains('..')")
            .message("mountPath must not contain '..'")
            .reason(Reason::FieldValueInvalid),
        validation = Rule::new("!self.startsWith('/etc/process-')")
            .message("paths that start with /etc/process- are reserved for the operator and may not be mounted over")
            .reason(Reason::FieldValueForbidden)
    )]
    pub mount_path: String,

    /// A file or directory within the volume. May not start with `/` or contain `..`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::RELATIVE_PATH))]
    #[x_kube(
        validation = Rule::new("!self.contains('..')")
            .message("subPath must not contain '..'")
            .reason(Reason::FieldValueInvalid)
    )]
    pub sub_path: Option<String>,

    /// `true` mounts it read-only. Secrets and ConfigMaps always are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}
