//! `spec.worker`: how the worker pods look.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, Probe, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{EnvFromSource, EnvVar, Volume, VolumeMount};
use crate::schema;

/// How the worker pods look. Only the fields listed here can be set: the pods keep to Pod Security
/// Standard `restricted`, and what the operator sets cannot be overridden.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))"
    )
        .message("every entry of volumeMounts must name one of volumes")
        .reason(Reason::FieldValueInvalid)
        .field_path(".volumeMounts")
)]
pub struct Worker {
    /// CPU, memory and other resources of the worker container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Environment variables of the worker container, beside those that the operator sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,

    /// Secrets and ConfigMaps whose keys become environment variables. Of equal names the later
    /// entry wins; `env` and what the operator sets win over all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub env_from: Vec<EnvFromSource>,

    /// Replaces the image's entrypoint. `$(NAME)` is replaced by environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub command: Vec<String>,

    /// Replaces the image's arguments. `$(NAME)` is replaced by environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub args: Vec<String>,

    /// ServiceAccount of the worker pods, in the namespace of the Process. Absent means `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub service_account_name: Option<String>,

    /// Labels that a node must have to run worker pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::label_map")]
    #[x_kube(
        validation = Rule::new(r"self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))")
            .message("keys of nodeSelector must be a name of letters, digits, '-', '_' and '.', with an optional DNS prefix and a slash before it")
            .reason(Reason::FieldValueInvalid)
    )]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that worker pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,

    /// Where worker pods should and should not run, relative to nodes and other pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How worker pods are spread over zones, nodes and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// Seconds that a worker has to end its activities after it was told to stop, 0 to 86400.
    /// Absent means 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub termination_grace_period_seconds: Option<i64>,

    /// Further labels of the worker pods. Keys that start with `app.kubernetes.io/`,
    /// `ameide.io/`, `kubernetes.io/` or `k8s.io/` are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::label_map")]
    #[x_kube(
        validation = Rule::new(r"self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))")
            .message("keys of podLabels must be a name of letters, digits, '-', '_' and '.', with an optional DNS prefix and a slash before it")
            .reason(Reason::FieldValueInvalid),
        validation = Rule::new(
            "self.all(k, !(k.startsWith('app.kubernetes.io/') || k.startsWith('ameide.io/') || k.startsWith('kubernetes.io/') || k.startsWith('k8s.io/')))"
        )
            .message("labels that start with app.kubernetes.io/, ameide.io/, kubernetes.io/ or k8s.io/ are reserved and may not be set")
            .reason(Reason::FieldValueForbidden),
        validation = Rule::new("!('pod-template-hash' in self)")
            .message("label pod-template-hash belongs to Kubernetes and may not be set")
            .reason(Reason::FieldValueForbidden)
    )]
    pub pod_labels: BTreeMap<String, String>,

    /// Further annotations of the worker pods. Keys that start with `app.kubernetes.io/`,
    /// `ameide.io/`, `kubernetes.io/` or `k8s.io/` are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotation_map")]
    #[x_kube(
        validation = Rule::new(r"self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))")
            .message("keys of podAnnotations must be a name of letters, digits, '-', '_' and '.', with an optional DNS prefix and a slash before it")
            .reason(Reason::FieldValueInvalid),
        validation = Rule::new(
            "self.all(k, !(k.startsWith('app.kubernetes.io/') || k.startsWith('ameide.io/') || k.startsWith('kubernetes.io/') || k.startsWith('k8s.io/')))"
        )
            .message("annotations that start with app.kubernetes.io/, ameide.io/, kubernetes.io/ or k8s.io/ are reserved and may not be set")
            .reason(Reason::FieldValueForbidden)
    )]
    pub pod_annotations: BTreeMap<String, String>,

    /// When the worker container is restarted. Absent means only when it exits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,

    /// When a worker counts as ready. Absent means as soon as it runs; that it polls its task
    /// queue is checked in Temporal in either case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,

    /// User and groups that the worker runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,

    /// Volumes of the worker pods: Secrets, ConfigMaps and empty directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub volumes: Vec<Volume>,

    /// Where the volumes appear in the worker container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volume_mounts: Vec<VolumeMount>,
}

/// Resources of the worker container.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// The most the container may use, for example `memory: 512Mi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantity_map")]
    pub limits: BTreeMap<String, Quantity>,

    /// What is set aside for the container, for example `cpu: 100m`. Absent means the limits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantity_map")]
    pub requests: BTreeMap<String, Quantity>,
}

/// User and groups that the worker runs as. The rest of the security context is fixed: not root,
/// no privilege escalation, no capabilities, the runtime's default seccomp profile.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// User id of the worker, 1 to 2147483647; root is refused. Absent means the image's user,
    /// which then must be given as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_user: Option<i64>,

    /// Group id of the worker, 0 to 2147483647.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647_i64))]
    pub run_as_group: Option<i64>,

    /// Group that owns the volumes, 0 to 2147483647.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647_i64))]
    pub fs_group: Option<i64>,
}
