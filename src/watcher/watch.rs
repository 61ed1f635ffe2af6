//! What Kubernetes says: Processes, and the Deployments made for them.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::select_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource as _, ResourceExt};
use process_operator_activities::cache::{Neighbour, Workload};
use process_operator_activities::watched;
use process_operator_crds::{Process, names};
use process_operator_workflows::contract::{ChangeKind, Changed, ProcessKey};

use super::Shared;
use crate::health::Part;
use crate::metrics::Metrics;

/// Watches for ever. A missing CRD is waited for.
pub(crate) async fn run(shared: Shared) {
    crd_installed(&shared).await;
    tokio::join!(processes(&shared), deployments(&shared), listed(&shared));
}

/// Asks for the resource by listing one object: needs no right beyond the watcher's own.
async fn crd_installed(shared: &Shared) {
    let api: Api<DeserializeGuard<Process>> = match shared.config.watch_namespaces.first() {
        Some(namespace) => Api::namespaced(shared.client.clone(), namespace),
        None => Api::all(shared.client.clone()),
    };
    loop {
        match api.list(&kube::api::ListParams::default().limit(1)).await {
            Ok(_) => break,
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                shared.metrics.crd_missing.set(1);
                shared.readiness.up(Part::ApiServer);
                shared.readiness.down(
                    Part::Crd,
                    "processes.ameide.io is not installed: kubectl apply -f crds/processes.ameide.io.yaml",
                );
            }
            Err(error) => {
                tracing::warn!("cannot list Processes: {error}; trying again");
                shared.readiness.down(Part::Crd, error.to_string());
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    shared.metrics.crd_missing.set(0);
    shared.readiness.up(Part::Crd);
}

fn apis<K>(shared: &Shared) -> Vec<Api<K>>
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

/// Waits for the first complete lists of both kinds, then tells the sweep.
async fn listed(shared: &Shared) {
    let mut done = shared.lists.subscribe();
    let wanted = 2 * shared.config.watch_namespaces.len().max(1);
    if done.wait_for(|lists| *lists >= wanted).await.is_ok() {
        shared.readiness.up(Part::Watch);
        tracing::info!(
            processes = shared.cache.processes().len(),
            "first lists are complete"
        );
    }
}

fn scope(api_namespace: Option<&String>) -> impl Fn(&str) -> bool + '_ {
    move |namespace| api_namespace.is_none_or(|own| own == namespace)
}

async fn processes(shared: &Shared) {
    let apis: Vec<Api<DeserializeGuard<Process>>> = apis(shared);
    let streams = apis.into_iter().enumerate().map(|(n, api)| {
        Box::pin(
            watcher(api, watcher::Config::default())
                .default_backoff()
                .map(move |event| (n, event)),
        )
    });
    let mut events = pin!(select_all(streams));
    let mut initial: Vec<Option<Vec<String>>> =
        vec![None; shared.config.watch_namespaces.len().max(1)];
    let mut first = vec![true; initial.len()];
    while let Some((n, event)) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => initial[n] = Some(Vec::new()),
            Ok(watcher::Event::InitApply(object)) => {
                if let (Some(seen), Some(uid)) = (&mut initial[n], object.uid()) {
                    seen.push(uid);
                }
                process_seen(shared, &object, first[n]);
            }
            Ok(watcher::Event::InitDone) => {
                let seen = initial[n].take().unwrap_or_default();
                let within = scope(shared.config.watch_namespaces.get(n));
                for gone in shared.cache.processes() {
                    if within(&gone.namespace) && !seen.contains(&gone.uid) {
                        process_gone(shared, &gone.uid);
                    }
                }
                if std::mem::take(&mut first[n]) {
                    shared.lists.send_modify(|lists| *lists += 1);
                }
            }
            Ok(watcher::Event::Apply(object)) => process_seen(shared, &object, false),
            Ok(watcher::Event::Delete(object)) => {
                process_gone(shared, object.uid().as_deref().unwrap_or_default());
            }
            Err(error) => failed(shared, "Process", &error),
        }
        shared
            .metrics
            .processes
            .set(i64::try_from(shared.cache.processes().len()).unwrap_or(i64::MAX));
    }
}

/// The watcher retries by itself, with back-off; here it is only said.
fn failed(shared: &Shared, kind: &str, error: &watcher::Error) {
    Metrics::count_kind(&shared.metrics.watch_events, &format!("{kind}Error"));
    tracing::warn!(kind, "watch interrupted: {error}");
}

fn neighbour(object: &DeserializeGuard<Process>) -> Option<Neighbour> {
    let process = object.0.as_ref().ok();
    let status = process.and_then(|process| process.status.as_ref());
    let stalled = status.and_then(|status| {
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Stalled")?;
        (condition.status == "True").then(|| condition.reason.clone())
    });
    Some(Neighbour {
        namespace: object.namespace()?,
        name: object.name_any(),
        uid: object.uid()?,
        created: object
            .creation_timestamp()
            .map(|time| time.0)
            .unwrap_or_default(),
        generation: object.meta().generation.unwrap_or(0),
        deleting: object.meta().deletion_timestamp.is_some(),
        finalizer: object
            .finalizers()
            .iter()
            .any(|name| name == names::finalizer::PROCESS),
        temporal_namespace: process
            .map(|process| process.spec.temporal.namespace.clone())
            .unwrap_or_default(),
        task_queue: process
            .map(|process| process.spec.temporal.task_queue.clone())
            .unwrap_or_default(),
        current: status
            .and_then(|status| status.current_version.as_ref())
            .map(|version| version.build_id.clone()),
        stalled,
        outage_shown: status.is_some_and(|status| {
            status.conditions.iter().any(|condition| {
                condition.type_ == "TemporalReachable" && condition.status == "False"
            })
        }),
        resource_version: object.resource_version().unwrap_or_default(),
    })
}

fn key_of(process: &Neighbour) -> ProcessKey {
    ProcessKey {
        namespace: process.namespace.clone(),
        name: process.name.clone(),
        uid: process.uid.clone(),
    }
}

fn process_seen(shared: &Shared, object: &DeserializeGuard<Process>, at_start: bool) {
    Metrics::count_kind(&shared.metrics.watch_events, "Process");
    let Some(now) = neighbour(object) else { return };
    let before = shared.cache.put_process(now.clone());
    if at_start {
        // What was missed while nobody watched is found by the sweep, which asks once for all.
        return;
    }
    let changed = before.as_ref().is_none_or(|before| {
        before.generation != now.generation
            || before.deleting != now.deleting
            || (before.finalizer && !now.finalizer)
    });
    if changed {
        let detail = if now.deleting {
            "deletion requested".to_owned()
        } else {
            format!("generation {}", now.generation)
        };
        shared.signaler.send(
            &key_of(&now),
            &now.uid,
            &now.resource_version,
            Changed::new(ChangeKind::Process, detail),
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
            &key_of(&other),
            &about.uid,
            &about.resource_version,
            Changed::new(ChangeKind::TaskQueue, detail),
        );
    }
}

fn process_gone(shared: &Shared, uid: &str) {
    Metrics::count_kind(&shared.metrics.watch_events, "Process");
    let Some(gone) = shared.cache.remove_process(uid) else {
        return;
    };
    shared
        .signaler
        .send_if_running(&key_of(&gone), Changed::new(ChangeKind::Process, "deleted"));
    wake_queue(shared, &gone);
}

async fn deployments(shared: &Shared) {
    let selector = format!("app.kubernetes.io/managed-by={}", names::manager::OPERATOR);
    let apis: Vec<Api<Deployment>> = apis(shared);
    let streams = apis.into_iter().enumerate().map(|(n, api)| {
        Box::pin(
            watcher(api, watcher::Config::default().labels(&selector))
                .default_backoff()
                .map(move |event| (n, event)),
        )
    });
    let mut events = pin!(select_all(streams));
    let mut initial: Vec<Option<Vec<(String, String)>>> =
        vec![None; shared.config.watch_namespaces.len().max(1)];
    let mut first = vec![true; initial.len()];
    while let Some((n, event)) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => initial[n] = Some(Vec::new()),
            Ok(watcher::Event::InitApply(object)) => {
                if let Some(seen) = &mut initial[n] {
                    seen.push((object.namespace().unwrap_or_default(), object.name_any()));
                }
                deployment_seen(shared, &object, first[n]);
            }
            Ok(watcher::Event::InitDone) => {
                let seen = initial[n].take().unwrap_or_default();
                let within = scope(shared.config.watch_namespaces.get(n));
                for gone in shared.cache.all_workloads() {
                    let name = (gone.namespace.clone(), gone.name.clone());
                    if within(&gone.namespace) && !seen.contains(&name) {
                        deployment_gone(shared, &gone.namespace, &gone.name, "");
                    }
                }
                if std::mem::take(&mut first[n]) {
                    shared.lists.send_modify(|lists| *lists += 1);
                }
            }
            Ok(watcher::Event::Apply(object)) => deployment_seen(shared, &object, false),
            Ok(watcher::Event::Delete(object)) => deployment_gone(
                shared,
                &object.namespace().unwrap_or_default(),
                &object.name_any(),
                &object.resource_version().unwrap_or_default(),
            ),
            Err(error) => failed(shared, "Deployment", &error),
        }
    }
}

/// Which Process a Deployment belongs to. By its label, not by its owner: the successor of a
/// Process waits for the objects of its predecessor to go.
fn process_of(shared: &Shared, workload: &Workload) -> Option<ProcessKey> {
    let owner = shared.cache.process(&workload.owner_uid);
    let named = || {
        shared
            .cache
            .process_named(&workload.namespace, &workload.process)
    };
    owner.or_else(named).map(|process| key_of(&process))
}

fn deployment_seen(shared: &Shared, object: &Deployment, at_start: bool) {
    Metrics::count_kind(&shared.metrics.watch_events, "Deployment");
    let Some(now) = watched::workload(object) else {
        return;
    };
    let before = shared.cache.put_workload(now.clone());
    if at_start {
        return;
    }
    let what = match &before {
        // Only an operator makes a Deployment that has a Process as its controller.
        None if now.generation == 1 => return,
        None => "found",
        Some(before) if before.deleting != now.deleting => {
            if shared.cache.leaves(&now.uid) {
                return;
            }
            "being deleted"
        }
        Some(before) if before.available != now.available => {
            if now.available {
                "available"
            } else {
                "not available"
            }
        }
        Some(before) if (before.ready_replicas > 0) != (now.ready_replicas > 0) => "ready pods",
        Some(before)
            if (before.generation != now.generation || before.fields != now.fields)
                && !shared.cache.expected(&now) =>
        {
            "edited"
        }
        Some(_) => return,
    };
    if let Some(key) = process_of(shared, &now) {
        let changed = Changed::new(
            ChangeKind::Deployment,
            format!("Deployment {} {what}", now.name),
        );
        shared
            .signaler
            .send(&key, &now.uid, &now.resource_version, changed);
    }
}

fn deployment_gone(shared: &Shared, namespace: &str, name: &str, resource_version: &str) {
    Metrics::count_kind(&shared.metrics.watch_events, "Deployment");
    let leaves = |uid: &str| shared.cache.leaves(uid);
    let by_us = shared
        .cache
        .workload(namespace, name)
        .is_some_and(|workload| leaves(&workload.uid));
    let Some(gone) = shared.cache.remove_workload(namespace, name) else {
        return;
    };
    // Only a successor of the same name still has to hear of it.
    if by_us && shared.cache.process(&gone.owner_uid).is_some() {
        return;
    }
    if let Some(key) = process_of(shared, &gone) {
        let changed = Changed::new(ChangeKind::Deployment, format!("Deployment {name} deleted"));
        shared.signaler.send(
            &key,
            &gone.uid,
            &format!("{resource_version} deleted"),
            changed,
        );
    }
}
