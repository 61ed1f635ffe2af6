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

fn pod_trouble(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(container_trouble)
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
