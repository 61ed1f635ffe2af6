//! What Processes depend on: objects of other operators, watched from the time when the first Process names
//! one.

use std::collections::HashMap;
use std::pin::pin;

use futures::StreamExt as _;
use futures::stream::select_all;
use kube::api::ApiResource;
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use process_operator_activities::dependencies::unready;
use process_operator_workflows::contract::{ChangeKind, Changed};

use super::Shared;
use crate::metrics::Metrics;

/// Follows both kinds.
pub(super) async fn run(shared: Shared) {
    let mut depended = shared.depended.subscribe();
    if depended.wait_for(|depended| *depended).await.is_err() {
        return;
    }
    let kinds = shared.config.kinds();
    futures::future::join_all(kinds.all().map(|kind| follow(&shared, kind))).await;
}

fn apis(shared: &Shared, kind: &ApiResource) -> Vec<Api<DynamicObject>> {
    let namespaces = &shared.config.watch_namespaces;
    if namespaces.is_empty() {
        return vec![Api::all_with(shared.client.clone(), kind)];
    }
    let own = namespaces.iter();
    own.map(|namespace| Api::namespaced_with(shared.client.clone(), namespace, kind))
        .collect()
}

/// By namespace and name: whether it is ready.
type Known = HashMap<(String, String), bool>;

/// A kind that is not installed is asked for again with growing pauses, by the watcher's own back-off.
async fn follow(shared: &Shared, kind: &ApiResource) {
    let streams = apis(shared, kind).into_iter().map(|api| {
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let mut known = Known::new();
        let mut listed = Known::new();
        Box::pin(events.map(move |event| match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                Vec::new()
            }
            Ok(watcher::Event::InitApply(found)) => {
                let id = (found.namespace().unwrap_or_default(), found.name_any());
                listed.insert(id, unready(&found).is_none());
                flips(&mut known, &found, unready(&found).is_none())
            }
            Ok(watcher::Event::InitDone) => {
                let gone = known.keys().filter(|id| !listed.contains_key(*id));
                let gone: Vec<_> = gone.cloned().collect();
                known.retain(|id, _| listed.contains_key(id));
                gone.into_iter()
                    .map(|id| Flip {
                        id,
                        ..Flip::default()
                    })
                    .collect()
            }
            Ok(watcher::Event::Apply(found)) => {
                flips(&mut known, &found, unready(&found).is_none())
            }
            Ok(watcher::Event::Delete(gone)) => {
                let flips = flips(&mut known, &gone, false);
                known.remove(&(gone.namespace().unwrap_or_default(), gone.name_any()));
                flips
            }
            Err(error) => {
                tracing::debug!("watch of dependencies interrupted: {error}");
                Vec::new()
            }
        }))
    });
    let mut events = pin!(select_all(streams));
    while let Some(flips) = events.next().await {
        for flip in flips {
            Metrics::count_kind(&shared.metrics.watch_events, &kind.kind);
            tell(shared, &kind.kind, &flip);
        }
    }
}

/// Something has become ready, or is not any more.
#[derive(Debug, Default)]
struct Flip {
    /// Namespace and name.
    id: (String, String),
    /// Version of the object; empty when a list does not show it any more.
    version: String,
    ready: bool,
    /// It was not known before.
    first: bool,
}

fn flips(known: &mut Known, object: &DynamicObject, ready: bool) -> Vec<Flip> {
    let id = (object.namespace().unwrap_or_default(), object.name_any());
    let before = known.insert(id.clone(), ready);
    if before == Some(ready) {
        return Vec::new();
    }
    let version = object.resource_version().unwrap_or_default();
    let first = before.is_none();
    vec![Flip {
        id,
        version,
        ready,
        first,
    }]
}

/// Tells the Processes that depend on it. What is new to us may be told by their status already.
fn tell(shared: &Shared, kind: &str, flip: &Flip) {
    let (namespace, name) = &flip.id;
    for process in shared.cache.processes() {
        let mut depends = process.depends.iter();
        let names = depends.any(|(of, named)| of == kind && named == name);
        let told = flip.first && process.depends_ready == Some(flip.ready);
        if process.namespace != *namespace || !names || told {
            continue;
        }
        let what = if flip.ready {
            "is ready"
        } else {
            "is not ready"
        };
        let changed = Changed::new(ChangeKind::Dependency, format!("{kind} {name} {what}"));
        let about = format!("{kind} {name} of {}", process.uid);
        let mark = if flip.version.is_empty() {
            &process.resource_version
        } else {
            &flip.version
        };
        shared.signaler.send(&process.key(), &about, mark, changed);
    }
}
