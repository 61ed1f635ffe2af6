//! Conditions on requests and watch events in the words of Kubernetes.

use crate::kube::request::{KubeRequest, Verb};
use crate::kube::watch::{EventType, WatchEvent};
use crate::matcher::Matcher;

/// A matcher of requests to kube-apiserver.
pub type RequestMatch = Matcher<KubeRequest>;

/// A matcher of single events inside watch streams.
pub type EventMatch = Matcher<WatchEvent>;

impl Matcher<KubeRequest> {
    /// Requests that would store something ([`KubeRequest::is_write`]).
    pub fn writes() -> Self {
        Self::any().when(KubeRequest::is_write)
    }

    /// Get, list and watch.
    pub fn reads() -> Self {
        Self::any().when(|r| matches!(r.verb, Verb::Get | Verb::List | Verb::Watch))
    }

    /// Watches.
    pub fn watches() -> Self {
        Self::any().verb(Verb::Watch)
    }

    /// Requests with this verb.
    #[must_use]
    pub fn verb(self, verb: Verb) -> Self {
        self.when(move |r| r.verb == verb)
    }

    /// Requests about this resource, given as `deployments` or `deployments.apps`.
    #[must_use]
    pub fn resource(self, resource: &str) -> Self {
        let resource = resource.to_owned();
        self.when(move |r| r.is_about(&resource))
    }

    /// Requests about this subresource; an empty one means the object itself.
    #[must_use]
    pub fn subresource(self, subresource: &str) -> Self {
        let subresource = subresource.to_owned();
        self.when(move |r| r.subresource == subresource)
    }

    /// Requests in this namespace.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        self.when(move |r| r.namespace == namespace)
    }

    /// Requests about the object of this name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let name = name.to_owned();
        self.when(move |r| r.name == name)
    }

    /// Requests by this field manager.
    #[must_use]
    pub fn field_manager(self, manager: &str) -> Self {
        let manager = manager.to_owned();
        self.when(move |r| r.field_manager == manager)
    }
}

impl Matcher<WatchEvent> {
    /// All events but bookmarks. A stream without them is alive but mute.
    pub fn events() -> Self {
        Self::any().when(|e| e.event_type != EventType::Bookmark)
    }

    /// Events of watches on this resource, given as `deployments` or `deployments.apps`.
    #[must_use]
    pub fn resource(self, resource: &str) -> Self {
        let resource = resource.to_owned();
        self.when(move |e| e.watch.is_about(&resource))
    }

    /// Events of this type.
    #[must_use]
    pub fn event_type(self, event_type: EventType) -> Self {
        self.when(move |e| e.event_type == event_type)
    }

    /// Events about objects in this namespace.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        self.when(move |e| e.meta("namespace") == namespace)
    }

    /// Events about objects of this name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let name = name.to_owned();
        self.when(move |e| e.meta("name") == name)
    }

    /// Events that carry one of these generations of their object.
    #[must_use]
    pub fn generations(
        self,
        generations: impl std::ops::RangeBounds<i64> + Send + Sync + 'static,
    ) -> Self {
        self.when(move |e| {
            e.generation()
                .is_some_and(|generation| generations.contains(&generation))
        })
    }
}
