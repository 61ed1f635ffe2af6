//! Processes in several states, for tests.

use jiff::Timestamp;
use process_operator_crds::Process;
use serde_json::{Value, json};

use crate::model::Objects;

/// The time at which the tests look.
pub(crate) fn now() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().expect("a time")
}

/// Build ids of the versions.
pub(crate) const V1: &str = "v1-b2050a7a";
pub(crate) const V2: &str = "v2-939c6bf2";

/// A condition.
pub(crate) fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-29T11:00:00Z",
    })
}

fn version(build_id: &str, since: &str) -> Value {
    let hash = build_id.split('-').nth(1).expect("a hash");
    json!({
        "buildId": build_id, "deploymentName": format!("l2o-{hash}"), "replicas": 1, "readyReplicas": 1,
        "since": since,
    })
}

/// A Process that has settled on v1.
pub(crate) fn settled() -> Objects {
    let process = json!({
        "apiVersion": "ameide.io/v1",
        "kind": "Process",
        "metadata": {
            "name": "l2o", "namespace": "shop", "uid": "4f", "generation": 3,
            "creationTimestamp": "2026-11-26T12:00:00Z",
        },
        "spec": {
            "image": "registry/l2o:v1",
            "definitionRef": { "id": "L2O_v3", "tenantId": "t1" },
            "temporal": { "namespace": "apps", "taskQueue": "l2o-tq" },
        },
        "status": {
            "observedGeneration": 3,
            "taskQueue": "l2o-tq",
            "workflow": { "namespace": "control", "id": "process/shop/l2o/4f", "runId": "0190" },
            "currentVersion": version(V1, "2026-11-26T12:00:00Z"),
            "targetVersion": version(V1, "2026-11-26T12:00:00Z"),
            "conditions": [
                condition("Ready", "True", "Settled", "v1-b2050a7a is current, 1/1 worker pods ready"),
                condition("Progressing", "False", "Settled", "the spec's version is current"),
                condition("Degraded", "False", "AsExpected", ""),
                condition("WorkersReady", "True", "WorkersReady", "1/1 worker pods ready"),
                condition("DefinitionResolved", "True", "OpaqueReference", ""),
                condition("DependenciesReady", "True", "NoDependencies", ""),
                condition("MutableTag", "False", "AsExpected", ""),
                condition("TemporalReachable", "True", "TemporalReachable", ""),
                condition("Draining", "False", "NothingDraining", ""),
                condition("Reconciling", "False", "AsExpected", ""),
                condition("Stalled", "False", "AsExpected", ""),
            ],
            "history": [
                { "time": "2026-11-26T12:00:00Z", "what": "VersionCurrent", "buildId": V1,
                  "reason": "new executions go to it", "actor": "process-operator" },
            ],
        },
    });
    Objects {
        process: serde_json::from_value(process).expect("a Process"),
        deployments: vec![from(deployment(V1, 1))],
        pods: vec![from(pod(V1, "x7x2q", 0))],
        revisions: Vec::new(),
        unseen: Vec::new(),
    }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn labels(build_id: &str) -> Value {
    json!({ "ameide.io/process": "l2o", "ameide.io/build-id": build_id })
}

fn deployment(build_id: &str, ready: i32) -> Value {
    let hash = build_id.split('-').nth(1).expect("a hash");
    json!({
        "metadata": {
            "name": format!("l2o-{hash}"), "labels": labels(build_id),
            "creationTimestamp": "2026-11-29T11:50:00Z",
        },
        "spec": { "replicas": 1, "selector": {}, "template": {} },
        "status": { "readyReplicas": ready },
    })
}

fn pod(build_id: &str, suffix: &str, restarts: i32) -> Value {
    let hash = build_id.split('-').nth(1).expect("a hash");
    json!({
        "metadata": {
            "name": format!("l2o-{hash}-{suffix}"), "labels": labels(build_id),
            "creationTimestamp": "2026-11-29T11:50:00Z",
        },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": restarts,
                "state": { "running": {} },
            }],
        },
    })
}

/// The status as JSON, changed, and put back.
pub(crate) fn change(objects: &mut Objects, change: impl FnOnce(&mut Value)) {
    let mut process = serde_json::to_value(&objects.process).expect("JSON");
    change(&mut process);
    objects.process = serde_json::from_value::<Process>(process).expect("a Process");
}

/// Another condition in the place of the one of that type.
pub(crate) fn set(process: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let conditions = process["status"]["conditions"]
        .as_array_mut()
        .expect("conditions");
    conditions.retain(|condition| condition["type"] != kind);
    conditions.push(condition(kind, status, reason, message));
}

/// A canary that takes a quarter and pauses.
pub(crate) fn canary() -> Objects {
    let mut objects = settled();
    objects.deployments.push(from(deployment(V2, 1)));
    objects.pods.push(from(pod(V2, "jbh8m", 1)));
    change(&mut objects, |process| {
        process["spec"]["image"] = "registry/l2o:v2".into();
        process["status"]["targetVersion"] = version(V2, "2026-11-29T11:50:00Z");
        process["status"]["rollout"] = json!({
            "stage": "Pausing", "step": 1, "steps": 2, "weight": 25,
            "nextStepTime": "2026-11-29T12:04:12Z", "startedTime": "2026-11-29T11:50:00Z",
            "deadline": "2026-11-29T12:00:00Z", "message": "",
        });
        process["status"]["lastRequest"] = json!({
            "id": "1", "verb": "promote", "result": "Refused", "message": "the new version does not serve yet",
            "time": "2026-11-29T11:51:00Z",
        });
        set(process, "Progressing", "True", "RollingOut", "step 1 of 2");
        set(process, "Reconciling", "True", "RollingOut", "step 1 of 2");
    });
    objects
}

/// v2 serves, v1 drains with a deadline, and an older version is kept.
pub(crate) fn draining() -> Objects {
    let mut objects = canary();
    objects.revisions.push(from(json!({
        "metadata": {
            "name": "l2o-00000000", "labels": labels("v0-00000000"),
            "annotations": { "ameide.io/last-current": "2026-11-20T12:00:00Z" },
        },
        "revision": 1,
    })));
    change(&mut objects, |process| {
        let status = &mut process["status"];
        status["currentVersion"] = version(V2, "2026-11-29T11:55:00Z");
        status.as_object_mut().expect("a status").remove("rollout");
        status
            .as_object_mut()
            .expect("a status")
            .remove("lastRequest");
        status["draining"] = json!([{
            "buildId": V1, "deploymentName": "l2o-b2050a7a", "since": "2026-11-29T11:55:00Z",
            "deadline": "2026-12-13T11:55:00Z", "openWorkflows": 3, "onTimeout": "Cancel",
            "oldestStartTime": "2026-11-27T09:00:00Z",
        }]);
        set(
            process,
            "Progressing",
            "False",
            "Settled",
            "the spec's version is current",
        );
        set(process, "Reconciling", "False", "AsExpected", "");
        set(
            process,
            "Draining",
            "True",
            "DrainingVersions",
            "v1-b2050a7a",
        );
    });
    objects
}

/// v2 was aborted by a person.
pub(crate) fn aborted() -> Objects {
    let mut objects = canary();
    objects.deployments.truncate(1);
    objects.pods.truncate(1);
    change(&mut objects, |process| {
        let status = &mut process["status"];
        status.as_object_mut().expect("a status").remove("rollout");
        status
            .as_object_mut()
            .expect("a status")
            .remove("lastRequest");
        status["history"] = json!([
            { "time": "2026-11-29T11:58:00Z", "what": "AbortRequested", "buildId": V2,
              "reason": "new workflows go to the version that served before (too slow)", "actor": "ada" },
        ]);
        let why = "aborted by ada (too slow)";
        set(process, "Progressing", "False", "RolloutAborted", why);
        set(process, "Reconciling", "False", "AsExpected", "");
        set(process, "Degraded", "True", "RolloutAborted", why);
        set(process, "Stalled", "True", "RolloutAborted", why);
    });
    objects
}

/// A first version for which Temporal has no namespace.
pub(crate) fn blocked() -> Objects {
    let mut objects = settled();
    objects.deployments.clear();
    objects.pods.clear();
    change(&mut objects, |process| {
        let status = process["status"].as_object_mut().expect("a status");
        for field in ["currentVersion", "targetVersion", "history"] {
            status.remove(field);
        }
        let why = "spec.temporal.namespace: Temporal namespace apps does not exist";
        set(process, "Ready", "False", "NamespaceNotFound", why);
        set(process, "Progressing", "False", "NamespaceNotFound", why);
        set(
            process,
            "WorkersReady",
            "False",
            "WorkersUnavailable",
            "no worker Deployment yet",
        );
        set(process, "Degraded", "True", "NamespaceNotFound", why);
        set(process, "Stalled", "True", "NamespaceNotFound", why);
    });
    objects
}

/// A first version whose image is not there.
pub(crate) fn unpullable() -> Objects {
    let mut objects = settled();
    objects.deployments = vec![from(deployment(V1, 0))];
    let mut broken = pod(V1, "x7x2q", 0);
    broken["status"] = json!({
        "phase": "Pending",
        "containerStatuses": [{
            "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } },
        }],
    });
    objects.pods = vec![from(broken)];
    change(&mut objects, |process| {
        let status = process["status"].as_object_mut().expect("a status");
        status.remove("currentVersion");
        status.insert(
            "rollout".into(),
            json!({
                "stage": "Starting", "step": 0, "steps": 0, "weight": 0,
                "startedTime": "2026-11-29T11:50:00Z", "deadline": "2026-11-29T12:00:30Z",
            }),
        );
        set(
            process,
            "Ready",
            "False",
            "RollingOut",
            "no version is current yet; 0/1 worker pods ready",
        );
        set(
            process,
            "WorkersReady",
            "False",
            "WorkersUnavailable",
            "0/1 worker pods ready",
        );
        set(
            process,
            "Progressing",
            "True",
            "WaitingForWorkers",
            "0/1 worker pods ready",
        );
        set(
            process,
            "Reconciling",
            "True",
            "WaitingForWorkers",
            "0/1 worker pods ready",
        );
    });
    objects
}
