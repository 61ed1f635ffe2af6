//! Why pods are not ready, in the kubelet's words.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::ListParams;
use process_operator_crds::names;

use crate::context::Context;

/// The first reason found, as `: <pod> <reason> <message>`; empty when there is none. Messages of
/// the kubelet name images and exit codes, not values of the environment.
pub(crate) async fn trouble(
    context: &Context,
    namespace: &str,
    process: &str,
    build_id: &str,
) -> String {
    let api: Api<Pod> = Api::namespaced(context.kube.clone(), namespace);
    let selector = names::selector(process, &names::BuildId::from_observed(build_id));
    let Ok(pods) = api.list(&ListParams::default().labels(&selector)).await else {
        return String::new();
    };
    pods.items.iter().find_map(pod_trouble).unwrap_or_default()
}

/// A container that ended so often since its pod was created does not end by accident.
const RESTARTS: i32 = 2;

/// Why pods of a version that has been ready do not run any more, if they do not: they end again and
/// again, run out of memory, or their image cannot be pulled. A pod that is merely not ready, or on
/// its way to another node, says nothing about the version.
pub(crate) async fn failing(
    context: &Context,
    namespace: &str,
    process: &str,
    build_id: &str,
) -> Option<String> {
    let api: Api<Pod> = Api::namespaced(context.kube.clone(), namespace);
    let selector = names::selector(process, &names::BuildId::from_observed(build_id));
    let pods = api
        .list(&ListParams::default().labels(&selector))
        .await
        .ok()?;
    pods.items.iter().find_map(pod_failure)
}

fn pod_failure(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let failure = containers.into_iter().find_map(|container| {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        let reason = waiting
            .and_then(|waiting| waiting.reason.as_deref())
            .unwrap_or_default();
        let pulls = matches!(
            reason,
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName"
        );
        let last = container
            .last_state
            .as_ref()
            .and_then(|last| last.terminated.as_ref());
        let memory = last.is_some_and(|last| last.reason.as_deref() == Some("OOMKilled"));
        if pulls {
            return container_trouble(container);
        }
        let ends = container.restart_count >= RESTARTS;
        if !(ends || memory && container.restart_count > 0) {
            return None;
        }
        let how = last.map_or_else(String::new, |last| {
            format!(
                ", the last time with exit code {} ({})",
                last.exit_code,
                last.reason.as_deref().unwrap_or("no reason given")
            )
        });
        Some(format!("restarted {} times{how}", container.restart_count))
    })?;
    Some(format!(": pod {name} {failure}"))
}

fn pod_trouble(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(container_trouble)
        .map(|waiting| waiting + &unmounted(pod))
        .or_else(|| {
            status.conditions.iter().flatten().find_map(|condition| {
                let unscheduled = condition.type_ == "PodScheduled" && condition.status == "False";
                unscheduled.then(|| {
                    format!(
                        "not scheduled: {}",
                        condition.message.as_deref().unwrap_or_default()
                    )
                })
            })
        })?;
    Some(format!(": pod {name} {waiting}"))
}

/// What the volumes of a pod need, while its container is not made: the kubelet says only in Events,
/// which are not ours to read, that one of them is missing.
fn unmounted(pod: &Pod) -> String {
    let Some(spec) = &pod.spec else {
        return String::new();
    };
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| &status.container_statuses);
    let creating = statuses.flatten().any(|container| {
        let state = container.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("ContainerCreating")
    });
    let volumes = spec.volumes.iter().flatten();
    let needed: Vec<String> = volumes
        .filter_map(|volume| {
            if let Some(secret) = &volume.secret
                && secret.optional != Some(true)
            {
                return Some(format!("Secret {}", secret.secret_name.as_deref()?));
            }
            let map = volume.config_map.as_ref()?;
            let named = map.optional != Some(true) && map.name != "kube-root-ca.crt";
            named.then(|| format!("ConfigMap {}", map.name))
        })
        .collect();
    if !creating || needed.is_empty() {
        return String::new();
    }
    format!("(its volumes need {})", needed.join(", "))
}

fn container_trouble(status: &ContainerStatus) -> Option<String> {
    let state = status.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("Waiting");
        return Some(format!(
            "{reason} {}",
            waiting.message.as_deref().unwrap_or_default()
        ));
    }
    let terminated = state.terminated.as_ref()?;
    Some(format!("ended with exit code {}", terminated.exit_code))
}
