//! `spec.observability`: what the workers report about themselves.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What the workers report about themselves.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observability {
    /// Tags for the workers' metrics, at most 16. The workers get them as environment variable
    /// `METRICS_TAGS`, a JSON object. Keys are names of Prometheus labels: letters, digits and
    /// underscores, at most 63 characters, not starting with a digit or with two underscores.
    /// Values have at most 63 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::metrics_tags")]
    #[x_kube(
        validation = Rule::new(
            "self.all(k, k.size() <= 63 && k.matches('^[A-Za-z_][A-Za-z0-9_]*$') && !k.startsWith('__'))"
        )
        .message("keys of metricsTags must be names of Prometheus labels: letters, digits and underscores, at most 63 characters, not starting with a digit or with two underscores")
        .reason(Reason::FieldValueInvalid)
    )]
    pub metrics_tags: BTreeMap<String, String>,

    /// Port on which the workers serve Prometheus metrics, 1 to 65535. The workers get it as
    /// environment variable `METRICS_PORT`, and the container has a port named `metrics` for a
    /// PodMonitor. Absent means no metrics port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub metrics_port: Option<i32>,
}
