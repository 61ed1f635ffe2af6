//! What is shown of a Process, made from the objects as they were read. Pure: no client, no clock.

mod views;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::ResourceExt as _;
use process_operator_crds::spec::Versioning;
use process_operator_crds::status::{DrainingVersion, ProcessStatus, VersionStatus};
use process_operator_crds::{ConditionType, Process, names};

use crate::phase::phase;
use crate::pods::{PodView, pod};
pub(crate) use views::*;

/// The objects of one Process.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    /// The Process.
    pub(crate) process: Process,
    /// Deployments of its versions.
    pub(crate) deployments: Vec<Deployment>,
    /// Pods of its versions.
    pub(crate) pods: Vec<Pod>,
    /// What is kept of its versions.
    pub(crate) revisions: Vec<ControllerRevision>,
    /// Kinds that the caller may not read.
    pub(crate) unseen: Vec<String>,
}

/// Everything about a Process.
pub(crate) fn tree(objects: &Objects) -> Tree {
    let process = &objects.process;
    let status = process.status.clone().unwrap_or_default();
    Tree {
        namespace: process.namespace().unwrap_or_default(),
        name: process.name_any(),
        phase: phase(process),
        image: process.spec.image.clone(),
        task_queue: status
            .task_queue
            .clone()
            .unwrap_or_else(|| process.spec.temporal.task_queue.clone()),
        temporal_namespace: process.spec.temporal.namespace.clone(),
        workflow: status.workflow.as_ref().map(|workflow| WorkflowView {
            namespace: workflow.namespace.clone(),
            id: workflow.id.clone(),
            run_id: workflow.run_id.clone().unwrap_or_default(),
        }),
        rollout: rollout(&status),
        versions: versions(objects, &status),
        conditions: telling(&status.conditions),
        history: history(&status),
        last_request: status.last_request.as_ref().map(|request| RequestView {
            id: request.id.clone(),
            verb: request.verb.clone(),
            result: request.result.clone(),
            message: request.message.clone(),
            time: request.time.0,
        }),
        unseen: objects.unseen.clone(),
    }
}

/// The transitions that the status remembers, oldest first.
pub(crate) fn history(status: &ProcessStatus) -> Vec<ActionView> {
    let entry = status.history.iter().map(|entry| ActionView {
        time: entry.time.0,
        what: entry.what.clone(),
        build_id: entry.build_id.clone().unwrap_or_default(),
        actor: entry.actor.clone().unwrap_or_default(),
        reason: entry.reason.clone().unwrap_or_default(),
    });
    entry.collect()
}

fn rollout(status: &ProcessStatus) -> Option<RolloutView> {
    let rollout = status.rollout.as_ref()?;
    let build_id = build_id(status.target_version.as_ref());
    let next = match rollout.stage.as_str() {
        "Starting" => rollout
            .deadline
            .as_ref()
            .map(|at| ("must be ready".to_owned(), at.0)),
        _ => rollout
            .next_step_time
            .as_ref()
            .map(|at| ("goes on".to_owned(), at.0)),
    };
    Some(RolloutView {
        build_id,
        stage: rollout.stage.clone(),
        step: rollout.step,
        steps: rollout.steps,
        weight: rollout.weight,
        started: rollout.started_time.as_ref().map(|at| at.0),
        next,
        message: rollout.message.clone(),
    })
}

fn build_id(version: Option<&VersionStatus>) -> String {
    version
        .map(|version| version.build_id.clone())
        .unwrap_or_default()
}

/// All versions: the one that comes, the one that serves, those that go, and those that are kept.
fn versions(objects: &Objects, status: &ProcessStatus) -> Vec<VersionView> {
    let mut found = Vec::new();
    let current = status.current_version.as_ref();
    let target = status.target_version.as_ref();
    if let Some(target) = target.filter(|target| build_id(current) != target.build_id) {
        let state = match &status.rollout {
            Some(rollout) if rollout.weight > 0 => VersionState::Ramping(rollout.weight),
            Some(_) => VersionState::Starting,
            None => VersionState::NotRouted,
        };
        found.push(view(
            objects,
            &target.build_id,
            state,
            target.since.as_ref().map(|at| at.0),
        ));
    }
    if let Some(current) = current {
        let since = current.since.as_ref().map(|at| at.0);
        found.push(view(
            objects,
            &current.build_id,
            VersionState::Current,
            since,
        ));
    }
    for drain in &status.draining {
        let known = found
            .iter_mut()
            .find(|version| version.build_id == drain.build_id);
        if let Some(version) = known {
            // Given up, and still running what was started on it.
            version.drain = Some(drain_view(drain));
            version.state = VersionState::Draining;
        } else {
            let since = drain.since.as_ref().map(|at| at.0);
            let mut version = view(objects, &drain.build_id, VersionState::Draining, since);
            version.drain = Some(drain_view(drain));
            found.push(version);
        }
    }
    for deployment in &objects.deployments {
        let Some(build_id) = label(&deployment.metadata, names::label::BUILD_ID) else {
            continue;
        };
        if found.iter().all(|version| version.build_id != build_id) {
            found.push(view(objects, build_id, VersionState::Retiring, None));
        }
    }
    found.extend(kept(objects, &found));
    found
}

/// Versions that are kept for a rollback, the one that served last first.
fn kept(objects: &Objects, found: &[VersionView]) -> Vec<VersionView> {
    let mut kept: Vec<VersionView> = Vec::new();
    for revision in &objects.revisions {
        let (Some(build_id), Some(last)) = (
            label(&revision.metadata, names::label::BUILD_ID),
            revision.annotations().get(names::annotation::LAST_CURRENT),
        ) else {
            continue;
        };
        if found.iter().all(|version| version.build_id != build_id) {
            kept.push(VersionView {
                build_id: build_id.to_owned(),
                state: VersionState::Kept,
                since: last.parse().ok(),
                drain: None,
                deployment: None,
                pods: Vec::new(),
            });
        }
    }
    kept.sort_by_key(|version| std::cmp::Reverse(version.since));
    kept
}

fn view(
    objects: &Objects,
    build_id: &str,
    state: VersionState,
    since: Option<Timestamp>,
) -> VersionView {
    let of_version = |meta: &ObjectMeta| label(meta, names::label::BUILD_ID) == Some(build_id);
    let deployment = objects
        .deployments
        .iter()
        .find(|deployment| of_version(&deployment.metadata));
    let mut pods: Vec<PodView> = objects
        .pods
        .iter()
        .filter(|found| of_version(&found.metadata))
        .map(pod)
        .collect();
    pods.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    VersionView {
        build_id: build_id.to_owned(),
        state,
        since,
        drain: None,
        deployment: deployment.map(deployment_view),
        pods,
    }
}

fn deployment_view(deployment: &Deployment) -> DeploymentView {
    let ready = deployment
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas);
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    DeploymentView {
        name: deployment.name_any(),
        ready: ready.unwrap_or_default(),
        replicas: replicas.unwrap_or(1),
        created: deployment
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|at| at.0),
    }
}

fn drain_view(drain: &DrainingVersion) -> DrainView {
    DrainView {
        open_workflows: drain.open_workflows,
        oldest: drain.oldest_start_time.as_ref().map(|at| at.0),
        deadline: drain.deadline.as_ref().map(|at| at.0),
        on_timeout: drain.on_timeout.map(|policy| policy.to_string()),
    }
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Conditions that say more than the first line and the tree do already.
fn telling(conditions: &[Condition]) -> Vec<ConditionView> {
    let shown_otherwise = |kind: ConditionType| {
        matches!(
            kind,
            ConditionType::Progressing | ConditionType::Reconciling | ConditionType::Draining
        )
    };
    let telling = conditions.iter().filter(|condition| {
        condition.type_.parse().is_ok_and(|kind: ConditionType| {
            let well = if kind.positive() { "True" } else { "False" };
            condition.status != well && !shown_otherwise(kind)
        })
    });
    let view = |condition: &Condition| ConditionView {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    };
    telling.map(view).collect()
}

/// Whether versions of this Process are Temporal's Worker Versions.
pub(crate) fn versioned(process: &Process) -> bool {
    process.spec.rollout.versioning == Versioning::WorkerVersioning
}
