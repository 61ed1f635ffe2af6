//! Objects that are shown otherwise than the server stores them, as by a server with another schema.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use crate::kube::request::KubeRequest;

type Change = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// What is changed of which resource.
#[derive(Default)]
pub(crate) struct Rewriter {
    changes: Mutex<Vec<(String, Change)>>,
}

impl Rewriter {
    pub(crate) fn add(&self, resource: &str, change: Change) {
        self.changes.lock().push((resource.to_owned(), change));
    }

    /// Ends all changes of a resource.
    pub(crate) fn remove(&self, resource: &str) {
        self.changes.lock().retain(|(of, _)| of != resource);
    }

    pub(crate) fn clear(&self) {
        self.changes.lock().clear();
    }

    fn about(&self, request: &KubeRequest) -> Vec<Change> {
        let changes = self.changes.lock();
        let about = changes.iter().filter(|(of, _)| request.is_about(of));
        about.map(|(_, change)| Arc::clone(change)).collect()
    }

    pub(crate) fn concerns(&self, request: &KubeRequest) -> bool {
        !self.about(request).is_empty()
    }

    /// An answer with an object or a list of objects in it.
    pub(crate) fn answer(&self, request: &KubeRequest, body: Bytes) -> Bytes {
        let changes = self.about(request);
        let Ok(mut value) = serde_json::from_slice::<Value>(&body) else {
            return body;
        };
        match value.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => items.iter_mut().for_each(|item| apply(&changes, item)),
            None => apply(&changes, &mut value),
        }
        value.to_string().into()
    }

    /// One line of a watch.
    pub(crate) fn event(&self, request: &KubeRequest, line: Bytes) -> Bytes {
        let changes = self.about(request);
        if changes.is_empty() {
            return line;
        }
        let Ok(mut event) = serde_json::from_slice::<Value>(&line) else {
            return line;
        };
        if matches!(
            event["type"].as_str(),
            Some("ADDED" | "MODIFIED" | "DELETED")
        ) {
            apply(&changes, &mut event["object"]);
        }
        format!("{event}\n").into()
    }
}

/// `Status` and the like are no objects that are stored.
fn apply(changes: &[Change], object: &mut Value) {
    if object["metadata"]["name"].is_string() {
        for change in changes {
            change(object);
        }
    }
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewriter")
            .field("changes", &self.changes.lock().len())
            .finish()
    }
}
