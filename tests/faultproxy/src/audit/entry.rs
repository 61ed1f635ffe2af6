//! One audited request.

use std::fmt;

use anyhow::Result;
use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::Object;

/// A completed request, as the audit log tells it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Unique per request.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    stage: String,
    /// Path and query as requested.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` (server-side apply too), `delete` or
    /// `deletecollection`.
    pub verb: String,
    /// Who asked.
    pub user: User,
    /// Whom that user acted as, if somebody else.
    pub impersonated_user: Option<User>,
    /// The client's user agent.
    #[serde(default)]
    pub user_agent: String,
    /// What the request was about; absent for what is no resource, such as `/version`.
    pub object_ref: Option<ObjectRef>,
    /// The answer's code.
    pub response_status: Option<ResponseStatus>,
    /// What was sent, where the policy has objects logged.
    pub request_object: Option<Object>,
    /// What came back of it, where the policy has objects logged.
    pub response_object: Option<Object>,
    /// When the server got the request.
    pub request_received_timestamp: Timestamp,
    /// When it had answered.
    pub stage_timestamp: Timestamp,
}

/// Who made a request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    /// The user name, e.g. `system:serviceaccount:<namespace>:<name>`.
    #[serde(default)]
    pub username: String,
    /// The groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// What a request was about. What does not apply is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Plural resource name.
    pub resource: String,
    /// Namespace.
    pub namespace: String,
    /// Object name.
    pub name: String,
    /// API group; empty for the core group.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// `status`, `scale` and the like.
    pub subresource: String,
}

/// How a request was answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// The HTTP status code.
    pub code: u16,
    /// The reason of a failure, e.g. `Conflict`.
    pub reason: String,
    /// The message of a failure.
    pub message: String,
}

impl Entry {
    /// Reads one line. Nothing for stages before the request was complete.
    pub fn read(line: &[u8]) -> Result<Option<Self>> {
        let entry: Self = serde_json::from_slice(line)?;
        Ok((entry.stage == "ResponseComplete").then_some(entry))
    }

    /// The answer's code; 0 if the log has none.
    pub fn code(&self) -> u16 {
        self.response_status
            .as_ref()
            .map_or(0, |status| status.code)
    }

    /// The user in whose name the request was made.
    pub fn user(&self) -> &str {
        &self
            .impersonated_user
            .as_ref()
            .unwrap_or(&self.user)
            .username
    }

    /// A parameter of the query, such as `fieldManager`.
    pub fn param(&self, name: &str) -> Option<String> {
        let (_, query) = self.request_uri.split_once('?')?;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Whether the request would store something, whatever its answer: every mutating verb, also
    /// when nothing changed in the end, but not dry runs and not reviews and tokens, whose
    /// `create` stores nothing.
    pub fn is_mutating(&self) -> bool {
        let verb = matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        );
        let stored = self.object_ref.as_ref().is_none_or(|object| {
            !crate::kube::stores_nothing(&object.api_group, &object.resource, &object.subresource)
        });
        verb && stored
            && self
                .param("dryRun")
                .is_none_or(|dry_run| dry_run.is_empty())
    }
}

/// One line for the message of a failed assertion.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} -> {}",
            self.request_received_timestamp,
            self.user(),
            self.verb,
            self.request_uri,
            self.code()
        )
    }
}
