//! What a user asks for: `spec` of a `Process`.

#![allow(
    unreachable_pub,
    reason = "the KubeSchema derive copies each struct, `pub` included, into a function body"
)]

mod canary;
mod cron_job;
mod deletion;
mod dependencies;
mod drain;
mod env;
mod observability;
mod rollout;
mod temporal;
mod volumes;
mod worker;

pub use canary::{Analysis, Gate, Pause, RolloutStep};
pub use cron_job::{ConcurrencyPolicy, CronJob, CronJobPurpose};
pub use deletion::{Deletion, DeletionPolicy};
pub use dependencies::{Dependencies, Direction, Eventing, EventingBinding, EventingCluster};
pub use drain::{Drain, DrainOnTimeout};
pub use env::{
    ConfigMapSource, EnvFromSource, EnvVar, EnvVarSource, FieldRef, KeyRef, SecretSource,
};
pub use observability::Observability;
pub use rollout::{OnFailure, Rollout, RolloutStrategy, Versioning};
pub use temporal::{Temporal, connection_keys};
pub use volumes::{
    ConfigMapVolume, EmptyDirMedium, EmptyDirVolume, KeyToPath, SecretVolume, Volume, VolumeMount,
};
pub use worker::{Resources, SecurityContext, Worker};

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{schema, status::ProcessStatus};

/// Temporal workers that run one image on one task queue, and how a new version of them takes
/// over from the old one.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ameide.io",
    version = "v1",
    kind = "Process",
    plural = "processes",
    singular = "process",
    shortname = "proc",
    category = "ameide",
    namespaced,
    status = "ProcessStatus",
    derive = "PartialEq",
    doc = "A Process is a set of Temporal workers: one image that serves one task queue. The \
           operator starts the workers, makes a new version current when it is ready, and keeps \
           the old version running until the workflows that are pinned to it have ended.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the workers serve the task queue."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why the Process is or is not ready."
    ),
    printcolumn(
        name = "Current",
        type_ = "string",
        json_path = ".status.currentVersion.buildId",
        description = "Build id of the version that takes new workflows."
    ),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".status.targetVersion.buildId",
        description = "Build id of the version that spec asks for."
    ),
    printcolumn(
        name = "Weight",
        type_ = "integer",
        json_path = ".status.rollout.weight",
        description = "Percentage of new workflows that the target version takes while it is rolled out."
    ),
    printcolumn(
        name = "Draining",
        type_ = "string",
        json_path = ".status.draining[*].buildId",
        description = "Build id of the oldest retired version that still runs workflows."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Task Queue",
        type_ = "string",
        json_path = ".spec.temporal.taskQueue",
        priority = 1
    ),
    printcolumn(
        name = "Temporal NS",
        type_ = "string",
        json_path = ".spec.temporal.namespace",
        priority = 1
    ),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name must be no longer than 40 characters, since names of Deployments and labels are derived from it")
        .reason(Reason::FieldValueInvalid)
        .field_path(".metadata.name"),
    validation = Rule::new("!self.metadata.name.contains('.')")
        .message("metadata.name must not contain dots: it becomes part of the name of a Temporal Worker Deployment, which refuses them")
        .reason(Reason::FieldValueInvalid)
        .field_path(".metadata.name"),
    validation = Rule::new(
        "!has(oldSelf.status) || !(has(oldSelf.status.currentVersion) || has(oldSelf.status.targetVersion)) \
         || self.spec.temporal.__namespace__ == oldSelf.spec.temporal.__namespace__"
    )
        .message("spec.temporal.namespace may not change once a version has been deployed; create another Process instead")
        .reason(Reason::FieldValueForbidden)
        .field_path(".spec.temporal.namespace"),
    validation = Rule::new(
        "!has(oldSelf.status) || !(has(oldSelf.status.currentVersion) || has(oldSelf.status.targetVersion)) \
         || self.spec.temporal.taskQueue == oldSelf.spec.temporal.taskQueue"
    )
        .message("spec.temporal.taskQueue may not change once a version has been deployed; create another Process instead")
        .reason(Reason::FieldValueForbidden)
        .field_path(".spec.temporal.taskQueue"),
    validation = Rule::new(
        "!has(oldSelf.status) || !(has(oldSelf.status.currentVersion) || has(oldSelf.status.targetVersion)) \
         || (has(self.spec.rollout) && has(self.spec.rollout.versioning) ? self.spec.rollout.versioning : 'WorkerVersioning') \
         == (has(oldSelf.spec.rollout) && has(oldSelf.spec.rollout.versioning) ? oldSelf.spec.rollout.versioning : 'WorkerVersioning')"
    )
        .message("spec.rollout.versioning may not change once a version has been deployed; create another Process instead")
        .reason(Reason::FieldValueForbidden)
        .field_path(".spec.rollout.versioning"),
    validation = Rule::new(
        "!has(self.spec.drain) || !has(self.spec.drain.onTimeout) || self.spec.drain.onTimeout != 'MoveToCurrent' \
         || !has(self.spec.rollout) || !has(self.spec.rollout.versioning) || self.spec.rollout.versioning == 'WorkerVersioning'"
    )
        .message("spec.drain.onTimeout must not be MoveToCurrent unless spec.rollout.versioning is WorkerVersioning: a workflow cannot move to another task queue")
        .reason(Reason::FieldValueForbidden)
        .field_path(".spec.drain.onTimeout"),
    validation = Rule::new(
        "!has(self.spec.cronJobs) || self.spec.cronJobs.all(c, self.metadata.name.size() + c.name.size() <= 51)"
    )
        .message("the name of the Process and that of a cron job must be no longer than 51 characters together, since the CronJob is called <process>-<name>")
        .reason(Reason::FieldValueInvalid)
        .field_path(".spec.cronJobs"),
)]
#[serde(rename_all = "camelCase")]
pub struct ProcessSpec {
    /// Image of the worker, for example `ghcr.io/acme/l2o-process:0.7.0`. The container is
    /// started with the connection to Temporal, the task queue and the build id in its
    /// environment. A change makes a new version.
    #[schemars(length(min = 1, max = 512), regex(pattern = schema::IMAGE))]
    pub image: String,

    /// When the node pulls the image: `Always`, `IfNotPresent` or `Never`. Use `Always` only for
    /// tags that are moved. A change makes a new version.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets of type `kubernetes.io/dockerconfigjson`, in the namespace of the Process, with
    /// which the image is pulled. A change makes a new version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ObjectName>,

    /// How many worker pods each live version has, 0 to 1000. Can be set by `kubectl scale` and by
    /// a HorizontalPodAutoscaler that targets the Process. A change does not make a new version.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// The process definition that the workers implement. The operator passes it on to the
    /// workers and does not interpret it. A change makes a new version.
    pub definition_ref: DefinitionRef,

    /// Where the workers find their work.
    pub temporal: Temporal,

    /// What the workers need beside Temporal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Dependencies>,

    /// How the worker pods look. A change makes a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Worker>,

    /// How a new version takes over.
    #[serde(default)]
    pub rollout: Rollout,

    /// How an old version ends. A change does not make a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,

    /// What the deletion of the Process waits for. A change does not make a new version.
    #[serde(default)]
    pub deletion: Deletion,

    /// Work beside the workers, by the clock, at most 16. A change does not make a new version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub cron_jobs: Vec<CronJob>,

    /// What the workers report about themselves. A change makes a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,

    /// `true` makes the operator stop acting on this Process: nothing is created, changed or
    /// removed, running workers stay as they are. It keeps observing, and its conditions say
    /// `Suspended`. Deletion still works.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub suspend: bool,
}

/// When the node pulls the worker image.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
)]
pub enum ImagePullPolicy {
    /// At every start of a pod.
    Always,
    /// When the node does not have the image.
    #[default]
    IfNotPresent,
    /// Never; the image must be on the node.
    Never,
}

impl ImagePullPolicy {
    /// The value as Kubernetes spells it in a container.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The name of an object in the namespace of the Process.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))]
    pub name: String,
}

/// Which process definition the workers implement.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.configMapRef) && has(self.registry))")
        .message("configMapRef and registry must not both be set; remove one of them")
        .reason(Reason::FieldValueForbidden)
        .field_path(".registry")
)]
pub struct DefinitionRef {
    /// Id of the definition; the workers get it as environment variable `PROCESS_DEFINITION_ID`.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OPAQUE_ID))]
    pub id: String,

    /// Tenant that the definition belongs to; the workers get it as environment variable
    /// `PROCESS_TENANT_ID`.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OPAQUE_ID))]
    pub tenant_id: String,

    /// ConfigMap in the namespace of the Process with the raw definition, which the workers read below
    /// `/etc/process-definition`, a path that they have as `PROCESS_DEFINITION_PATH`. It must exist before the first version is deployed. A change of its
    /// content makes a new version, and each version keeps the content that it began with. Its label
    /// `ameide.io/definition-version` is the version in status. Absent means that id and tenant are
    /// passed on and nothing is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ObjectName>,

    /// Registry that the operator fetches the raw definition from, instead of `configMapRef`. The workers
    /// read it in the same way. The operator must have been started with `--definition-registry` for the
    /// host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
}

/// Where a raw definition is fetched from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// With `Get` the address of the definition itself; with `Connect` that of the procedure, which ends in
    /// `/<service>/<method>`. Without user, password and query: what the registry asks for to
    /// let the operator in is configured with the operator.
    #[schemars(length(min = 1, max = 2048), regex(pattern = schema::REGISTRY_URL))]
    pub url: String,

    /// How the registry is spoken to.
    #[serde(default)]
    pub protocol: RegistryProtocol,

    /// Seconds after which the operator asks whether the definition has changed, 10 to 86400.
    #[serde(default = "default_refresh_seconds")]
    #[schemars(range(min = 10, max = 86_400))]
    pub refresh_seconds: i64,
}

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RegistryProtocol {
    /// A plain GET whose answer is the definition.
    #[default]
    Get,
    /// A unary procedure of the Connect protocol with messages as JSON, which gets `id` and `tenantId`.
    Connect,
}

fn default_refresh_seconds() -> i64 {
    300
}

fn default_replicas() -> i32 {
    1
}
