//! Removes the objects of a version.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::ProcessKey;
use serde::de::DeserializeOwned;

use crate::act::claim;
use crate::context::Context;
use crate::error::{Fault, Result};

/// Deletes a version's Deployment, then its ControllerRevision, if they are this Process's.
pub(crate) async fn delete_version(
    context: &Context,
    key: &ProcessKey,
    name: &str,
    uid: Option<&str>,
) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(context.kube.clone(), &key.namespace);
    let uid = match uid {
        Some(uid) => Some(uid.to_owned()),
        None => deployments
            .get_opt(name)
            .await?
            .and_then(|found| claim(&found, key).ok()),
    };
    if let Some(uid) = uid {
        context.cache.expect_gone(&uid);
        remove(&deployments, name, uid).await?;
    }
    let revisions: Api<ControllerRevision> = Api::namespaced(context.kube.clone(), &key.namespace);
    let Some(stored) = revisions.get_opt(name).await? else {
        return Ok(());
    };
    if !stored
        .owner_references()
        .iter()
        .any(|owner| owner.uid == key.uid)
    {
        return Ok(());
    }
    remove(&revisions, name, stored.uid().unwrap_or_default()).await
}

/// Deletes the object with this uid. Gone already, or re-created by somebody else under another uid:
/// nothing left to delete.
async fn remove<K>(api: &Api<K>, name: &str, uid: String) -> Result<()>
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
