//! Why pods are not ready, in the kubelet's words, or not there, in those of the controller that makes them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::ListParams;
use process_operator_crds::names;

use crate::build::eventing;
use crate::context::Context;

mod ailing;

pub(crate) use ailing::trouble_of_serving;

/// The version that pods belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) process: &'a str,
    pub(crate) build_id: &'a str,
    /// Deployment that makes them.
    pub(crate) deployment: &'a str,
}

/// The first reason found, as `: <pod> <reason> <message>`; empty when there is none. Messages of
/// the kubelet name images, Secrets, ConfigMaps and exit codes, not values of the environment.
pub(crate) async fn trouble(context: &Context, of: Of<'_>) -> String {
    first(context, of, pod_trouble).await
}

/// The same while it is waited for: what merely takes its time is no reason.
pub(crate) async fn hindrance(context: &Context, of: Of<'_>) -> String {
    let now = Timestamp::now();
    first(context, of, |pod| pod_hindrance(pod, now)).await
}

async fn first(context: &Context, of: Of<'_>, why: impl Fn(&Pod) -> Option<String>) -> String {
    let api: Api<Pod> = Api::namespaced(context.kube.clone(), of.namespace);
    let selector = names::selector(of.process, &names::BuildId::from_observed(of.build_id));
    let Ok(pods) = api.list(&ListParams::default().labels(&selector)).await else {
        return String::new();
    };
    if let Some(why) = pods.items.iter().find_map(why) {
        return why;
    }
    let api: Api<Deployment> = Api::namespaced(context.kube.clone(), of.namespace);
    let live = api.get_opt(of.deployment).await.ok().flatten();
    live.as_ref().and_then(refused).unwrap_or_default()
}

/// Why the API server lets no pod be made: a quota, a limit, a policy, a webhook.
fn refused(live: &Deployment) -> Option<String> {
    let conditions = live.status.as_ref()?.conditions.iter().flatten();
    let mut failures = conditions.filter(|it| it.type_ == "ReplicaFailure" && it.status == "True");
    let message = failures.next()?.message.as_deref()?;
    // The name is another one with each try.
    let named = message
        .strip_prefix("pods \"")
        .and_then(|rest| rest.split_once("\" "));
    let message = named.map_or_else(|| message.to_owned(), |(_, rest)| format!("it {rest}"));
    Some(format!(": no pod can be made: {message}"))
}

/// Mounting takes a moment, and longer on a busy node.
const MOUNTING: Duration = Duration::from_secs(15);

fn pod_hindrance(pod: &Pod, now: Timestamp) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let made = pod.metadata.creation_timestamp.as_ref();
    let age = made.and_then(|made| Duration::try_from(now.duration_since(made.0)).ok());
    let young = age.is_none_or(|age| age < MOUNTING);
    let statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
    let creating = statuses.into_iter().any(|container| {
        let state = container.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| {
            matches!(
                waiting.reason.as_deref(),
                None | Some("ContainerCreating" | "PodInitializing")
            )
        })
    });
    if creating && (young || unmounted(pod).is_empty()) {
        return None;
    }
    pod_trouble(pod)
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
        Some(restarts(container))
    })?;
    Some(format!(": pod {name} {failure}"))
}

/// How often a container was restarted, and how it ended last.
fn restarts(container: &ContainerStatus) -> String {
    let last = container
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    let how = last.map_or_else(String::new, |last| {
        format!(
            ", the last time with exit code {} ({})",
            last.exit_code,
            last.reason.as_deref().unwrap_or("no reason given")
        )
    });
    format!("restarted {} times{how}", container.restart_count)
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
                let name = secret.secret_name.as_deref()?;
                let field = eventing::field_of(&volume.name);
                let field = field.map_or_else(String::new, |field| format!(" of {field}"));
                return Some(format!("Secret {name}{field}"));
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
    let why = terminated.reason.as_deref().unwrap_or_default();
    let why = match why {
        // These say no more than the exit code.
        "" | "Error" | "Completed" => String::new(),
        why => format!(" ({why})"),
    };
    Some(format!(
        "ended with exit code {}{why}",
        terminated.exit_code
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(state: &Value, volumes: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "containers": [], "volumes": volumes },
            "status": { "containerStatuses": [{
                "name": "worker", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": state,
            }] },
        }))
        .expect("a pod")
    }

    fn at(second: i64) -> Timestamp {
        "2026-01-01T00:00:00Z"
            .parse::<Timestamp>()
            .expect("a time")
            .checked_add(jiff::SignedDuration::from_secs(second))
            .expect("a time")
    }

    #[test]
    fn what_is_missing_for_the_environment_is_said_at_once() {
        let state = json!({ "waiting": {
            "reason": "CreateContainerConfigError", "message": "secret \"db\" not found",
        } });
        let said = pod_hindrance(&pod(&state, &json!([])), at(1));
        assert_eq!(
            said.as_deref(),
            Some(": pod p CreateContainerConfigError secret \"db\" not found")
        );
    }

    #[test]
    fn what_is_missing_for_a_volume_is_said_when_mounting_takes_long() {
        let state = json!({ "waiting": { "reason": "ContainerCreating" } });
        let needs = json!([{ "name": "v", "secret": { "secretName": "tls" } }]);
        assert_eq!(pod_hindrance(&pod(&state, &needs), at(14)), None);
        let said = pod_hindrance(&pod(&state, &needs), at(15)).expect("a reason");
        assert!(said.contains("Secret tls"), "{said}");
        let bus = json!([{ "name": "process-eventing-main", "secret": { "secretName": "bus" } }]);
        let said = pod_hindrance(&pod(&state, &bus), at(15)).expect("a reason");
        let field = "Secret bus of spec.dependencies.eventing.clusters[main].credentialsSecretRef";
        assert!(said.contains(field), "{said}");
        // Nothing is known but that it takes its time.
        assert_eq!(pod_hindrance(&pod(&state, &json!([])), at(600)), None);
    }

    fn status(restarts: i32, state: &Value, last: &Value) -> Pod {
        let mut pod = pod(state, &json!([]));
        let status = pod.status.as_mut().expect("a status");
        let container = &mut status.container_statuses.as_mut().expect("containers")[0];
        container.restart_count = restarts;
        container.last_state = serde_json::from_value(last.clone()).expect("a state");
        pod
    }

    #[test]
    fn what_speaks_against_a_version_is_a_pod_that_cannot_run_and_nothing_else() {
        let runs = json!({ "running": {} });
        let waits = |reason| json!({ "waiting": { "reason": reason, "message": "m" } });
        let ended = |code, reason| json!({ "terminated": { "exitCode": code, "reason": reason } });
        let none = Value::Null;
        for (restarts, state, last, expected) in [
            // Ended once: that may be an accident.
            (0, &runs, &none, None),
            (1, &runs, &ended(1, "Error"), None),
            (1, &waits("CrashLoopBackOff"), &ended(1, "Error"), None),
            (
                2,
                &runs,
                &ended(1, "Error"),
                Some(": pod p restarted 2 times, the last time with exit code 1 (Error)"),
            ),
            (2, &runs, &none, Some(": pod p restarted 2 times")),
            // It will be so again.
            (
                1,
                &runs,
                &ended(137, "OOMKilled"),
                Some(": pod p restarted 1 times, the last time with exit code 137 (OOMKilled)"),
            ),
            (
                0,
                &waits("ImagePullBackOff"),
                &none,
                Some(": pod p ImagePullBackOff m"),
            ),
            (
                0,
                &waits("ErrImagePull"),
                &none,
                Some(": pod p ErrImagePull m"),
            ),
            (
                0,
                &waits("InvalidImageName"),
                &none,
                Some(": pod p InvalidImageName m"),
            ),
            // It takes its time.
            (0, &waits("ContainerCreating"), &none, None),
            (0, &waits("PodInitializing"), &none, None),
        ] {
            let mut pod = status(restarts, state, last);
            assert_eq!(
                pod_failure(&pod).as_deref(),
                expected,
                "{restarts} {state} {last}"
            );
            pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
            assert_eq!(
                pod_failure(&pod),
                None,
                "it is being deleted: {state} {last}"
            );
        }
        // Merely not ready, as `status` has it throughout; or not begun at all.
        let unseen: Pod =
            serde_json::from_value(json!({ "metadata": {}, "status": {} })).expect("a pod");
        assert_eq!(pod_failure(&unseen), None);
    }

    #[test]
    fn a_refused_pod_is_told_without_its_name() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": { "name": "d" },
            "status": { "conditions": [
                { "type": "Progressing", "status": "True", "message": "other" },
                { "type": "ReplicaFailure", "status": "True",
                  "message": "pods \"d-x7x2p\" is forbidden: exceeded quota: few" },
            ] },
        }))
        .expect("a Deployment");
        assert_eq!(
            refused(&deployment).as_deref(),
            Some(": no pod can be made: it is forbidden: exceeded quota: few")
        );
    }
}
