//! What Processes depend on: objects of other operators, watched from the time when the first Process names
//! one.
//!
//! What changes is told as it comes. What was missed, as while no operator ran, each new list shows: there the
//! status of each Process is compared with what is listed.

use std::collections::HashMap;
use std::pin::pin;

use futures::StreamExt as _;
use futures::stream::select_all;
use kube::api::ApiResource;
use kube::core::DynamicObject;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use process_operator_activities::cache::Neighbour;
use process_operator_activities::dependencies::{List, MISSING, Needed, unready};
use process_operator_crds::conditions::MAX_MESSAGE_BYTES;
use process_operator_workflows::contract::{ChangeKind, Changed};

use super::again::watched;
use super::watch::failed;
use super::{Shared, refusals};
use crate::metrics::Metrics;

/// Follows both kinds.
pub(super) async fn run(shared: Shared) {
    let mut depended = shared.depended.subscribe();
    if depended.wait_for(|depended| *depended).await.is_err() {
        return;
    }
    // A list is compared with all Processes.
    if !shared.listed().await {
        return;
    }
    let kinds = shared.config.kinds();
    let follow = |list| follow(&shared, list, kinds.of(list));
    futures::future::join_all(List::ALL.map(follow)).await;
}

/// Where it is watched: one namespace, or all.
fn scopes(shared: &Shared) -> Vec<Option<String>> {
    let namespaces = &shared.config.watch_namespaces;
    if namespaces.is_empty() {
        return vec![None];
    }
    namespaces.iter().cloned().map(Some).collect()
}

/// A kind that is not installed is asked for again with growing pauses, by the watcher's own back-off.
async fn follow(shared: &Shared, list: List, kind: &ApiResource) {
    let streams = scopes(shared).into_iter().map(|namespace| {
        let api: Api<DynamicObject> = match &namespace {
            Some(namespace) => Api::namespaced_with(shared.client.clone(), namespace, kind),
            None => Api::all_with(shared.client.clone(), kind),
        };
        let events = watched(api, watcher::Config::default(), shared.config.resync());
        let mut view = View {
            list,
            namespace,
            known: Known::new(),
            listed: Known::new(),
        };
        Box::pin(events.map(move |event| view.seen(shared, kind, event)))
    });
    let mut events = pin!(select_all(streams));
    while let Some(()) = events.next().await {}
}

/// What is known of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// Why it is not ready, if it is not.
    why: Option<String>,
    /// `metadata.resourceVersion`.
    version: String,
}

impl Seen {
    fn of(object: &DynamicObject) -> Self {
        Self {
            why: unready(object),
            version: object.resource_version().unwrap_or_default(),
        }
    }
}

/// By namespace and name.
type Known = HashMap<(String, String), Seen>;

fn id(object: &DynamicObject) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What one watch has shown.
struct View {
    list: List,
    /// All of them, if none.
    namespace: Option<String>,
    known: Known,
    /// A list that is not complete.
    listed: Known,
}

impl View {
    fn seen(
        &mut self,
        shared: &Shared,
        kind: &ApiResource,
        event: watcher::Result<watcher::Event<DynamicObject>>,
    ) {
        let count = || Metrics::count_kind(&shared.metrics.watch_events, &kind.kind);
        match event {
            Ok(watcher::Event::Init) => self.listed.clear(),
            Ok(watcher::Event::InitApply(found)) => {
                count();
                self.listed.insert(id(&found), Seen::of(&found));
            }
            Ok(watcher::Event::InitDone) => {
                let before = std::mem::take(&mut self.known);
                self.known = std::mem::take(&mut self.listed);
                self.compare(shared, kind, &before);
            }
            Ok(watcher::Event::Apply(found)) => {
                count();
                let now = Seen::of(&found);
                let before = self.known.insert(id(&found), now.clone());
                let first = before.is_none();
                if first || before.is_some_and(|before| before.why != now.why) {
                    self.changed(shared, kind, &id(&found), &now, first);
                }
            }
            Ok(watcher::Event::Delete(gone)) => {
                count();
                let first = self.known.remove(&id(&gone)).is_none();
                let now = Seen {
                    why: Some(MISSING.to_owned()),
                    ..Seen::of(&gone)
                };
                self.changed(shared, kind, &id(&gone), &now, first);
            }
            Err(error) if is_missing(&error) => {
                tracing::debug!(kind = kind.kind, "not installed: {error}");
                // Nothing can be there of a kind that there is not.
                let before = std::mem::take(&mut self.known);
                self.compare(shared, kind, &before);
            }
            Err(error) => {
                failed(shared, &kind.kind, &error);
                refusals::failed(shared, &kind.kind, &error);
            }
        }
    }

    /// The Processes of this watch, with what of its kind each needs.
    fn needing(&self, shared: &Shared) -> Vec<(Neighbour, Needed)> {
        let all = shared.cache.processes().into_iter();
        let own = all.filter(|process| {
            let namespace = self.namespace.as_ref();
            !process.deleting && namespace.is_none_or(|own| *own == process.namespace)
        });
        own.flat_map(|process| {
            let needed = process.depends.clone().into_iter();
            let needed = needed.filter(|needed| needed.list == self.list);
            needed
                .map(|needed| (process.clone(), needed))
                .collect::<Vec<_>>()
        })
        .collect()
    }

    /// Tells the Processes whose status says something else than the list. What has changed since the last
    /// list is told in any case: a status that says the same may be about to be written over.
    fn compare(&self, shared: &Shared, kind: &ApiResource, before: &Known) {
        for (process, needed) in self.needing(shared) {
            let id = (process.namespace.clone(), needed.name.clone());
            let now = self.known.get(&id);
            let missed = before
                .get(&id)
                .is_some_and(|before| now.is_none_or(|now| now.why != before.why));
            // One without a word of it is about to be looked at.
            let fresh = process.depends_ready.is_none() && now.is_none();
            let missing = || Some(MISSING.to_owned());
            let why = now.map_or_else(missing, |now| now.why.clone());
            let shown = needed.shown(kind);
            if !missed && (fresh || says(&process, &shown, why.as_deref())) {
                continue;
            }
            let version = now.map(|now| now.version.as_str()).unwrap_or_default();
            let mark = format!("{version} {}", process.resource_version);
            tell(shared, kind, (&process, &needed), why.is_none(), &mark);
        }
    }

    /// Tells the Processes that need it. What is new to us may be told by their status already.
    fn changed(
        &self,
        shared: &Shared,
        kind: &ApiResource,
        (namespace, name): &(String, String),
        now: &Seen,
        first: bool,
    ) {
        for (process, needed) in self.needing(shared) {
            let names = process.namespace == *namespace && needed.name == *name;
            let told = || says(&process, &needed.shown(kind), now.why.as_deref());
            if names && !(first && told()) {
                let about = (&process, &needed);
                tell(shared, kind, about, now.why.is_none(), &now.version);
            }
        }
    }
}

/// The kind is not installed.
fn is_missing(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(why) | watcher::Error::WatchStartFailed(why)) = error
    else {
        return false;
    };
    matches!(why, kube::Error::Api(answer) if answer.code == 404)
}

/// Whether the status of a Process says this of what is shown so.
fn says(process: &Neighbour, shown: &str, why: Option<&str>) -> bool {
    let Some((ready, words)) = &process.depends_ready else {
        return false;
    };
    // At its longest it has been cut, which loses up to a character.
    let cut = words.len() + 4 > MAX_MESSAGE_BYTES;
    match why {
        None if *ready => true,
        // What an earlier release has written names no field.
        None => words.starts_with("spec.") && !words.contains(&format!("{shown} ")) || cut,
        Some(why) => !*ready && (words.contains(&format!("{shown} {why}")) || cut),
    }
}

fn tell(
    shared: &Shared,
    kind: &ApiResource,
    (process, needed): (&Neighbour, &Needed),
    ready: bool,
    mark: &str,
) {
    let what = if ready { "is ready" } else { "is not ready" };
    let about = format!("{} {}", kind.kind, needed.name);
    let changed = Changed::new(ChangeKind::Dependency, format!("{about} {what}"));
    let about = format!("{about} of {}", process.uid);
    shared.signaler.send(&process.key(), &about, mark, changed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALES: &str = "spec.dependencies.domains[sales]: Domain sales";

    fn told(ready: bool, words: &str) -> Neighbour {
        Neighbour {
            depends_ready: Some((ready, words.to_owned())),
            ..Neighbour::default()
        }
    }

    #[test]
    fn a_status_is_told_again_when_its_words_are_others() {
        let missing = format!("{SALES} {MISSING}");
        let waits = told(false, &missing);
        assert!(says(&waits, SALES, Some(MISSING)));
        for other in [
            None,
            Some("is not Ready (Provisioning)"),
            Some("is being deleted"),
        ] {
            assert!(!says(&waits, SALES, other), "{other:?}");
        }
        let both = told(false, &format!("{SALES}-eu {MISSING}, {SALES} {MISSING}"));
        assert!(says(&both, SALES, Some(MISSING)));
        let other = told(false, &format!("{SALES}-eu {MISSING}"));
        assert!(says(&other, SALES, None), "it is about another one");
        assert!(!says(&other, SALES, Some(MISSING)));
        let ready = told(true, "1 of 1 are ready");
        assert!(says(&ready, SALES, None));
        assert!(!says(&ready, SALES, Some(MISSING)));
        assert!(!says(&Neighbour::default(), SALES, None));
    }

    #[test]
    fn what_an_earlier_release_or_a_cut_message_says_is_not_asked_for_without_end() {
        let earlier = told(false, "Domain sales does not exist");
        assert!(!says(&earlier, SALES, None));
        assert!(!says(&earlier, SALES, Some(MISSING)));
        let cut = told(
            false,
            &format!("spec.{}", "x".repeat(MAX_MESSAGE_BYTES - 5)),
        );
        assert!(says(&cut, SALES, Some(MISSING)) && says(&cut, SALES, None));
    }
}
