//! What Kubernetes says: Processes, and the objects made for them.

use std::fmt::Debug;
use std::pin::pin;

use futures::StreamExt as _;
use futures::stream::select_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use process_operator_activities::cache::Neighbour;
use process_operator_crds::{Process, names};
use process_operator_workflows::contract::{ChangeKind, Changed};
use serde::de::DeserializeOwned;

use super::again::watched;
use super::neighbour::neighbour;
use super::{Shared, Signaler, definitions, others, presence, refusals, registries, transitions};
use crate::metrics::Metrics;

/// Watches for ever. A missing CRD is waited for.
pub(crate) async fn run(shared: Shared) {
    presence::there(&shared).await;
    let managed = format!("app.kubernetes.io/managed-by={}", names::manager::OPERATOR);
    let managed = watcher::Config::default().labels(&managed);
    tokio::join!(
        follow::<DeserializeGuard<Process>>(&shared, watcher::Config::default()),
        follow::<Deployment>(&shared, managed.clone()),
        follow::<ConfigMap>(&shared, managed.clone()),
        follow::<CronJob>(&shared, managed),
        listed(&shared),
        presence::run(&shared),
    );
}

pub(super) fn apis<K>(shared: &Shared) -> Vec<Api<K>>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    if shared.config.watch_namespaces.is_empty() {
        return vec![Api::all(shared.client.clone())];
    }
    shared
        .config
        .watch_namespaces
        .iter()
        .map(|namespace| Api::namespaced(shared.client.clone(), namespace))
        .collect()
}

/// Waits for the first complete lists of all kinds, then tells the sweep.
async fn listed(shared: &Shared) {
    if shared.listed().await {
        refusals::show(shared);
        tracing::info!(
            processes = shared.cache.process_count(),
            "first lists are complete"
        );
    }
}

/// A kind that is followed.
pub(super) trait Followed:
    kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    /// What tells one object from another.
    type Id: PartialEq;

    /// A right to watch it that is missing, as under the rights of an earlier release, keeps nothing else
    /// from being done.
    const OPTIONAL: bool = false;

    fn id(&self) -> Self::Id;

    /// Everything cached of this kind, with its namespace.
    fn cached(shared: &Shared) -> Vec<(String, Self::Id)>;

    /// It is there, or has changed. `at_start`: it was there before anybody watched.
    fn seen(&self, shared: &Shared, at_start: bool);

    /// It is gone. `resource_version` is that of its deletion, empty when a list shows it.
    fn gone(shared: &Shared, id: &Self::Id, resource_version: &str);
}

impl Followed for DeserializeGuard<Process> {
    /// Its uid: a re-created Process of the same name is another one.
    type Id = String;

    fn id(&self) -> String {
        self.uid().unwrap_or_default()
    }

    fn cached(shared: &Shared) -> Vec<(String, String)> {
        let processes = shared.cache.processes().into_iter();
        processes
            .map(|process| (process.namespace, process.uid))
            .collect()
    }

    fn seen(&self, shared: &Shared, at_start: bool) {
        process_seen(shared, self, at_start);
        count_processes(shared);
    }

    fn gone(shared: &Shared, uid: &String, _resource_version: &str) {
        process_gone(shared, uid);
        count_processes(shared);
    }
}

fn count_processes(shared: &Shared) {
    let count = i64::try_from(shared.cache.process_count()).unwrap_or(i64::MAX);
    shared.metrics.processes.set(count);
}

/// Follows one kind in all watched namespaces. What a new list does not show any more is gone.
async fn follow<K: Followed>(shared: &Shared, config: watcher::Config) {
    let streams = apis::<K>(shared).into_iter().enumerate().map(|(n, api)| {
        let events = watched(api, config.clone(), shared.config.resync());
        Box::pin(events.map(move |event| (n, event)))
    });
    let mut events = pin!(select_all(streams));
    let scopes = shared.config.watch_namespaces.len().max(1);
    let mut initial: Vec<Vec<K::Id>> = (0..scopes).map(|_| Vec::new()).collect();
    let mut first = vec![true; scopes];
    while let Some((n, event)) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => initial[n].clear(),
            Ok(watcher::Event::InitApply(object)) => {
                initial[n].push(object.id());
                object.seen(shared, first[n]);
            }
            Ok(watcher::Event::InitDone) => {
                let listed = std::mem::take(&mut initial[n]);
                let scope = shared.config.watch_namespaces.get(n);
                for (namespace, id) in K::cached(shared) {
                    if scope.is_none_or(|own| *own == namespace) && !listed.contains(&id) {
                        K::gone(shared, &id, "");
                    }
                }
                if std::mem::take(&mut first[n]) {
                    shared.lists.send_modify(|lists| *lists += 1);
                }
            }
            Ok(watcher::Event::Apply(object)) => object.seen(shared, false),
            Ok(watcher::Event::Delete(object)) => {
                let version = object.meta().resource_version.clone().unwrap_or_default();
                K::gone(shared, &object.id(), &version);
            }
            Err(error) => {
                failed(shared, &K::kind(&()), &error);
                if !K::OPTIONAL {
                    refusals::failed(shared, &K::kind(&()), &error);
                } else if forbidden(&error) && std::mem::take(&mut first[n]) {
                    shared.lists.send_modify(|lists| *lists += 1);
                }
            }
        }
    }
}

fn forbidden(error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(kube::Error::Api(answer)) = error else {
        return false;
    };
    answer.code == 403
}

/// The watcher retries by itself, with back-off; here it is only said, and asked why.
pub(super) fn failed(shared: &Shared, kind: &str, error: &watcher::Error) {
    shared.interrupted.notify_one();
    Metrics::count_kind(&shared.metrics.watch_events, &format!("{kind}Error"));
    tracing::warn!(kind, "watch interrupted: {error}");
}

fn process_seen(shared: &Shared, object: &DeserializeGuard<Process>, at_start: bool) {
    Metrics::count_kind(&shared.metrics.watch_events, "Process");
    let Some(now) = neighbour(object) else {
        return;
    };
    let before = shared.cache.put_process(now.clone());
    if !now.depends.is_empty() {
        shared
            .depended
            .send_if_modified(|depended| !std::mem::replace(depended, true));
    }
    let named = before
        .as_ref()
        .and_then(|before| before.definition.as_ref());
    if named != now.definition.as_ref() {
        definitions::named(shared, &now.namespace, named);
        definitions::named(shared, &now.namespace, now.definition.as_ref());
    }
    registries::seen(shared, before.as_ref(), Some(&now));
    if at_start {
        // What was missed while nobody watched is found by the sweep, which asks once for all.
        return;
    }
    if let Some(before) = &before {
        transitions::reachable(shared, before, &now);
        others::seen(shared, before, &now);
    }
    let newcomers = &shared.cache.newcomers;
    if now.finalizer || now.deleting {
        newcomers.taken_up(&now.uid);
    } else if let Ok(process) = &object.0 {
        newcomers.shown(process.clone(), before.is_none());
    }
    let changed = before.as_ref().is_none_or(|before| {
        before.generation != now.generation
            || before.deleting != now.deleting
            || now.deleting && before.forced != now.forced
            || (before.finalizer && !now.finalizer)
    });
    if changed {
        let detail = if now.deleting {
            "deletion requested".to_owned()
        } else {
            format!("generation {}", now.generation)
        };
        let new = before.is_none() && !now.finalizer && !now.deleting;
        let send = if new {
            Signaler::send_first
        } else {
            Signaler::send
        };
        send(
            &shared.signaler,
            &now.key(),
            &now.uid,
            &now.resource_version,
            Changed::new(ChangeKind::Process, detail),
        );
    }
    let asked = before
        .as_ref()
        .is_none_or(|before| before.request != now.request);
    if asked && !now.request.is_empty() && !changed {
        shared.signaler.send(
            &now.key(),
            &now.uid,
            &now.resource_version,
            Changed::new(ChangeKind::Request, "annotation ameide.io/request"),
        );
    }
    let moved = before.as_ref().is_none_or(|before| {
        before.task_queue != now.task_queue || before.temporal_namespace != now.temporal_namespace
    });
    if moved {
        if let Some(before) = &before {
            wake_queue(shared, before);
        }
        wake_queue(shared, &now);
    }
}

/// Processes on the same queue look again when one of them comes or goes.
fn wake_queue(shared: &Shared, about: &Neighbour) {
    if about.task_queue.is_empty() {
        return;
    }
    for other in shared
        .cache
        .on_queue(&about.temporal_namespace, &about.task_queue, &about.uid)
    {
        let detail = format!(
            "{}/{} on queue {}",
            about.namespace, about.name, about.task_queue
        );
        shared.signaler.send(
            &other.key(),
            &about.uid,
            &about.resource_version,
            Changed::new(ChangeKind::TaskQueue, detail),
        );
    }
}

fn process_gone(shared: &Shared, uid: &str) {
    Metrics::count_kind(&shared.metrics.watch_events, "Process");
    shared.cache.newcomers.leave(uid);
    let Some(gone) = shared.cache.remove_process(uid) else {
        return;
    };
    // Nobody listens while the operator stops.
    _ = shared.gone.send(gone.key());
    shared
        .signaler
        .send_if_running(&gone.key(), Changed::new(ChangeKind::Process, "deleted"));
    wake_queue(shared, &gone);
    definitions::named(shared, &gone.namespace, gone.definition.as_ref());
    registries::seen(shared, Some(&gone), None);
}
