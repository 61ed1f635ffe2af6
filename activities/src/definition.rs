//! The definition that workers read: looked at in the user's ConfigMap, or in the one that keeps what was
//! fetched, and kept for each version in a copy of its own that cannot change.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use process_operator_crds::{ErrorCategory, Process, names};
use process_operator_workflows::contract::{DefinitionView, ProcessKey};

use crate::act::Scene;
use crate::build::revision::Kept;
use crate::build::{belongs, definition, fetched, hold};
use crate::context::Context;
use crate::dependents;
use crate::error::{Fault, Result};
use crate::registry::Source;
use crate::remove::remove;

fn api(context: &Context, key: &ProcessKey) -> Api<ConfigMap> {
    Api::namespaced(context.kube.clone(), &key.namespace)
}

/// What the Process names; `None` when it names nothing.
pub(crate) async fn look(
    context: &Context,
    key: &ProcessKey,
    process: &Process,
) -> Result<Option<DefinitionView>> {
    let Some(name) = named(process, &key.name) else {
        return Ok(None);
    };
    let found = match api(context, key).get_opt(&name).await {
        Ok(found) => found,
        Err(kube::Error::Api(answer)) if answer.code == 403 => {
            return Ok(Some(DefinitionView {
                config_map: name,
                refused: answer.message.clone(),
                ..DefinitionView::default()
            }));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Some(view(context, key, process, &name, found.as_ref())))
}

/// Name of the ConfigMap with the definition, if there is to be one.
pub fn named(process: &Process, name: &str) -> Option<String> {
    let reference = &process.spec.definition_ref;
    let by_user = reference.config_map_ref.as_ref().map(|it| it.name.clone());
    let fetched = || names::fetched_name(name);
    by_user.or_else(|| reference.registry.as_ref().map(|_| fetched()))
}

fn view(
    context: &Context,
    key: &ProcessKey,
    process: &Process,
    name: &str,
    found: Option<&ConfigMap>,
) -> DefinitionView {
    if let Some(source) = Source::of(process) {
        let forbidden = context.registries.forbids(&source);
        return fetched::view(key, &source.mark(), forbidden, found);
    }
    definition::view(name, found)
}

/// Build id and name of the version that the spec asks for. Without its definition there is no telling
/// which that is: it stays the last one.
pub(crate) fn asked_for(
    process: &Process,
    key: &ProcessKey,
    definition: Option<&DefinitionView>,
) -> Result<(String, String)> {
    let status = process.status.as_ref();
    let last = status.and_then(|status| status.target_version.as_ref());
    if let Some(last) = last.filter(|_| definition.is_some_and(|it| !it.found())) {
        return Ok((last.build_id.clone(), last.deployment_name.clone()));
    }
    let checksum = definition.filter(|it| it.found());
    let checksum = checksum.map(|it| it.checksum.as_str());
    let version = names::Version::with_definition(&key.name, &process.spec, checksum)
        .map_err(|error| Fault::new(ErrorCategory::InvalidSpec, format!("spec: {error}")))?;
    Ok((version.build_id.to_string(), version.deployment_name))
}

/// Build ids of versions whose copy is gone and can be made again, since what is there now is what
/// they began with. Nothing is asked where no version has a copy.
pub(crate) async fn lost(
    context: &Context,
    key: &ProcessKey,
    revisions: &[ControllerRevision],
    present: Option<&DefinitionView>,
) -> Result<BTreeSet<String>> {
    let Some(present) = present.filter(|present| present.found()) else {
        return Ok(BTreeSet::new());
    };
    let kept = revisions
        .iter()
        .filter(|stored| belongs(key, &stored.metadata))
        .filter_map(crate::build::revision::kept);
    let of_present: Vec<Kept> = kept
        .filter(|kept| definition::checksum_of(kept) == Some(&present.checksum))
        .collect();
    if of_present.is_empty() {
        return Ok(BTreeSet::new());
    }
    let by_label = format!(
        "{}={},{}={}",
        names::label::PROCESS,
        key.name,
        names::label::APP_COMPONENT,
        definition::COMPONENT
    );
    let copies = api(context, key)
        .list_metadata(&ListParams::default().labels(&by_label))
        .await?;
    let there: BTreeSet<String> = copies.iter().map(ResourceExt::name_any).collect();
    let lost = of_present
        .into_iter()
        .filter(|kept| definition::copy_of(kept).is_some_and(|copy| !there.contains(copy)));
    Ok(lost.map(|kept| kept.build_id).collect())
}

/// Reads what a new version is to begin with, as long as it is what its build id was made from.
pub(crate) async fn read(scene: &Scene<'_>, build_id: &str) -> Result<Option<ConfigMap>> {
    let Some(name) = named(&scene.process, &scene.key.name) else {
        return Ok(None);
    };
    let found = api(scene.context, scene.key).get_opt(&name).await?;
    let seen = view(
        scene.context,
        scene.key,
        &scene.process,
        &name,
        found.as_ref(),
    );
    let checksum = seen.found().then_some(seen.checksum.as_str());
    let version = names::Version::with_definition(&scene.key.name, &scene.process.spec, checksum);
    let same = version.is_ok_and(|version| version.build_id.as_str() == build_id);
    if seen.found() && same {
        return Ok(found);
    }
    Err(Fault::new(
        ErrorCategory::Unavailable,
        format!("ConfigMap {name} with the definition has changed since it was looked at"),
    ))
}

/// Makes a version's own copy, if it is not there.
pub(crate) async fn keep_copy(
    scene: &Scene<'_>,
    kept: &Kept,
    source: Option<&ConfigMap>,
    namespace: Option<OwnerReference>,
) -> Result<()> {
    let (Some(name), Some(checksum)) = (definition::copy_of(kept), definition::checksum_of(kept))
    else {
        return Ok(());
    };
    let api = api(scene.context, scene.key);
    if let Some(found) = api.get_opt(name).await? {
        let controlled = |owner: &OwnerReference| owner.controller == Some(true);
        // Of a predecessor: orphaned it is taken over. Otherwise it may be gone by the next try.
        let left = !found.owner_references().iter().any(controlled)
            && definition::checksum(&found) == *checksum;
        if belongs(scene.key, &found.metadata) || left {
            return dependents::claim(scene.context, scene.key, &found, namespace).await;
        }
        return Err(Fault::new(
            ErrorCategory::Conflict,
            format!("ConfigMap {name} exists and belongs to something else; delete or rename it"),
        ));
    }
    let read;
    let source = if let Some(source) = source {
        source
    } else {
        let named = match named(&scene.process, &scene.key.name) {
            Some(name) => api.get_opt(&name).await?,
            None => None,
        };
        let Some(found) = named.filter(|found| definition::checksum(found) == *checksum) else {
            // What runs has read it; a new pod will say what it lacks.
            tracing::warn!(name, "lost, and its content is nowhere else");
            return Ok(());
        };
        read = found;
        &read
    };
    let mut copy = definition::copy(scene.key, &kept.build_id, name, source);
    hold(&mut copy.metadata, namespace);
    let params = PostParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PostParams::default()
    };
    match api.create(&params, &copy).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::from(error).about(&format!("creating ConfigMap {name}"))),
    }
}

/// Deletes a version's copy.
pub(crate) async fn forget(context: &Context, key: &ProcessKey, kept: &Kept) -> Result<()> {
    let Some(name) = definition::copy_of(kept) else {
        return Ok(());
    };
    let api = api(context, key);
    let found = api.get_metadata_opt(name).await?;
    match found.filter(|found| belongs(key, &found.metadata)) {
        Some(found) => remove(&api, name, found.uid().unwrap_or_default()).await,
        None => Ok(()),
    }
}
