//! Follows a Process and what is made for it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::Result;
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watch_object, watcher};
use kube::{Resource, ResourceExt as _};
use process_operator_crds::Process;
use serde::de::DeserializeOwned;

use super::objects::selector;
use crate::cluster::{Cluster, explain, forbidden, unknown_kind};
use crate::model::Objects;

/// The Process as it changes; `None` when it is not there. Ends with an error only where waiting
/// would not help.
pub(crate) fn process(
    cluster: &Cluster,
    name: &str,
) -> impl Stream<Item = Result<Option<Process>>> + Send + use<> {
    let name = name.to_owned();
    watch_object(cluster.api::<Process>(), &name)
        .default_backoff()
        .filter_map(move |seen| {
            let seen = match seen {
                Ok(process) => Some(Ok(process)),
                Err(error) => {
                    hopeless(&error).map(|error| Err(explain(&format!("process {name}"), error)))
                }
            };
            std::future::ready(seen)
        })
}

/// The error of a watch that will not pass by itself.
fn hopeless(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            (forbidden(error) || unknown_kind(error)).then_some(error)
        }
        _ => None,
    }
}

/// A change of one of the kinds.
#[allow(clippy::large_enum_variant, reason = "each is taken in at once")]
enum Change {
    Process(Box<Option<Process>>),
    Deployment(Event<Deployment>),
    Pod(Event<Pod>),
    Revision(Event<ControllerRevision>),
    Unseen(&'static str),
}

/// A Process and what is made for it, as it changes.
pub(crate) struct Watch {
    changes: SelectAll<BoxStream<'static, Result<Change>>>,
    process: Option<Process>,
    deployments: Known<Deployment>,
    pods: Known<Pod>,
    revisions: Known<ControllerRevision>,
    unseen: Vec<String>,
}

impl Watch {
    /// Begins.
    pub(crate) fn start(cluster: &Cluster, name: &str) -> Self {
        let mut changes = SelectAll::new();
        let process = process(cluster, name);
        changes.push(
            process
                .map(|seen| Ok(Change::Process(Box::new(seen?))))
                .boxed(),
        );
        changes.push(kind(cluster, name, "deployments", Change::Deployment));
        changes.push(kind(cluster, name, "pods", Change::Pod));
        changes.push(kind(cluster, name, "controllerrevisions", Change::Revision));
        Self {
            changes,
            process: None,
            deployments: Known::default(),
            pods: Known::default(),
            revisions: Known::default(),
            unseen: Vec::new(),
        }
    }

    /// Waits for a change; `false` when the Process is gone.
    pub(crate) async fn changed(&mut self) -> Result<bool> {
        let Some(change) = self.changes.next().await else {
            return Ok(false);
        };
        match change? {
            Change::Process(seen) => {
                let gone = seen.is_none();
                self.process = *seen;
                return Ok(!gone);
            }
            Change::Deployment(event) => self.deployments.take(event),
            Change::Pod(event) => self.pods.take(event),
            Change::Revision(event) => self.revisions.take(event),
            Change::Unseen(kind) => self.unseen.push(kind.to_owned()),
        }
        Ok(true)
    }

    /// Everything as it is now, once all kinds have been listed.
    pub(crate) fn objects(&self) -> Option<Objects> {
        let seen = |kind: &str, complete: bool| complete || self.unseen.iter().any(|it| it == kind);
        let complete = seen("deployments", self.deployments.complete)
            && seen("pods", self.pods.complete)
            && seen("controllerrevisions", self.revisions.complete);
        let process = self.process.clone().filter(|_| complete)?;
        Some(Objects {
            process,
            deployments: self.deployments.all(),
            pods: self.pods.all(),
            revisions: self.revisions.all(),
            unseen: self.unseen.clone(),
        })
    }
}

/// Changes of one kind. Without the right to list it there is one change, which says so.
fn kind<K>(
    cluster: &Cluster,
    name: &str,
    kind: &'static str,
    change: fn(Event<K>) -> Change,
) -> BoxStream<'static, Result<Change>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let config = Config::default().labels(&selector(name));
    let events = watcher(cluster.api::<K>(), config).default_backoff();
    // The item that says that the right is missing is the last one.
    let events = events.scan(false, move |over, event| {
        if *over {
            return std::future::ready(None);
        }
        let change = match event {
            Ok(event) => Some(change(event)),
            Err(error) if hopeless(&error).is_some() => {
                *over = true;
                Some(Change::Unseen(kind))
            }
            Err(_) => None,
        };
        std::future::ready(Some(change))
    });
    events
        .filter_map(|change| std::future::ready(change.map(Ok)))
        .boxed()
}

/// The objects of one kind, by name.
struct Known<K> {
    now: BTreeMap<String, K>,
    listed: BTreeMap<String, K>,
    complete: bool,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self {
            now: BTreeMap::new(),
            listed: BTreeMap::new(),
            complete: false,
        }
    }
}

impl<K: Clone + kube::Resource> Known<K> {
    fn take(&mut self, event: Event<K>) {
        match event {
            Event::Apply(object) => {
                self.now.insert(object.name_any(), object);
            }
            Event::Delete(object) => {
                self.now.remove(&object.name_any());
            }
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                self.listed.insert(object.name_any(), object);
            }
            Event::InitDone => {
                self.now = std::mem::take(&mut self.listed);
                self.complete = true;
            }
        }
    }

    fn all(&self) -> Vec<K> {
        self.now.values().cloned().collect()
    }
}
