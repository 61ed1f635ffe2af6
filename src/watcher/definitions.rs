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
    let (resolved, words) = &process.resolved;
    let reason = match &view.failure {
        Some(failure) => failure.reason,
        None if view.found() => Reason::DefinitionFound,
        None => Reason::DefinitionNotFound,
    };
    // What failed is told with its own words alone.
    let unversioned = view.failure.is_some()
        || if view.unversioned.is_empty() {
            !words.contains(definition::A_VERSION)
        } else {
            words.contains(&view.unversioned)
        };
    let fresh = resolved.is_empty() && !view.found();
    fresh
        || process.checksum == view.checksum
            && process.definition_version == view.version
            && resolved == reason.as_str()
            && unversioned
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
    for process in naming(shared, namespace, name) {
        let view = match &process.source {
            Some(source) => {
                registries::noted(shared, &process, source, found);
                let forbidden = shared.registries.forbids(source);
                fetched::view(&process.key(), &source.mark(), forbidden, found)
            }
            None => definition::view(name, found),
        };
        // A deletion asks for no definition.
        if process.deleting || says(&process, &view) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reason: Reason, words: &str, version: Option<i64>) -> Neighbour {
        Neighbour {
            checksum: "sha256:0".into(),
            definition_version: version,
            resolved: (reason.as_str().to_owned(), words.to_owned()),
            ..Neighbour::default()
        }
    }

    fn seen(version: Option<i64>, unversioned: &str) -> DefinitionView {
        DefinitionView {
            checksum: "sha256:0".into(),
            version,
            unversioned: unversioned.to_owned(),
            ..DefinitionView::default()
        }
    }

    #[test]
    fn another_version_of_the_same_content_is_told() {
        let three = told(Reason::DefinitionFound, "version 3", Some(3));
        assert!(says(&three, &seen(Some(3), "")));
        assert!(!says(&three, &seen(Some(4), "")));
        assert!(!says(&three, &seen(None, "")));
        let odd = |text: &str| format!("{text} is none; set {}", definition::A_VERSION);
        assert!(!says(&three, &seen(None, &odd("v3"))));
        let unversioned = told(Reason::DefinitionFound, &odd("v3"), None);
        assert!(says(&unversioned, &seen(None, &odd("v3"))));
        assert!(!says(&unversioned, &seen(None, &odd("v4"))));
        assert!(!says(&unversioned, &seen(None, "")));
    }

    #[test]
    fn what_is_missing_is_told_once_and_what_is_new_is_about_to_be_looked_at() {
        let nothing = DefinitionView::default();
        assert!(says(&Neighbour::default(), &nothing));
        let missing = Neighbour {
            checksum: String::new(),
            ..told(Reason::DefinitionNotFound, "", None)
        };
        assert!(says(&missing, &nothing));
        assert!(!says(&told(Reason::DefinitionFound, "", None), &nothing));
        assert!(!says(&missing, &seen(None, "")));
    }
}
