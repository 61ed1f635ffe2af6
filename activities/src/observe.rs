//! One look at Kubernetes and Temporal.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use process_operator_crds::spec::{DrainOnTimeout, ProcessSpec};
use process_operator_crds::{Process, names};
use process_operator_workflows::contract::{
    Annotation, DefinitionView, DeletionView, DrainPolicy, Observation, ObserveInput, ProcessKey,
    ProcessView, RolloutPolicy, Routing, RoutingState,
};
use process_operator_workflows::plan::fingerprint;

use self::versions::{collect, explain, needed};
use crate::cache::Neighbour;
use crate::context::{Context, Recent};
use crate::cron_jobs;
use crate::definition;
use crate::dependencies;
use crate::dependents;
use crate::error::{Fault, Result};
use crate::temporal;
use crate::{hindered, logged, routes};

mod first;
mod versions;

/// Never fails: what went wrong is part of the answer.
pub(crate) async fn observe(context: &Context, input: &ObserveInput) -> Observation {
    logged::about(&input.key);
    let settings = context.settings(&input.key);
    let uid = &input.key.uid;
    let newcomers = &context.cache.newcomers;
    let new = |process: &Neighbour| !process.finalizer && !process.deleting;
    if input.behind {
        newcomers.leave(uid);
        newcomers.over().await;
    } else if context.cache.process(uid).as_ref().is_some_and(new) {
        if input.first
            && let Some(seen) = first::look(context, &input.key).await
        {
            return Observation { settings, ..seen };
        }
        newcomers.begin(uid);
    }
    match Box::pin(crate::error::within(look(context, input))).await {
        Ok(seen) => Observation { settings, ..seen },
        Err(fault) => {
            let failure = context.count(fault.about("looking")).into();
            hindered::look_failed(context, &input.key, input.tries, &failure).await;
            Observation {
                settings,
                failure: Some(failure),
                ..Observation::default()
            }
        }
    }
}

async fn look(context: &Context, input: &ObserveInput) -> Result<Observation> {
    let key = &input.key;
    let asked_at = Instant::now();
    let selector = ListParams::default().labels(&format!("{}={}", names::label::PROCESS, key.name));
    let deployments_api: Api<Deployment> = Api::namespaced(context.kube.clone(), &key.namespace);
    let revisions_api: Api<ControllerRevision> =
        Api::namespaced(context.kube.clone(), &key.namespace);
    let children = async {
        if input.adopt {
            adoptable(context, key).await
        } else {
            Ok(Vec::new())
        }
    };
    let (process, deployments, revisions, children) = tokio::join!(
        read_process(context, key),
        deployments_api.list(&selector),
        revisions_api.list(&selector),
        children,
    );
    let mut seen = Observation {
        children: children?,
        ..Observation::default()
    };
    let process = match process? {
        None => return Ok(seen),
        Some(Ok(process)) => process,
        Some(Err(unreadable)) => {
            seen.invalid = Some(unreadable.message);
            seen.process = Some(unreadable.view);
            collect(
                &mut seen,
                key,
                None,
                deployments.map_err(Fault::from)?.items,
                revisions.map_err(Fault::from)?.items,
            );
            return Ok(seen);
        }
    };
    let definition = definition::look(context, key, &process).await?;
    let mut view = view(&context.drains, &process, key, definition)?;
    if !view.deleting {
        view.dependencies = dependencies::look(context, key, &process).await?;
    }
    seen.routing = routing(context, key, &view, &process).await;
    // What Kubernetes orphans loses its owner first, and then the Process its mark: only objects read
    // after the mark was not there tell whether they are to be kept.
    let (deployments, revisions) = if view.deleting {
        view.deletion = Some(deletion(context, &process, key).await?);
        tokio::join!(
            deployments_api.list(&selector),
            revisions_api.list(&selector)
        )
    } else {
        (deployments, revisions)
    };
    let revisions = revisions.map_err(Fault::from)?.items;
    if !view.deleting {
        let current = seen.routing.current.as_deref();
        seen.cron_jobs = cron_jobs::look(context, key, &process, (current, &revisions)).await?;
    }
    let lost = definition::lost(context, key, &revisions, view.definition.as_ref()).await?;
    collect(
        &mut seen,
        key,
        Some(&view),
        deployments.map_err(Fault::from)?.items,
        revisions,
    );
    for (build_id, version) in &mut seen.versions {
        version.definition_lost = lost.contains(build_id);
    }
    explain(context, key, &process, &mut seen).await;
    if view.deleting {
        needed(context, key, &process, &view, &mut seen).await;
    }
    if !view.versioning.is_default() {
        seen.routing.versions = routes::states(&seen.routing, view.versioning, &seen.versions);
    }
    seen.status = process
        .status
        .as_ref()
        .map(crate::status::mark)
        .unwrap_or_default();
    if let Some(told) = process.status.as_ref().filter(|_| input.adopt) {
        seen.history = crate::status::published(told);
        seen.last_request = crate::status::last_request(told);
        seen.decided = crate::status::decided(told, &seen.versions);
    }
    seen.queue_holder = queue_holder(context, &process, key);
    seen.process = Some(view);
    context.remember(Recent {
        process: Arc::new(process),
        asked_at,
    });
    Ok(seen)
}

/// During a deletion nothing depends on the routing that Temporal holds, and it may be out of reach.
/// Whether the Temporal namespace is there is asked of the server also where a ConfigMap holds the
/// routing.
async fn routing(
    context: &Context,
    key: &ProcessKey,
    view: &ProcessView,
    process: &Process,
) -> Routing {
    let by_temporal = view.versioning.is_default();
    if view.deleting && by_temporal {
        return Routing::default();
    }
    if !view.deleting {
        let asked = temporal::routing(context, key, &view.temporal_namespace).await;
        if by_temporal || asked.state != RoutingState::Known {
            return asked;
        }
    }
    let status = process.status.as_ref();
    let published = status
        .and_then(|status| status.current_version.as_ref())
        .map(|version| version.build_id.as_str());
    routes::routing(context, key, published).await
}

/// How a Process is being deleted. Two reads more, which only these need.
async fn deletion(context: &Context, process: &Process, key: &ProcessKey) -> Result<DeletionView> {
    let namespaces: Api<Namespace> = Api::all(context.kube.clone());
    let name = process.namespace().unwrap_or_default();
    let namespace_terminating = match namespaces.get_metadata_opt(&name).await {
        Ok(found) => found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()),
        // Under the rights of an earlier release a deletion waits as if the namespace stayed.
        Err(kube::Error::Api(answer)) if answer.code == 403 => {
            tracing::warn!(namespace = name, "may not be read: {}", answer.message);
            false
        }
        Err(error) => return Err(error.into()),
    };
    let forced = names::annotation::lets_go(process.annotations());
    Ok(DeletionView {
        since: process
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|time| time.0)
            .unwrap_or_default(),
        policy: process.spec.deletion.clone(),
        namespace_terminating,
        orphan: dependents::orphaned(&context.kube, key, process.finalizers()).await?,
        forced,
    })
}

/// A lifecycle without memory asks for children of a predecessor, if there can be any.
async fn adoptable(context: &Context, key: &ProcessKey) -> Result<Vec<String>> {
    let known = context
        .cache
        .process(&key.uid)
        .is_some_and(|process| process.current.is_some());
    let has_workloads = !context
        .cache
        .workloads_of(&key.namespace, &key.name, &key.uid)
        .is_empty();
    if known || has_workloads {
        return temporal::open_children(context, key).await;
    }
    Ok(Vec::new())
}

/// A stored object that does not read as a `Process`.
struct Unreadable {
    view: ProcessView,
    message: String,
}

/// `None` when the Process is gone or is another one of the same name.
async fn read_process(
    context: &Context,
    key: &ProcessKey,
) -> Result<Option<std::result::Result<Process, Unreadable>>> {
    let api = context.processes(&key.namespace);
    let Some(object) = api.get_opt(&key.name).await? else {
        return Ok(None);
    };
    if object.uid().as_deref() != Some(key.uid.as_str()) {
        return Ok(None);
    }
    let metadata = object.metadata.clone();
    if let Some(generation) = metadata.generation {
        logged::generation(generation);
    }
    match object.try_parse::<Process>() {
        Ok(process) => Ok(Some(Ok(process))),
        Err(error) => Ok(Some(Err(Unreadable {
            view: ProcessView {
                generation: metadata.generation.unwrap_or(0),
                deleting: metadata.deletion_timestamp.is_some(),
                finalizer: metadata
                    .finalizers
                    .iter()
                    .flatten()
                    .any(|name| name == names::finalizer::PROCESS),
                ..ProcessView::default()
            },
            message: format!(
                "the stored object does not fit the present schema: {error}; correct the field and apply it again"
            ),
        }))),
    }
}

fn view(
    drains: &DrainPolicy,
    process: &Process,
    key: &ProcessKey,
    definition: Option<DefinitionView>,
) -> Result<ProcessView> {
    let spec = &process.spec;
    let (build_id, deployment_name) = definition::asked_for(process, key, definition.as_ref())?;
    let request = process.annotations().get(names::annotation::REQUEST);
    Ok(ProcessView {
        generation: process.metadata.generation.unwrap_or(0),
        deleting: process.metadata.deletion_timestamp.is_some(),
        deletion: None,
        finalizer: process
            .finalizers()
            .iter()
            .any(|name| name == names::finalizer::PROCESS),
        suspend: spec.suspend,
        replicas: spec.replicas,
        image: spec.image.clone(),
        tag_may_move: names::tag_may_move(spec),
        temporal_namespace: spec.temporal.namespace.clone(),
        task_queue: spec.temporal.task_queue.clone(),
        definition,
        dependencies: None,
        deployment_name,
        build_id,
        versioning: spec.rollout.versioning,
        progress_deadline_seconds: i64::from(spec.rollout.progress_deadline_seconds),
        policy: RolloutPolicy::of(&spec.rollout),
        paused: spec.rollout.paused,
        revision_history_limit: Some(spec.rollout.revision_history_limit),
        drain: Some(drain_policy(drains, spec)),
        request: request.map(|text| {
            let mut asked = Annotation::read(text);
            // Who was authenticated, where the API server is told to stamp that.
            if let Some(actor) = process.annotations().get(names::annotation::REQUEST_ACTOR) {
                asked.args.actor.clone_from(actor);
            }
            asked
        }),
        request_mark: request.map(|text| fingerprint(text)).unwrap_or_default(),
    })
}

/// `spec.drain` with the operator's defaults. The operator's `MoveToCurrent` is for those that can move: the
/// definition refuses it in a spec where versions have queues of their own.
fn drain_policy(drains: &DrainPolicy, spec: &ProcessSpec) -> DrainPolicy {
    let mut policy = spec
        .drain
        .as_ref()
        .map_or_else(|| drains.clone(), |drain| drains.with(drain));
    let moves = spec.rollout.versioning.is_default();
    if !moves && policy.on_timeout == DrainOnTimeout::MoveToCurrent {
        policy.on_timeout = DrainOnTimeout::Wait;
    }
    policy
}

/// The older Process on the same queue, if there is one. Creation times have seconds; within one
/// the smaller uid counts as older, so that both sides come to the same answer.
fn queue_holder(context: &Context, process: &Process, key: &ProcessKey) -> Option<String> {
    let temporal = &process.spec.temporal;
    let created = process.metadata.creation_timestamp.as_ref()?.0;
    let mine = (created.as_second(), key.uid.clone());
    context
        .cache
        .on_queue(&temporal.namespace, &temporal.task_queue, &key.uid)
        .into_iter()
        .filter(|other: &Neighbour| (other.created.as_second(), other.uid.clone()) < mine)
        .min_by_key(|other| (other.created.as_second(), other.uid.clone()))
        .map(|other| format!("{}/{}", other.namespace, other.name))
}

#[cfg(test)]
mod coverage;
