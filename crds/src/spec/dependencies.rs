//! `spec.dependencies`: what the workers need beside Temporal.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectName;
use crate::schema;

/// What the workers need beside Temporal.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependencies {
    /// Domains in the namespace of the Process, at most 32. They must exist and be Ready before the first
    /// version is deployed. One that is not later on makes the Process `Degraded`; running workers
    /// stay. A change does not make a new version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub domains: Vec<ObjectName>,

    /// Agents in the namespace of the Process, at most 32, by the same rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub agents: Vec<ObjectName>,

    /// Topics that the workers publish and subscribe to. A change makes a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eventing: Option<Eventing>,
}

/// Topics of event buses, and how the workers reach the buses. The workers get all of it as the JSON
/// file `/etc/process-eventing/bindings.json`, whose path is in the environment variable
/// `PROCESS_EVENTING_FILE`, so that no name of an environment is written into their code. The
/// operator connects to no bus and reads no credentials.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.bindings) || self.bindings.all(b, has(self.clusters) && self.clusters.exists(c, c.name == b.cluster))"
    )
        .message("cluster of every entry of bindings must be the name of one of clusters")
        .reason(Reason::FieldValueInvalid)
        .field_path(".bindings")
)]
pub struct Eventing {
    /// Event buses, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub clusters: Vec<EventingCluster>,

    /// Topics, at most 64. Each has a name by which the workers' code knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub bindings: Vec<EventingBinding>,
}

/// One event bus.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventingCluster {
    /// Name by which bindings refer to it, at most 40 characters.
    #[schemars(length(min = 1, max = 40), regex(pattern = schema::DNS_LABEL))]
    pub name: String,

    /// Where the bus is reached first: `host:port`, several separated by commas.
    #[schemars(length(min = 1, max = 1024), regex(pattern = schema::BOOTSTRAP_SERVERS))]
    pub bootstrap_servers: String,

    /// Secret in the namespace of the Process with the credentials. Its keys become files below
    /// `/etc/process-eventing-credentials/<name>`, a path that the JSON file names as well. A change
    /// of its content reaches running workers as changed files and makes no new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<ObjectName>,
}

/// One topic.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventingBinding {
    /// Name by which the workers' code knows the topic.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::DNS_LABEL))]
    pub name: String,

    /// The topic, for example `scrum.domain.intents.v1`: letters, digits, `.`, `_` and `-`.
    #[schemars(length(min = 1, max = 249), regex(pattern = schema::TOPIC))]
    pub topic: String,

    /// Whether the workers write to the topic or read it.
    pub direction: Direction,

    /// Name of one of `clusters`.
    #[schemars(length(min = 1, max = 40), regex(pattern = schema::DNS_LABEL))]
    pub cluster: String,
}

/// Which way events go.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
pub enum Direction {
    /// From the workers to the topic.
    Publish,
    /// From the topic to the workers.
    Subscribe,
}
