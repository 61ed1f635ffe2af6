//! What a request to kube-apiserver asks for, read from its method, path and query the way the
//! server itself does.

use std::fmt;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, header};
use serde_json::Value;

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object, or something that is no resource.
    Get,
    /// Read a collection.
    List,
    /// Follow changes.
    Watch,
    /// `POST`.
    Create,
    /// `PUT`.
    Update,
    /// `PATCH` other than server-side apply.
    Patch,
    /// Server-side apply.
    Apply,
    /// `DELETE` of one object.
    Delete,
    /// `DELETE` of a collection.
    DeleteCollection,
    /// Anything else.
    Other,
}

impl Verb {
    /// The verb in lower case, as RBAC and the audit log name it (which call an apply `patch`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Apply => "apply",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "other",
        }
    }

    fn mutates(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch | Self::Other)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One request to kube-apiserver. What does not apply is empty, as in an audit event.
#[derive(Clone)]
pub struct KubeRequest {
    /// What is done.
    pub verb: Verb,
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name; empty if the path names none (`/version`, discovery).
    pub resource: String,
    /// `status`, `scale`, `log` and the like.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Object name, from the path, the body of a create, or a `metadata.name` field selector.
    pub name: String,
    /// The client's user agent.
    pub user_agent: String,
    /// The field manager: as given, else what the server would derive from the user agent.
    pub field_manager: String,
    /// Whether the request asked that nothing be stored.
    pub dry_run: bool,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The body as sent.
    pub body: Bytes,
}

impl KubeRequest {
    pub(crate) fn parse(parts: &Parts, body: Bytes) -> Self {
        let query: Vec<(String, String)> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let text = |name: header::HeaderName| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let mut request = Self {
            verb: Verb::Other,
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            user_agent: text(header::USER_AGENT).to_owned(),
            field_manager: String::new(),
            dry_run: query
                .iter()
                .any(|(key, value)| key == "dryRun" && !value.is_empty()),
            path: parts.uri.path().to_owned(),
            query,
            body,
        };
        let watch_path = request.read_path();
        request.verb = match parts.method {
            Method::GET | Method::HEAD => request.reading(watch_path),
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH if text(header::CONTENT_TYPE).starts_with("application/apply-patch") => {
                Verb::Apply
            }
            Method::PATCH => Verb::Patch,
            Method::DELETE if request.name.is_empty() => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ => Verb::Other,
        };
        request.complete();
        request
    }

    /// Reads group, version, namespace, resource, name and subresource. True for a path of the
    /// old `/watch/` form.
    fn read_path(&mut self) -> bool {
        let path = self.path.clone();
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        match parts.next() {
            Some("api") => {}
            Some("apis") => parts.next().unwrap_or_default().clone_into(&mut self.group),
            _ => return false,
        }
        parts
            .next()
            .unwrap_or_default()
            .clone_into(&mut self.version);
        let watch = parts.next_if_eq(&"watch").is_some();
        let rest: Vec<&str> = parts.collect();
        let rest = match rest.as_slice() {
            // A namespace's own subresources; any other third part is a resource in it.
            ["namespaces", _, "status" | "finalize"] => rest.as_slice(),
            ["namespaces", namespace, tail @ ..] if !tail.is_empty() => {
                (*namespace).clone_into(&mut self.namespace);
                tail
            }
            whole => whole,
        };
        let mut rest = rest.iter().copied();
        let mut next = || rest.next().unwrap_or_default().to_owned();
        (self.resource, self.name, self.subresource) = (next(), next(), next());
        if self.resource == "namespaces" && self.group.is_empty() {
            self.namespace.clone_from(&self.name);
        }
        watch
    }

    fn reading(&self, watch_path: bool) -> Verb {
        let watch = watch_path || matches!(self.param("watch"), Some("true" | "1" | ""));
        match (self.resource.is_empty(), self.name.is_empty()) {
            (false, _) if watch_path => Verb::Watch,
            (false, true) if watch => Verb::Watch,
            (false, true) => Verb::List,
            _ => Verb::Get,
        }
    }

    /// What the path does not say.
    fn complete(&mut self) {
        if self.name.is_empty() && matches!(self.verb, Verb::List | Verb::Watch) {
            let selected = self.param("fieldSelector").and_then(|selector| {
                selector.split(',').find_map(|term| {
                    let (field, value) = term.split_once('=')?;
                    (field == "metadata.name").then(|| value.trim_start_matches('=').to_owned())
                })
            });
            self.name = selected.unwrap_or_default();
        }
        if self.name.is_empty() && self.verb == Verb::Create {
            let body = self.object().unwrap_or_default();
            body["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut self.name);
        }
        if self.verb.mutates() {
            self.field_manager = match self.param("fieldManager") {
                Some(manager) => manager.to_owned(),
                None => self
                    .user_agent
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            };
        }
    }

    /// A parameter of the query.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON, if it is.
    pub fn object(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether the request would store something: every mutating verb, also when nothing changes
    /// in the end, but not dry runs and not reviews and tokens, whose `create` stores nothing.
    pub fn is_write(&self) -> bool {
        self.verb.mutates()
            && !self.dry_run
            && !stores_nothing(&self.group, &self.resource, &self.subresource)
    }

    /// `deployments` or `deployments.apps`: whether the request is about this resource. An empty
    /// group is every group.
    pub fn is_about(&self, resource: &str) -> bool {
        match resource.split_once('.') {
            Some((plural, group)) => self.resource == plural && self.group == group,
            None => self.resource == resource,
        }
    }

    /// The resource with its group, as kubectl writes it: `deployments.apps`, `pods`.
    pub fn full_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// Kinds whose `create` is a question, not a write.
pub(crate) fn stores_nothing(group: &str, resource: &str, subresource: &str) -> bool {
    matches!(group, "authorization.k8s.io" | "authentication.k8s.io")
        || (resource == "serviceaccounts" && subresource == "token")
}

impl fmt::Debug for KubeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.path)?;
        if self.verb == Verb::Create && !self.name.is_empty() && !self.path.contains(&self.name) {
            write!(f, "/{}", self.name)?;
        }
        if self.field_manager.is_empty() {
            Ok(())
        } else {
            write!(f, " by {}", self.field_manager)
        }
    }
}

#[cfg(test)]
mod tests;
