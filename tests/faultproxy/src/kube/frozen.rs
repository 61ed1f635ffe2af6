//! A past view of a resource, served instead of the present one: what a client sees of an API
//! server that lags behind.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::kube::answer::{Answer, json_response};
use crate::kube::request::{KubeRequest, Verb};
use crate::kube::selector::{fields_match, labels_match};

/// All objects of one resource as they were at some moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    group: String,
    api_version: String,
    kind: String,
    resource: String,
    resource_version: Option<String>,
    objects: Vec<Value>,
}

impl Snapshot {
    /// An empty view, e.g. `Snapshot::new("apps/v1", "Deployment", "deployments")`.
    pub fn new(api_version: &str, kind: &str, resource: &str) -> Self {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self {
            group: group.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            resource: resource.to_owned(),
            resource_version: None,
            objects: Vec::new(),
        }
    }

    /// Adds an object as it is to be seen.
    #[must_use]
    pub fn object(mut self, mut object: Value) -> Self {
        // Items of a list carry neither when the kind is built in.
        object["apiVersion"] = self.api_version.clone().into();
        object["kind"] = self.kind.clone().into();
        self.objects.push(object);
        self
    }

    /// The resource version of the list; by default the highest of its objects.
    #[must_use]
    pub fn resource_version(mut self, version: &str) -> Self {
        self.resource_version = Some(version.to_owned());
        self
    }

    /// The objects.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// Adds the items of a list as the server gave it.
    pub(crate) fn read(resource: &str, group: &str, lists: &[Value]) -> Option<Self> {
        let first = lists.first()?;
        let kind = first["kind"].as_str()?.strip_suffix("List")?;
        let mut snapshot = Self::new(first["apiVersion"].as_str()?, kind, resource);
        group.clone_into(&mut snapshot.group);
        for list in lists {
            for item in list["items"].as_array()? {
                snapshot = snapshot.object(item.clone());
            }
        }
        // Of several lists the oldest, so that a watch from there misses nothing.
        let version = lists
            .iter()
            .filter_map(|list| list["metadata"]["resourceVersion"].as_str())
            .min_by_key(|version| version.parse::<u64>().unwrap_or_default())?;
        Some(snapshot.resource_version(version))
    }

    pub(crate) fn version(&self) -> String {
        let highest = || {
            let versions = self.objects.iter().filter_map(|object| {
                object["metadata"]["resourceVersion"]
                    .as_str()?
                    .parse::<u64>()
                    .ok()
            });
            versions.max().unwrap_or(1).to_string()
        };
        self.resource_version.clone().unwrap_or_else(highest)
    }

    fn selected(&self, request: &KubeRequest) -> Vec<&Value> {
        let labels = request.param("labelSelector").unwrap_or_default();
        let fields = request.param("fieldSelector").unwrap_or_default();
        self.objects
            .iter()
            .filter(|object| {
                (request.namespace.is_empty()
                    || object["metadata"]["namespace"] == request.namespace.as_str())
                    && labels_match(object, labels)
                    && fields_match(object, fields)
            })
            .collect()
    }

    /// The answer to a get or list; nothing for what a view of objects cannot answer.
    pub(crate) fn answer(&self, request: &KubeRequest, accept: &str) -> Option<Response<Body>> {
        let partial = accept.contains("as=PartialObjectMetadata");
        let shape = |object: &Value| {
            if partial {
                metadata_only(object)
            } else {
                object.clone()
            }
        };
        match (request.verb, request.subresource.as_str()) {
            (Verb::Get, "" | "status") => {
                let found = self.objects.iter().find(|object| {
                    object["metadata"]["name"] == request.name.as_str()
                        && (request.namespace.is_empty()
                            || object["metadata"]["namespace"] == request.namespace.as_str())
                });
                Some(found.map_or_else(
                    || {
                        let resource = request.full_resource();
                        let message = format!("{resource} \"{}\" not found", request.name);
                        Answer::status(404).message(&message).response(request)
                    },
                    |object| json_response(200, shape(object).to_string()),
                ))
            }
            (Verb::List, "") => {
                let items: Vec<Value> = self.selected(request).into_iter().map(shape).collect();
                let (api_version, kind) = if partial {
                    ("meta.k8s.io/v1", "PartialObjectMetadata")
                } else {
                    (self.api_version.as_str(), self.kind.as_str())
                };
                let list = json!({
                    "apiVersion": api_version,
                    "kind": format!("{kind}List"),
                    "metadata": {"resourceVersion": self.version()},
                    "items": items,
                });
                Some(json_response(200, list.to_string()))
            }
            _ => None,
        }
    }

    /// The lines with which a watch begins that asked for the objects first.
    pub(crate) fn initial_events(&self, request: &KubeRequest, accept: &str) -> Vec<Value> {
        if request.param("sendInitialEvents") != Some("true") {
            return Vec::new();
        }
        let partial = accept.contains("as=PartialObjectMetadata");
        let shape = |object: &Value| {
            if partial {
                metadata_only(object)
            } else {
                object.clone()
            }
        };
        let mut events: Vec<Value> = self
            .selected(request)
            .into_iter()
            .map(|object| json!({"type": "ADDED", "object": shape(object)}))
            .collect();
        let end = json!({
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": {
                "resourceVersion": self.version(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        });
        events.push(json!({"type": "BOOKMARK", "object": shape(&end)}));
        events
    }
}

fn metadata_only(object: &Value) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": object["metadata"],
    })
}

/// A view in force.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Snapshot,
    pub(crate) thawed: CancellationToken,
}

#[derive(Debug, Default)]
pub(crate) struct Freezer {
    views: Mutex<HashMap<(String, String), Arc<View>>>,
}

impl Freezer {
    pub(crate) fn freeze(&self, snapshot: Snapshot) {
        let key = (snapshot.group.clone(), snapshot.resource.clone());
        let view = Arc::new(View {
            snapshot,
            thawed: CancellationToken::new(),
        });
        if let Some(earlier) = self.views.lock().insert(key, view) {
            // Whoever waits for the earlier view to end looks again and finds the new one.
            earlier.thawed.cancel();
        }
    }

    /// Ends the views of a resource given as `deployments` or `deployments.apps`.
    pub(crate) fn thaw(&self, resource: &str) {
        self.views.lock().retain(|(group, plural), view| {
            let meant = match resource.split_once('.') {
                Some((p, g)) => p == plural && g == group,
                None => resource == plural,
            };
            if meant {
                view.thawed.cancel();
            }
            !meant
        });
    }

    pub(crate) fn thaw_all(&self) {
        for (_, view) in self.views.lock().drain() {
            view.thawed.cancel();
        }
    }

    /// The view that a request is to be answered from, if its resource is frozen.
    pub(crate) fn view(&self, request: &KubeRequest) -> Option<Arc<View>> {
        if !matches!(request.verb, Verb::Get | Verb::List | Verb::Watch) {
            return None;
        }
        let views = self.views.lock();
        if views.is_empty() {
            return None;
        }
        views
            .get(&(request.group.clone(), request.resource.clone()))
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_view_is_the_highest_of_its_objects_unless_given() {
        let view = Snapshot::new("apps/v1", "Deployment", "deployments")
            .object(json!({"metadata": {"resourceVersion": "99"}}))
            .object(json!({"metadata": {"resourceVersion": "101"}}));
        assert_eq!(view.version(), "101");
        assert_eq!(view.resource_version("7").version(), "7");
        assert_eq!(Snapshot::new("v1", "Pod", "pods").version(), "1");
    }
}
