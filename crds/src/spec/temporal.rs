//! `spec.temporal`: where the workers find their work.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::ObjectName;
use crate::schema;

/// Where the workers find their work.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Temporal {
    /// Temporal namespace in which the workflows run. It must exist. May not change once a version
    /// has been deployed.
    #[schemars(length(min = 1, max = 255), regex(pattern = schema::TEMPORAL_NAME))]
    pub namespace: String,

    /// Task queue that the workers poll. Two Processes may not share a queue of the same Temporal
    /// namespace: the older one keeps it. May not change once a version has been deployed.
    #[schemars(length(min = 1, max = 255), regex(pattern = schema::TASK_QUEUE))]
    pub task_queue: String,

    /// Secret in the namespace of the Process that tells the workers how to reach Temporal. Keys,
    /// all optional: `address` (`host:port`), `tls.crt` and `tls.key` (client certificate),
    /// `ca.crt` (the server's certificate authority), `serverName` (name in the server's
    /// certificate), `apiKey`. What is missing comes from the operator's configuration. A change
    /// of the name makes a new version; a change of the content does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret_ref: Option<ObjectName>,
}

/// Keys of the Secret that `connectionSecretRef` names.
pub mod connection_keys {
    /// `host:port` of the Temporal frontend.
    pub const ADDRESS: &str = "address";
    /// Client certificate, PEM.
    pub const TLS_CERT: &str = "tls.crt";
    /// Private key of the client certificate, PEM.
    pub const TLS_KEY: &str = "tls.key";
    /// Certificate authority of the server, PEM.
    pub const CA_CERT: &str = "ca.crt";
    /// API key sent with every request.
    pub const API_KEY: &str = "apiKey";
    /// Name that the server's certificate must carry.
    pub const SERVER_NAME: &str = "serverName";
}
