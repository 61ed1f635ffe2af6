//! What a Process leaves that went without the operator: its finalizer was removed by hand. The
//! namespace still owns it then, so the garbage collector would keep it for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use process_operator_activities::dependents::{self, Owned};
use process_operator_crds::names;
use process_operator_workflows::contract::ProcessKey;
use tokio::sync::mpsc;

use super::watch::apis;
use super::{Shared, answered};

/// Time until it is looked at again whether what was given to the garbage collector has gone.
const AGAIN: Duration = Duration::from_secs(5);

/// Releases for ever: what is found at start, of each Process that goes, and with each sweep what is
/// seen without one.
pub(super) async fn run(shared: Shared, mut gone: mpsc::UnboundedReceiver<ProcessKey>) {
    if !shared.listed().await {
        return;
    }
    let mut ticks = tokio::time::interval(shared.config.sweep());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What went while nobody watched has no event: listed once.
    let mut listed = false;
    let mut left: BTreeSet<ProcessKey> = BTreeSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(AGAIN), if !left.is_empty() => {}
            _ = ticks.tick() => {
                if !listed {
                    match at_start(&shared).await {
                        Ok(found) => {
                            left.extend(found);
                            listed = true;
                        }
                        Err(error) => tracing::warn!("cannot look for abandoned objects: {error}"),
                    }
                }
                left.extend(seen(&shared));
            }
            key = gone.recv() => match key {
                Some(key) => _ = left.insert(key),
                None => return,
            },
        }
        for key in std::mem::take(&mut left) {
            if shared.cache.process(&key.uid).is_some() {
                continue;
            }
            match release(&shared, &key).await {
                Ok(0) => {}
                // Until the garbage collector has taken them.
                Ok(_) => _ = left.insert(key),
                Err(error) => {
                    tracing::warn!(
                        process = key.name,
                        namespace = key.namespace,
                        "abandoned objects are left: {error}"
                    );
                    left.insert(key);
                }
            }
        }
    }
}

async fn release(shared: &Shared, key: &ProcessKey) -> kube::Result<usize> {
    let heir = shared.cache.process_named(&key.namespace, &key.name);
    answered(dependents::release(&shared.client, key, &[], heir.as_ref())).await
}

/// Processes that Deployments were made for and that are not there.
fn seen(shared: &Shared) -> Vec<ProcessKey> {
    let workloads = shared.cache.all_workloads().into_iter();
    workloads
        .filter(|workload| {
            let named = shared
                .cache
                .process_named(&workload.namespace, &workload.process);
            // One of the same name takes over what serves it, and nothing else.
            let left = named.is_none_or(|named| {
                named.uid != workload.owner_uid
                    && named
                        .current
                        .is_some_and(|current| current != workload.build_id)
            });
            left && workload.held && !workload.deleting && !workload.owner_uid.is_empty()
        })
        .map(|workload| ProcessKey {
            namespace: workload.namespace,
            name: workload.process,
            uid: workload.owner_uid,
        })
        .collect()
}

async fn at_start(shared: &Shared) -> kube::Result<Vec<ProcessKey>> {
    let mut found = marked_objects::<ControllerRevision>(shared).await?;
    found.extend(marked_objects::<ConfigMap>(shared).await?);
    found.extend(marked_objects::<Deployment>(shared).await?);
    found.retain(|key| shared.cache.process(&key.uid).is_none());
    Ok(found)
}

async fn marked_objects<K: Owned>(shared: &Shared) -> kube::Result<Vec<ProcessKey>> {
    let managed = format!(
        "{}={}",
        names::label::APP_MANAGED_BY,
        names::manager::OPERATOR
    );
    // As the API server remembers it; what is younger has a Process that is watched.
    let selector = ListParams::default().labels(&managed).match_any();
    let mut keys = Vec::new();
    for api in apis::<K>(shared) {
        let api: Api<K> = api;
        for found in answered(api.list_metadata(&selector)).await? {
            let of = dependents::marked_for(&found.metadata);
            let process = found.labels().get(names::label::PROCESS);
            if let (Some(uid), Some(name), Some(namespace)) = (of, process, found.namespace()) {
                keys.push(ProcessKey {
                    namespace,
                    name: name.clone(),
                    uid: uid.to_owned(),
                });
            }
        }
    }
    Ok(keys)
}
