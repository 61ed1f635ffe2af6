//! What is wrong with the pods of a version that serves: nobody waits for them, so they are looked at once for
//! each change of their Deployment.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::ListParams;
use process_operator_crds::names;

use super::{MOUNTING, Of, container_trouble, pod_hindrance, refused, restarts};
use crate::context::Context;

/// What failed before that is no reason for what is missing now.
const RECENT: Duration = Duration::from_secs(600);

/// The first reason found, as `pod <pod> <reason> <message>`; empty when there is none, as for a pod that has
/// only just been made in place of another. Living pods are asked before those that have failed for good, of
/// which Kubernetes keeps old ones.
pub(crate) async fn trouble_of_serving(context: &Context, of: Of<'_>) -> String {
    let api: Api<Pod> = Api::namespaced(context.kube.clone(), of.namespace);
    let selector = names::selector(of.process, &names::BuildId::from_observed(of.build_id));
    let Ok(pods) = api.list(&ListParams::default().labels(&selector)).await else {
        return String::new();
    };
    let now = Timestamp::now();
    let (failed, living): (Vec<Pod>, Vec<Pod>) = pods.items.into_iter().partition(has_failed);
    let mut why = living.iter().find_map(|pod| ails(pod, now));
    if why.is_none() {
        let api: Api<Deployment> = Api::namespaced(context.kube.clone(), of.namespace);
        let live = api.get_opt(of.deployment).await.ok().flatten();
        why = live.as_ref().and_then(refused);
    }
    // What lives says nothing against itself yet: the last one to fail may say why it has to be new.
    why.or_else(|| last(&failed, now))
        .map(|why| why.trim_start_matches(": ").trim_end().to_owned())
        .unwrap_or_default()
}

fn has_failed(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Failed")
}

/// Evicted, or not admitted by its node: the pod itself says why.
fn last(failed: &[Pod], now: Timestamp) -> Option<String> {
    let pod = failed.iter().max_by_key(|pod| changed(pod))?;
    let age = Duration::try_from(now.duration_since(changed(pod)?)).unwrap_or_default();
    if age > RECENT {
        return None;
    }
    let status = pod.status.as_ref()?;
    Some(format!(
        "pod {} {}: {}",
        pod.metadata.name.as_deref().unwrap_or_default(),
        status.reason.as_deref().unwrap_or("failed"),
        status.message.as_deref().unwrap_or("no message was given"),
    ))
}

/// When its conditions changed last, or it was made.
fn changed(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let changes = conditions.filter_map(|condition| condition.last_transition_time.as_ref());
    let made = pod.metadata.creation_timestamp.iter();
    changes.chain(made).map(|time| time.0).max()
}

fn ails(pod: &Pod, now: Timestamp) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() || is_ready(pod) {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let ends = containers.into_iter().find_map(container_ends);
    if let Some(why) = ends {
        return Some(format!("pod {name} {why}"));
    }
    pod_hindrance(pod, now).or_else(|| unready(pod, name, now))
}

/// A container that has ended, or was started again because it had.
fn container_ends(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let again = container.restart_count > 0;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("Waiting");
        // The kubelet's message for it names the seconds to the next try, which are others at each look.
        return (reason == "CrashLoopBackOff")
            .then(|| format!("{reason}: {}", restarts(container)))
            .or_else(|| (!creating(reason)).then(|| container_trouble(container))?);
    }
    if let Some(ended) = &state.terminated {
        let reason = ended.reason.as_deref().unwrap_or("no reason given");
        return Some(format!(
            "ended with exit code {} ({reason})",
            ended.exit_code
        ));
    }
    (again && !container.ready).then(|| restarts(container))
}

fn creating(reason: &str) -> bool {
    matches!(reason, "Waiting" | "ContainerCreating" | "PodInitializing")
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let mut found = conditions.filter(|condition| condition.type_ == type_);
    let found = found.next()?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// It runs and is not ready: its probe fails, or its node does not answer.
fn unready(pod: &Pod, name: &str, now: Timestamp) -> Option<String> {
    let started = pod.status.as_ref()?.start_time.as_ref()?;
    let age = Duration::try_from(now.duration_since(started.0)).ok()?;
    let (status, message) = condition(pod, "Ready")?;
    let why = if message.is_empty() {
        "its node may not answer"
    } else {
        message
    };
    // A large image takes its time.
    let mut containers = pod
        .status
        .iter()
        .flat_map(|it| it.container_statuses.iter().flatten());
    let runs = containers.all(|it| it.state.as_ref().is_some_and(|it| it.running.is_some()));
    let scheduled = condition(pod, "PodScheduled").is_some_and(|(status, _)| status == "True");
    (scheduled && runs && age > MOUNTING && status != "True")
        .then(|| format!("pod {name} is not ready: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    fn pod(container: &Value) -> Pod {
        let mut status = json!({ "name": "worker", "image": "i", "imageID": "", "ready": false, "restartCount": 0 });
        for (name, value) in container.as_object().expect("an object") {
            status[name] = value.clone();
        }
        serde_json::from_value(json!({
            "metadata": { "name": "p", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "status": {
                "phase": "Running",
                "startTime": "2026-01-01T00:00:00Z",
                "containerStatuses": [status],
                "conditions": [
                    { "type": "PodScheduled", "status": "True" },
                    { "type": "Ready", "status": "False", "message": "containers with unready status: [worker]" },
                ],
            },
        }))
        .expect("a pod")
    }

    #[test]
    fn each_way_of_being_lost_has_its_words() {
        let ended = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let missing = json!({ "waiting": { "reason": "CreateContainerConfigError", "message": "no such thing" } });
        let back_off =
            json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 20s" } });
        let running = json!({ "running": {} });
        for (container, words) in [
            (
                json!({ "state": ended }),
                "pod p ended with exit code 137 (OOMKilled)",
            ),
            (
                json!({ "state": missing }),
                "pod p CreateContainerConfigError no such thing",
            ),
            (
                json!({ "state": back_off, "restartCount": 3, "lastState": ended }),
                "pod p CrashLoopBackOff: restarted 3 times, the last time with exit code 137 (OOMKilled)",
            ),
            (
                json!({ "state": running, "restartCount": 1, "lastState": ended }),
                "pod p restarted 1 times, the last time with exit code 137 (OOMKilled)",
            ),
            (
                json!({ "state": running }),
                "pod p is not ready: containers with unready status: [worker]",
            ),
        ] {
            assert_eq!(ails(&pod(&container), now()).as_deref(), Some(words));
        }
    }

    #[test]
    fn a_pod_that_has_just_been_made_says_nothing() {
        let creating = json!({ "state": { "waiting": { "reason": "ContainerCreating" } } });
        let young = "2026-01-01T00:00:05Z".parse().expect("a time");
        assert_eq!(ails(&pod(&creating), young), None);
        assert_eq!(
            ails(&pod(&json!({ "state": { "running": {} } })), young),
            None
        );
    }

    #[test]
    fn the_last_one_that_was_evicted_says_why() {
        let evicted = |name: &str, made: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": name, "creationTimestamp": made },
                "status": { "phase": "Failed", "reason": "Evicted", "message": format!("{name} was too big") },
            }))
            .expect("a pod")
        };
        let failed = [
            evicted("new", "2026-01-01T00:00:30Z"),
            evicted("old", "2026-01-01T00:00:00Z"),
        ];
        let said = last(&failed, now());
        assert_eq!(said.as_deref(), Some("pod new Evicted: new was too big"));
        let later = "2026-01-01T00:20:00Z".parse().expect("a time");
        assert_eq!(last(&failed, later), None);
        assert!(failed.iter().all(has_failed));
    }
}
