//! The ConfigMaps with definitions that Processes name, or that keep what was fetched for them. Each is
//! watched by its name, and only as long as a Process needs it.

use std::collections::HashMap;
use std::pin::pin;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use process_operator_activities::build::{definition, fetched};
use process_operator_activities::cache::Neighbour;
use process_operator_crds::Reason;
use process_operator_workflows::contract::{ChangeKind, Changed, DefinitionView};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::again::watched;
use super::{Shared, registries};
use crate::metrics::Metrics;

/// A Process has begun or ceased to name a ConfigMap.
pub(super) fn named(shared: &Shared, namespace: &str, name: Option<&String>) {
    if let Some(name) = name {
        // Nobody listens while the operator stops.
        _ = shared
            .definitions
            .send((namespace.to_owned(), name.to_owned()));
    }
}

/// Keeps one watch for each ConfigMap that is named.
pub(super) async fn run(shared: Shared, mut named: mpsc::UnboundedReceiver<(String, String)>) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut watches: HashMap<(String, String), AbortHandle> = HashMap::new();
    while let Some(about) = named.recv().await {
        let (namespace, name) = &about;
        if naming(&shared, namespace, name).is_empty() {
            if let Some(watch) = watches.remove(&about) {
                watch.abort();
            }
        } else {
            let watch = follow(shared.clone(), namespace.clone(), name.clone());
            watches.entry(about).or_insert_with(|| tasks.spawn(watch));
        }
        while tasks.try_join_next().is_some() {}
    }
}

fn naming(shared: &Shared, namespace: &str, name: &str) -> Vec<Neighbour> {
    let all = shared.cache.processes().into_iter();
    all.filter(|process| {
        process.namespace == namespace && process.definition.as_deref() == Some(name)
    })
    .collect()
}

async fn follow(shared: Shared, namespace: String, name: String) {
    let api: Api<ConfigMap> = Api::namespaced(shared.client.clone(), &namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watched(api, only, shared.config.resync()));
    let mut listed = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed = None,
            Ok(watcher::Event::InitApply(found)) => listed = Some(found),
            Ok(watcher::Event::InitDone) => {
                let found = listed.take();
                let mark = found.as_ref().and_then(ResourceExt::resource_version);
                seen(
                    &shared,
                    (&namespace, &name),
                    found.as_ref(),
                    mark.as_deref(),
                );
            }
            Ok(watcher::Event::Apply(found)) => {
                let mark = found.resource_version();
                seen(&shared, (&namespace, &name), Some(&found), mark.as_deref());
            }
            Ok(watcher::Event::Delete(gone)) => {
                let mark = gone.resource_version();
                seen(&shared, (&namespace, &name), None, mark.as_deref());
            }
            Err(error) => {
                Metrics::count_kind(&shared.metrics.watch_events, "ConfigMapError");
                tracing::warn!(
                    namespace,
                    name,
                    "watch of a definition interrupted: {error}"
                );
            }
        }
    }
}

/// Whether the status of a Process says this already. One without any is about to be looked at.
fn says(process: &Neighbour, view: &DefinitionView) -> bool {
    let failure = view.failure.as_ref();
    let reason = failure.map_or(Reason::DefinitionFound, |failure| failure.reason);
    let fresh = process.resolved.is_empty() && !view.found();
    fresh || process.checksum == view.checksum && process.resolved == reason.as_str()
}

/// Tells the Processes whose status says something else. `version` is that of the object, or of its
/// deletion.
fn seen(
    shared: &Shared,
    (namespace, name): (&str, &str),
    found: Option<&ConfigMap>,
    version: Option<&str>,
) {
    Metrics::count_kind(&shared.metrics.watch_events, "ConfigMap");
    let checksum = found.map(definition::checksum).unwrap_or_default();
    for process in naming(shared, namespace, name) {
        let told = match &process.source {
            Some(source) => {
                registries::noted(shared, &process, source, found);
                let forbidden = shared.registries.forbids(source);
                let view = fetched::view(&process.key(), &source.mark(), forbidden, found);
                says(&process, &view)
            }
            None => process.checksum == checksum,
        };
        if told {
            continue;
        }
        let what = if found.is_some() {
            "changed"
        } else {
            "is missing"
        };
        let changed = Changed::new(
            ChangeKind::Definition,
            format!("ConfigMap {name} with the definition {what}"),
        );
        let about = format!("definition of {}", process.uid);
        // A list does not tell when it went.
        let mark = version.unwrap_or(&process.resource_version);
        // What is made of the same ConfigMap depends on the flags of the operator too, which may have changed.
        let mark = match &process.source {
            Some(_) => format!("{mark} {}", process.resource_version),
            None => mark.to_owned(),
        };
        shared.signaler.send(&process.key(), &about, &mark, changed);
    }
}
