//! The versions of a Process, as Kubernetes has them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use kube::ResourceExt;
use process_operator_crds::spec::Versioning;
use process_operator_crds::{Process, names};
use process_operator_workflows::contract::{
    DeploymentView, KeptApart, Observation, ProcessKey, ProcessView, VersionView,
};
use process_operator_workflows::plan::placement;

use crate::build::{belongs, deployment, held, revision};
use crate::context::Context;
use crate::pods;
use crate::temporal::open::Whose;
use crate::temporal::visibility;
use crate::watched::{orphaned, workload};

/// Puts Deployments and ControllerRevisions together by build id, or by the place that a version has.
/// Without a readable Process nothing is adopted, and nothing is wanted.
pub(super) fn collect(
    seen: &mut Observation,
    key: &ProcessKey,
    process: Option<&ProcessView>,
    deployments: Vec<Deployment>,
    revisions: Vec<ControllerRevision>,
) {
    let mut versions: BTreeMap<String, VersionView> = BTreeMap::new();
    for stored in revisions {
        let Some(kept) = revision::kept(&stored) else {
            continue;
        };
        if !belongs(key, &stored.metadata) {
            continue;
        }
        let name = stored.name_any();
        let place = process.and_then(|process| {
            placement(process, &key.name, &seen.routing, &kept.build_id, &name)
        });
        let desired = place
            .as_ref()
            .map(|place| {
                let wanted = deployment::deployment(key, &place.name, &kept, place.replicas);
                deployment::applied(&wanted)
            })
            .unwrap_or_default();
        versions.insert(
            kept.build_id.clone(),
            VersionView {
                image: kept.image(),
                workload: place
                    .map(|place| place.name)
                    .filter(|workload| *workload != name),
                name,
                revision: true,
                desired,
                retired: crate::remove::retired(&stored),
                definition_lost: false,
                deployment: None,
                needed: false,
            },
        );
    }
    let adopt = process.is_some_and(|process| !process.deleting);
    for live in deployments {
        let name = live.name_any();
        let shared = process.is_some_and(|process| process.versioning == Versioning::None);
        if shared {
            share(
                seen,
                key,
                &mut versions,
                &name,
                deployment_view(&live, key, adopt),
            );
            continue;
        }
        let Some(build_id) = live.labels().get(names::label::BUILD_ID).cloned() else {
            continue;
        };
        let entry = versions.entry(build_id).or_insert_with(|| VersionView {
            name,
            ..VersionView::default()
        });
        entry.deployment = deployment_view(&live, key, adopt);
    }
    seen.versions = versions;
}

/// A Deployment that versions have one after the other. While its pods are being replaced they are
/// the workers of the version that serves, too.
fn share(
    seen: &mut Observation,
    key: &ProcessKey,
    versions: &mut BTreeMap<String, VersionView>,
    name: &str,
    view: Option<DeploymentView>,
) {
    let Some(view) = view else { return };
    let stays = name == key.name;
    let serving = seen.routing.current.clone().filter(|_| stays);
    let mut placed = false;
    for (build_id, version) in versions.iter_mut() {
        let has = version.workload.as_deref() == Some(name);
        if has || serving.as_ref() == Some(build_id) {
            version.workload = Some(name.to_owned());
            version.deployment = Some(view.clone());
            placed = true;
        }
    }
    let known = stays || name == names::canary_name(&key.name);
    if !placed && known && !view.foreign && !view.deleting {
        seen.strays.insert(name.to_owned(), view.uid);
    }
}

fn deployment_view(live: &Deployment, key: &ProcessKey, adopt: bool) -> Option<DeploymentView> {
    let seen = workload(live)?;
    let owned = belongs(key, &live.metadata) || adopt && orphaned(live);
    // With the namespace as its owner it was spared by a foreground deletion, or the sentinel tells.
    let orphaned = orphaned(live) && (adopt || !held(live.owner_references()));
    Some(DeploymentView {
        foreign: !owned,
        orphaned,
        uid: seen.uid,
        generation: seen.generation,
        deleting: seen.deleting,
        replicas: seen.replicas,
        ready_replicas: seen.ready_replicas,
        available: seen.available,
        applied: deployment::applied(live),
        fields: seen.fields,
        trouble: String::new(),
    })
}

/// Why the version that serves has fewer pods than it should. Pods are read only then.
pub(super) async fn explain(
    context: &Context,
    key: &ProcessKey,
    process: &Process,
    seen: &mut Observation,
) {
    let status = process.status.as_ref();
    let published = status.and_then(|status| status.current_version.as_ref());
    let published = published.map(|version| version.build_id.clone());
    let Some(build_id) = seen.routing.current.clone().or(published) else {
        return;
    };
    let Some(version) = seen.versions.get_mut(&build_id) else {
        return;
    };
    let name = version.deployment_name().to_owned();
    let short = |it: &&mut DeploymentView| !(it.available || it.foreign || it.deleting);
    if let Some(deployment) = version.deployment.as_mut().filter(short) {
        let of = pods::Of {
            namespace: &key.namespace,
            process: &key.name,
            build_id: &build_id,
            deployment: &name,
        };
        deployment.trouble = pods::trouble_of_serving(context, of).await;
    }
}

/// Which versions have a Deployment without pods, though something is open on them: pinned to them, or
/// on the queue of the one that serves. While Temporal is away none.
pub(super) async fn needed(
    context: &Context,
    key: &ProcessKey,
    process: &Process,
    view: &ProcessView,
    seen: &mut Observation,
) {
    let status = process.status.as_ref();
    let published = status.and_then(|status| status.current_version.as_ref());
    let published = published.map(|version| version.build_id.clone());
    let serving = seen.routing.current.clone().or(published);
    let apart = KeptApart::of(view);
    for (build_id, version) in &mut seen.versions {
        let stopped = version.deployment.as_ref().is_some_and(|deployment| {
            deployment.replicas == 0 && !deployment.foreign && !deployment.deleting
        });
        if !stopped || !version.revision || version.retired.is_some() || view.replicas == 0 {
            continue;
        }
        let query = if serving.as_ref() == Some(build_id) {
            Whose::new(key, &view.task_queue, &[]).query()
        } else {
            apart.holding(key, build_id)
        };
        match visibility::count(context, &view.temporal_namespace, &query).await {
            Ok(open) => version.needed = open > 0,
            Err(fault) => tracing::info!(build_id, "what is open on it is not known: {fault}"),
        }
    }
}
