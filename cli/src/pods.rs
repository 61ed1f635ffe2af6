//! What is shown of a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use serde::Serialize;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodView {
    pub(crate) name: String,
    /// As kubectl shows it: the phase, or why a container waits or has ended.
    pub(crate) state: String,
    pub(crate) ready: bool,
    pub(crate) restarts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<Timestamp>,
    /// What the kubelet says about it, when it is not well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

impl PodView {
    /// A container cannot start, or has ended badly.
    pub(crate) fn broken(&self) -> bool {
        ["Error", "BackOff", "Err", "Failed", "OOM", "Invalid"]
            .iter()
            .any(|word| self.state.contains(word))
    }
}

/// A pod as it is shown.
pub(crate) fn pod(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let trouble = containers.iter().find_map(trouble);
    let phase = status
        .reason
        .or(status.phase)
        .unwrap_or_else(|| "Pending".into());
    let (state, message) = match trouble {
        _ if pod.metadata.deletion_timestamp.is_some() => ("Terminating".to_owned(), String::new()),
        Some(found) => found,
        None => (phase, unscheduled(pod).unwrap_or_default()),
    };
    PodView {
        name: pod.name_any(),
        state,
        ready,
        restarts: containers
            .iter()
            .map(|container| container.restart_count)
            .sum(),
        created: pod.metadata.creation_timestamp.as_ref().map(|at| at.0),
        message,
    }
}

/// Why a container does not run.
fn trouble(container: &ContainerStatus) -> Option<(String, String)> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone()?;
        return Some((reason, waiting.message.clone().unwrap_or_default()));
    }
    let ended = state.terminated.as_ref()?;
    let reason = ended.reason.clone().unwrap_or_else(|| "Error".into());
    let message = ended
        .message
        .clone()
        .unwrap_or_else(|| format!("exit code {}", ended.exit_code));
    Some((reason, message))
}

/// Why no node takes it.
fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False").then(|| scheduled.message.clone())?
}
