//! What keeps the objects of a Process from the garbage collector while a deletion waits, and how they
//! are given back to it.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use process_operator_crds::{ErrorCategory, names};
use process_operator_workflows::contract::ProcessKey;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::build::{belongs, held, hold, made_for, namespace_owner, owner, sentinel};
use crate::cache::Neighbour;
use crate::context::Context;
use crate::error::{Fault, Result};

/// A kind that a Process owns.
pub trait Owned:
    kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
{
}

impl Owned for Deployment {}
impl Owned for ControllerRevision {}
impl Owned for ConfigMap {}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PatchParams::default()
    }
}

/// The second owner of what a Process owns.
pub(crate) async fn second_owner(
    context: &Context,
    key: &ProcessKey,
) -> Result<Option<OwnerReference>> {
    let found = namespace(context, key).await?;
    Ok(found.and_then(|found| as_owner(key, &found)))
}

/// The same for an object that is to be made: in a namespace that goes nothing can be.
pub(crate) async fn second_owner_of_new(
    context: &Context,
    key: &ProcessKey,
) -> Result<Option<OwnerReference>> {
    let found = namespace(context, key).await?;
    if found
        .as_ref()
        .is_some_and(|found| found.metadata.deletion_timestamp.is_some())
    {
        return Err(Fault::new(
            ErrorCategory::Forbidden,
            format!(
                "namespace {} is being deleted: nothing can be made in it",
                key.namespace
            ),
        ));
    }
    Ok(found.and_then(|found| as_owner(key, &found)))
}

fn as_owner(key: &ProcessKey, found: &PartialObjectMeta<Namespace>) -> Option<OwnerReference> {
    let uid = found.uid()?;
    Some(namespace_owner(&key.namespace, &uid))
}

/// Never remembered: a namespace may have been made again. Those who ask at the same time share one
/// look. `None` also when it may not be read.
async fn namespace(
    context: &Context,
    key: &ProcessKey,
) -> Result<Option<PartialObjectMeta<Namespace>>> {
    let look = async {
        let namespaces: Api<Namespace> = Api::all(context.kube.clone());
        match namespaces.get_metadata_opt(&key.namespace).await {
            Ok(found) => Ok(found),
            // Under the rights of an earlier release objects are owned as they were by that.
            Err(kube::Error::Api(answer)) if answer.code == 403 => {
                let namespace = &key.namespace;
                tracing::warn!(namespace, "may not be read: {}", answer.message);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    };
    context.namespace_look(&key.namespace).ask(look).await
}

/// Makes the sentinel, if it is not there.
pub(crate) async fn keep_sentinel(context: &Context, key: &ProcessKey) -> Result<()> {
    let api: Api<ControllerRevision> = Api::namespaced(context.kube.clone(), &key.namespace);
    let name = names::sentinel_name(&key.name);
    let built = sentinel::sentinel(key);
    let known = context.cache.process(&key.uid);
    if known.is_some_and(|process| process.current.is_none()) {
        // A new Process has none yet: most often one request is enough.
        match make_sentinel(&api, &built).await {
            Err(fault) if fault.category == ErrorCategory::Conflict => {}
            made => return made,
        }
    }
    let Some(found) = api.get_metadata_opt(&name).await? else {
        return make_sentinel(&api, &built).await;
    };
    if belongs(key, &found.metadata) {
        return Ok(());
    }
    if !sentinel::is_one(&found.metadata) {
        return Err(Fault::new(
            ErrorCategory::Conflict,
            format!(
                "ControllerRevision {name} exists and belongs to something else; delete or rename it"
            ),
        ));
    }
    // A predecessor's.
    let change = json!({ "metadata": {
        "uid": found.metadata.uid,
        "resourceVersion": found.metadata.resource_version,
        "labels": built.metadata.labels,
        "ownerReferences": built.metadata.owner_references,
    }});
    match api.patch(&name, &params(), &Patch::Merge(&change)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::from(error).about(&format!("owning {name}"))),
    }
}

async fn make_sentinel(api: &Api<ControllerRevision>, built: &ControllerRevision) -> Result<()> {
    let params = PostParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PostParams::default()
    };
    match api.create(&params, built).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let what = format!("creating ControllerRevision {}", built.name_any());
            Err(Fault::from(error).about(&what))
        }
    }
}

/// Owners and label of an object that is to be this Process's, beside what others have put there.
/// `None` when it has them.
pub(crate) fn claimed(
    key: &ProcessKey,
    found: &ObjectMeta,
    namespace: Option<OwnerReference>,
) -> Option<serde_json::Value> {
    let owners = found.owner_references.as_deref().unwrap_or_default();
    let labels = found.labels.as_ref();
    let marked = labels.and_then(|labels| labels.get(names::label::PROCESS_UID)) == Some(&key.uid);
    if marked && belongs(key, found) && (held(owners) || namespace.is_none()) {
        return None;
    }
    let mut wanted = ObjectMeta {
        owner_references: Some(others(key, owners)),
        ..ObjectMeta::default()
    };
    let references = wanted.owner_references.get_or_insert_default();
    references.push(owner(key));
    hold(&mut wanted, namespace);
    Some(json!({ "metadata": {
        "uid": found.uid,
        "resourceVersion": found.resource_version,
        "labels": { names::label::PROCESS_UID: key.uid },
        "ownerReferences": wanted.owner_references,
    }}))
}

/// Gives an object the owners that one made today has.
pub(crate) async fn claim<K: Owned>(
    context: &Context,
    key: &ProcessKey,
    found: &K,
    namespace: Option<OwnerReference>,
) -> Result<()> {
    let Some(change) = claimed(key, found.meta(), namespace) else {
        return Ok(());
    };
    let api: Api<K> = Api::namespaced(context.kube.clone(), &key.namespace);
    let name = found.name_any();
    match api.patch(&name, &params(), &Patch::Merge(&change)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::from(error).about(&format!("owning {name}"))),
    }
}

fn others(key: &ProcessKey, owners: &[OwnerReference]) -> Vec<OwnerReference> {
    let ours = |owner: &&OwnerReference| owner.uid == key.uid || held(&[(*owner).clone()]);
    owners
        .iter()
        .filter(|owner| !ours(owner))
        .cloned()
        .collect()
}

/// Whether what this Process owns is to be left when it goes: asked of the garbage collector's mark,
/// and when that is off, of the sentinel. The mark has to be read first.
pub async fn orphaned(
    client: &Client,
    key: &ProcessKey,
    finalizers: &[String],
) -> kube::Result<bool> {
    if finalizers
        .iter()
        .any(|name| name == names::finalizer::ORPHAN)
    {
        return Ok(true);
    }
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), &key.namespace);
    let found = api
        .get_metadata_opt(&names::sentinel_name(&key.name))
        .await?;
    Ok(found.is_some_and(|found| sentinel::tells_orphaned(key, &found.metadata)))
}

/// Takes the second owner off all that this Process owns: the garbage collector then treats it as if
/// there had never been one. Orphaned objects are left without any owner. Nothing is deleted here, so a
/// Process that is still there after all loses nothing. `finalizers` are those of the Process, and `heir`
/// has its name now. Returns how many objects the garbage collector still has to take.
pub async fn release(
    client: &Client,
    key: &ProcessKey,
    finalizers: &[String],
    heir: Option<&Neighbour>,
) -> kube::Result<usize> {
    let orphan = orphaned(client, key, finalizers).await?;
    let by_label = format!("{}={}", names::label::PROCESS, key.name);
    let selector = ListParams::default().labels(&by_label);
    // Deployments last: that some are left tells the next try that it was not finished.
    let how = Release {
        key,
        selector,
        orphan,
        heir,
    };
    let mut left = how.kind::<ControllerRevision>(client).await?;
    left += how.kind::<ConfigMap>(client).await?;
    // The heir takes a running Deployment over as long as nothing else serves it.
    if heir.is_none_or(|heir| heir.current.is_some()) {
        left += how.kind::<Deployment>(client).await?;
    }
    if orphan {
        delete_sentinel(client, key).await?;
        return Ok(0);
    }
    Ok(left)
}

/// What is released, and how.
struct Release<'a> {
    key: &'a ProcessKey,
    selector: ListParams,
    orphan: bool,
    heir: Option<&'a Neighbour>,
}

impl Release<'_> {
    async fn kind<K: Owned>(&self, client: &Client) -> kube::Result<usize> {
        let api: Api<K> = Api::namespaced(client.clone(), &self.key.namespace);
        let mut left = 0;
        for found in api.list_metadata(&self.selector).await? {
            if !is_of(self.key, &found.metadata) || self.spares(&found.metadata) {
                continue;
            }
            left += 1;
            let Some(change) = released(self.key, &found.metadata, self.orphan) else {
                continue;
            };
            let change = Patch::Merge(&change);
            match api
                .patch_metadata(&found.name_any(), &params(), &change)
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(answer)) if answer.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    /// What is younger than the heir was not left to it: it is the heir that is gone, and the view that
    /// is old. And it may be about to take over what serves it.
    fn spares(&self, found: &ObjectMeta) -> bool {
        let created = found.creation_timestamp.as_ref().map(|time| time.0);
        let labels = found.labels.as_ref();
        let build_id = labels.and_then(|labels| labels.get(names::label::BUILD_ID));
        self.heir.is_some_and(|heir| {
            created.is_some_and(|created| created > heir.created)
                || build_id.is_some() && build_id == heir.current.as_ref()
        })
    }
}

/// uid of the Process that an object was made for, also of one without any owner: the garbage collector
/// takes the reference off by what it read before, and so may do it when the other one is off too. What
/// is orphaned for good has no label.
pub fn marked_for(found: &ObjectMeta) -> Option<&str> {
    let owners = found.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.controller == Some(true)) {
        return made_for(found);
    }
    let labels = found.labels.as_ref()?;
    labels.get(names::label::PROCESS_UID).map(String::as_str)
}

fn is_of(key: &ProcessKey, found: &ObjectMeta) -> bool {
    marked_for(found) == Some(&key.uid) && found.deletion_timestamp.is_none()
}

/// The owners of an object without the second one. `None` when there is nothing to change.
fn released(key: &ProcessKey, found: &ObjectMeta, orphan: bool) -> Option<serde_json::Value> {
    let owners = found.owner_references.as_deref().unwrap_or_default();
    let mut wanted = others(key, owners);
    if !orphan {
        wanted.push(owner(key));
    }
    let labels = found.labels.as_ref();
    let labelled = labels.is_some_and(|labels| labels.contains_key(names::label::PROCESS_UID));
    if owners == wanted && !(orphan && labelled) {
        return None;
    }
    let mut change = json!({ "metadata": {
        "uid": found.uid,
        "resourceVersion": found.resource_version,
        "ownerReferences": wanted,
    }});
    if orphan {
        change["metadata"]["labels"] = json!({ names::label::PROCESS_UID: null });
    }
    Some(change)
}

async fn delete_sentinel(client: &Client, key: &ProcessKey) -> kube::Result<()> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), &key.namespace);
    let name = names::sentinel_name(&key.name);
    let found: Option<PartialObjectMeta<ControllerRevision>> = api.get_metadata_opt(&name).await?;
    let of = |found: &PartialObjectMeta<ControllerRevision>| {
        let labels = found.labels();
        sentinel::is_one(&found.metadata) && labels.get(names::label::PROCESS_UID) == Some(&key.uid)
    };
    let Some(found) = found.filter(of) else {
        return Ok(());
    };
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: found.uid(),
        ..Preconditions::default()
    });
    match api.delete(&name, &params).await {
        Ok(_) => Ok(()),
        // Gone, or another one by now.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
