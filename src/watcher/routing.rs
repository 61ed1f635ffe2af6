//! The ConfigMaps made for Processes: those that hold a routing, where Temporal does not, the copies of
//! definitions, and what was fetched of them.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use process_operator_activities::build::fetched;
use process_operator_activities::routes;
use process_operator_crds::names;
use process_operator_workflows::contract::{ChangeKind, Changed};

use super::watch::Followed;
use super::{Shared, registries};
use crate::metrics::Metrics;

impl Followed for ConfigMap {
    /// Its namespace, its Process and its name.
    type Id = (String, String, String);

    fn id(&self) -> Self::Id {
        let process = self.labels().get(names::label::PROCESS).cloned();
        (
            self.namespace().unwrap_or_default(),
            process.unwrap_or_default(),
            self.name_any(),
        )
    }

    fn cached(shared: &Shared) -> Vec<(String, Self::Id)> {
        let routes = shared.cache.all_routes().into_iter();
        routes
            .map(|(namespace, process)| {
                let name = names::routing_name(&process);
                (namespace.clone(), (namespace, process, name))
            })
            .collect()
    }

    fn seen(&self, shared: &Shared, at_start: bool) {
        let (namespace, process, name) = self.id();
        if name != names::routing_name(&process) {
            left(shared, self, &namespace, &process);
            return;
        }
        Metrics::count_kind(&shared.metrics.watch_events, "ConfigMap");
        let mark = routes::mark(self);
        let before = shared.cache.put_route(&namespace, &process, mark.clone());
        if !at_start && before.as_ref() != Some(&mark) {
            let version = self.resource_version().unwrap_or_default();
            routing_changed(shared, &namespace, &process, &version, "changed");
        }
    }

    fn gone(shared: &Shared, (namespace, process, name): &Self::Id, resource_version: &str) {
        let version = format!("{resource_version} deleted");
        if *name != names::routing_name(process) {
            if let Some(process) = shared.cache.process_named(namespace, process) {
                let what = format!("ConfigMap {name} deleted");
                let changed = Changed::new(ChangeKind::Definition, what);
                shared
                    .signaler
                    .send(&process.key(), name, &version, changed);
            }
        } else if shared.cache.remove_route(namespace, process).is_some() {
            routing_changed(shared, namespace, process, &version, "deleted");
        }
    }
}

fn routing_changed(shared: &Shared, namespace: &str, process: &str, version: &str, what: &str) {
    if let Some(process) = shared.cache.process_named(namespace, process) {
        let changed = Changed::new(ChangeKind::Routing, format!("routing {what}"));
        let about = format!("routing of {}", process.uid);
        shared
            .signaler
            .send(&process.key(), &about, version, changed);
    }
}

/// Tells of a fetched definition whose Process names no registry any more.
fn left(shared: &Shared, found: &ConfigMap, namespace: &str, process: &str) {
    let labels = found.labels();
    let component = labels.get(names::label::APP_COMPONENT);
    if component.is_none_or(|component| component != fetched::COMPONENT) {
        return;
    }
    let Some(process) = shared.cache.process_named(namespace, process) else {
        return;
    };
    let own = labels.get(names::label::PROCESS_UID) == Some(&process.uid);
    if own && process.source.is_none() && !process.temporal_namespace.is_empty() {
        registries::left(shared, &process.key());
    }
}
