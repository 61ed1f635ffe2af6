//! Removes the objects of a version.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use process_operator_crds::{ErrorCategory, names};
use process_operator_workflows::contract::ProcessKey;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::claim;
use crate::build::{belongs, revision};
use crate::context::Context;
use crate::definition;
use crate::error::{Fault, Result};

/// Deletes a version's ControllerRevision, then its Deployment, if they are this Process's. In this
/// order: cut off in between, nothing can make the Deployment again.
pub(crate) async fn delete_version(
    context: &Context,
    key: &ProcessKey,
    name: &str,
    uid: Option<&str>,
) -> Result<()> {
    delete_revision(context, key, name).await?;
    delete_deployment(context, key, name, uid).await
}

/// Deletes a version's Deployment, if it is this Process's.
pub(crate) async fn delete_deployment(
    context: &Context,
    key: &ProcessKey,
    name: &str,
    uid: Option<&str>,
) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(context.kube.clone(), &key.namespace);
    let uid = match uid {
        Some(uid) => Some(uid.to_owned()),
        None => deployment_uid(context, key, name).await?,
    };
    if let Some(uid) = uid {
        context.cache.expect_gone(&uid);
        remove(&deployments, name, uid).await?;
    }
    Ok(())
}

/// uid of a Deployment, if it is this Process's.
pub(crate) async fn deployment_uid(
    context: &Context,
    key: &ProcessKey,
    name: &str,
) -> Result<Option<String>> {
    if name.is_empty() {
        return Ok(None);
    }
    let deployments: Api<Deployment> = Api::namespaced(context.kube.clone(), &key.namespace);
    let found = deployments.get_opt(name).await?;
    Ok(found.and_then(|found| claim(&found, key).ok()))
}

async fn delete_revision(context: &Context, key: &ProcessKey, name: &str) -> Result<()> {
    let revisions: Api<ControllerRevision> = Api::namespaced(context.kube.clone(), &key.namespace);
    let Some(stored) = revisions.get_opt(name).await? else {
        return Ok(());
    };
    if !belongs(key, &stored.metadata) {
        return Ok(());
    }
    if let Some(kept) = revision::kept(&stored) {
        Box::pin(definition::forget(context, key, &kept)).await?;
    }
    remove(&revisions, name, stored.uid().unwrap_or_default()).await
}

/// Keeps a version's ControllerRevision for a rollback, marked with when the version was last
/// current, and deletes those that were current longest ago when there are more than the limit.
/// Without `keep` it goes.
pub(crate) async fn keep_revision(
    context: &Context,
    key: &ProcessKey,
    name: &str,
    keep: Option<(jiff::Timestamp, i32)>,
) -> Result<()> {
    let Some((last_current, limit)) = keep.filter(|(_, limit)| *limit > 0) else {
        return delete_revision(context, key, name).await;
    };
    let limit = usize::try_from(limit).unwrap_or_default();
    let revisions: Api<ControllerRevision> = Api::namespaced(context.kube.clone(), &key.namespace);
    let Some(stored) = revisions.get_opt(name).await? else {
        return Ok(());
    };
    if !belongs(key, &stored.metadata) {
        return Ok(());
    }
    let mark = json!({ "metadata": {
        "uid": stored.uid(),
        "annotations": { names::annotation::LAST_CURRENT: last_current.to_string() },
    }});
    let params = PatchParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PatchParams::default()
    };
    match revisions.patch(name, &params, &Patch::Merge(&mark)).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
        // Without the mark it counts as a version that is still to be retired: after a conflict the
        // activity is tried again, and looks whose it is then.
        Err(error) => return Err(Fault::from(error).about("keeping a ControllerRevision")),
    }
    let selector = ListParams::default().labels(&format!("{}={}", names::label::PROCESS, key.name));
    let mut kept: Vec<(jiff::Timestamp, String)> = revisions
        .list(&selector)
        .await?
        .into_iter()
        .filter(|revision| belongs(key, &revision.metadata))
        .filter_map(|revision| Some((retired(&revision)?, revision.name_any())))
        .collect();
    kept.sort();
    let excess = kept.len().saturating_sub(limit);
    for (_, name) in kept.into_iter().take(excess) {
        // One that serves again keeps its mark until it is retired the next time.
        let serves = context.cache.workload(&key.namespace, &name).is_some();
        if !serves {
            delete_revision(context, key, &name).await?;
        }
    }
    Ok(())
}

/// When a version was last current, if it is kept for a rollback.
pub(crate) fn retired(revision: &ControllerRevision) -> Option<jiff::Timestamp> {
    revision
        .annotations()
        .get(names::annotation::LAST_CURRENT)?
        .parse()
        .ok()
}

/// Deletes the object with this uid. Gone already, or re-created by somebody else under another uid:
/// nothing left to delete.
pub(crate) async fn remove<K>(api: &Api<K>, name: &str, uid: String) -> Result<()>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: Some(uid.clone()),
        ..Preconditions::default()
    });
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        // A conflict has other causes than the uid: only another uid means that it is done.
        Err(error @ kube::Error::Api(_)) => {
            let fault = Fault::from(error).about(&format!("deleting {name}"));
            if fault.category != ErrorCategory::Conflict {
                return Err(fault);
            }
            match api.get_opt(name).await? {
                Some(found) if found.uid() == Some(uid) => Err(fault),
                _ => Ok(()),
            }
        }
        Err(error) => Err(error.into()),
    }
}
