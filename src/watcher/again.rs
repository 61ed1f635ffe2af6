//! Against a watch that is open and yet does not say everything: a new list now and then, and a
//! fresh read of one Process where something differs.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use process_operator_activities::cache::Neighbour;
use process_operator_crds::{Process, names};
use serde::de::DeserializeOwned;

use super::watch::Followed;
use super::{Shared, answered};

/// Watches, and begins anew with a list after each period.
pub(super) fn watched<K>(
    api: Api<K>,
    config: watcher::Config,
    period: Duration,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    stream::repeat(()).flat_map(move |()| {
        watcher(api.clone(), config.clone())
            .default_backoff()
            .take_until(tokio::time::sleep(period))
    })
}

/// Reads a Process and its Deployments and passes them on as if the watch had just shown them.
/// `None` when the Process is gone.
pub(super) async fn look(shared: &Shared, process: &Neighbour) -> kube::Result<Option<Neighbour>> {
    let api: Api<DeserializeGuard<Process>> =
        Api::namespaced(shared.client.clone(), &process.namespace);
    let found = answered(api.get_opt(&process.name)).await?;
    let same = found.as_ref().and_then(kube::ResourceExt::uid).as_deref() == Some(&process.uid);
    if !same {
        <DeserializeGuard<Process> as Followed>::gone(shared, &process.uid, "");
    }
    if let Some(found) = found {
        found.seen(shared, false);
    }
    if !same {
        return Ok(None);
    }
    look_at_workloads(shared, process).await?;
    if !process.versioning.is_default() {
        look_at_routing(shared, process).await?;
    }
    Ok(shared.cache.process(&process.uid))
}

async fn look_at_routing(shared: &Shared, process: &Neighbour) -> kube::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(shared.client.clone(), &process.namespace);
    let found = answered(api.get_opt(&names::routing_name(&process.name))).await?;
    match found {
        Some(found) if found.labels().contains_key(names::label::PROCESS) => {
            found.seen(shared, false);
        }
        _ => ConfigMap::gone(
            shared,
            &(
                process.namespace.clone(),
                process.name.clone(),
                names::routing_name(&process.name),
            ),
            "",
        ),
    }
    Ok(())
}

async fn look_at_workloads(shared: &Shared, process: &Neighbour) -> kube::Result<()> {
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), &process.namespace);
    let of_process = format!("{}={}", names::label::PROCESS, process.name);
    let found = answered(api.list(&ListParams::default().labels(&of_process))).await?;
    let cached = shared
        .cache
        .workloads_of(&process.namespace, &process.name, &process.uid);
    for workload in cached {
        if !found.iter().any(|found| found.name_any() == workload.name) {
            Deployment::gone(shared, &(workload.namespace, workload.name), "");
        }
    }
    for deployment in &found {
        deployment.seen(shared, false);
    }
    Ok(())
}
