//! Applies a version: its ControllerRevision, and the Deployment built from it.

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use process_operator_crds::{ErrorCategory, names};
use process_operator_workflows::contract::{ProcessKey, Step};

use crate::act::Scene;
use crate::build::{
    belongs, definition as build_definition, deployment, hash, hold, revision, template,
};
use crate::context::Context;
use crate::definition;
use crate::dependents;
use crate::error::{Fault, Result};
use crate::routes;
use crate::watched::orphaned;

/// A version to apply.
pub(crate) struct Version<'a> {
    pub(crate) build_id: &'a str,
    pub(crate) name: &'a str,
    kept_as: &'a str,
    uid: Option<&'a str>,
    revision: bool,
    replicas: i32,
}

impl<'a> Version<'a> {
    /// What a step asks for; `None` for all other steps.
    pub(crate) fn of(step: &'a Step) -> Option<Self> {
        let Step::ApplyVersion {
            build_id,
            name,
            kept_as,
            uid,
            revision,
            replicas,
        } = step
        else {
            return None;
        };
        Some(Self {
            build_id,
            name,
            kept_as: kept_as.as_deref().unwrap_or(name),
            uid: uid.as_deref(),
            revision: *revision,
            replicas: *replicas,
        })
    }
}

/// What an apply needs beforehand.
pub(crate) struct Ready {
    kept: revision::Kept,
    /// Owner beside the Process.
    namespace: Option<OwnerReference>,
    /// uid of the Deployment that is there already.
    owned: Option<String>,
}

/// Keeps the ControllerRevision, and finds out whether the name is free.
pub(crate) async fn prepare(scene: &Scene<'_>, wanted: &Version<'_>) -> Result<Ready> {
    let kept = async {
        let namespace = dependents::second_owner_of_new(scene.context, scene.key).await?;
        let kept = keep_revision(scene, wanted, namespace.clone()).await?;
        Ok((kept, namespace))
    };
    let ((kept, namespace), owned, ()) = tokio::try_join!(
        kept,
        owned(scene, wanted),
        dependents::keep_sentinel(scene.context, scene.key),
    )?;
    if !scene.process.spec.rollout.versioning.is_default() {
        routes::hold(scene.context, scene.key, namespace.clone()).await?;
    }
    Ok(Ready {
        kept,
        namespace,
        owned,
    })
}

async fn owned(scene: &Scene<'_>, wanted: &Version<'_>) -> Result<Option<String>> {
    if let Some(uid) = wanted.uid {
        return Ok(Some(uid.to_owned()));
    }
    // One of that name that is another's refuses what is applied, and a full look says why.
    if scene.first {
        return Ok(None);
    }
    // Unseen by its label; taken for ours only if it says so.
    match deployments(scene).get_opt(wanted.name).await? {
        Some(found) if orphaned(&found) => Ok(found.uid()),
        Some(found) => Ok(Some(claim(&found, scene.key)?)),
        None => Ok(None),
    }
}

fn deployments(scene: &Scene<'_>) -> Api<Deployment> {
    Api::namespaced(scene.context.kube.clone(), &scene.key.namespace)
}

/// Keeps the ControllerRevision, then applies the Deployment built from it. Returns the hash of the
/// fields that we own afterwards.
pub(crate) async fn apply(scene: &Scene<'_>, wanted: &Version<'_>) -> Result<String> {
    let ready = match scene.made_ready(wanted.name) {
        Some(ready) => ready,
        None => Box::pin(prepare(scene, wanted)).await?,
    };
    let mut built = deployment::deployment(scene.key, wanted.name, &ready.kept, wanted.replicas);
    // With the uid in it an apply never lands on a re-created object.
    built.metadata.uid = ready.owned;
    hold(&mut built.metadata, ready.namespace);
    let params = PatchParams::apply(names::manager::OPERATOR).force();
    let applied = deployments(scene)
        .patch(wanted.name, &params, &Patch::Apply(&built))
        .await
        .map_err(|error| {
            Fault::from(error).about(&format!("applying Deployment {}", wanted.name))
        })?;
    Ok(ours(scene.context, &applied.metadata))
}

/// Hash of the fields that we own of an object that we have just applied. The watcher need not report that
/// back to us.
pub(crate) fn ours(context: &Context, applied: &ObjectMeta) -> String {
    let fields = hash::owned_fields(applied.managed_fields.as_ref());
    context.cache.expect(
        applied.uid.as_deref().unwrap_or_default(),
        applied.generation.unwrap_or(0),
        &fields,
    );
    fields
}

/// Takes the pods of a version away: its Deployment as it was applied, with no replicas. The same look
/// that finds a needed version edited finds it without pods, so that they come back by themselves.
pub(crate) async fn scale_to_zero(context: &Context, key: &ProcessKey, name: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(context.kube.clone(), &key.namespace);
    let revisions: Api<ControllerRevision> = Api::namespaced(context.kube.clone(), &key.namespace);
    let (live, stored) = tokio::try_join!(deployments.get_opt(name), revisions.get_opt(name))?;
    let Some(live) = live.filter(|live| live.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    let Ok(uid) = claim(&live, key) else {
        // Pods of somebody else, or of a predecessor that goes, are not ours to stop.
        return Ok(());
    };
    if live.spec.as_ref().and_then(|spec| spec.replicas) == Some(0) {
        return Ok(());
    }
    let kept = stored
        .as_ref()
        .filter(|stored| belongs(key, &stored.metadata))
        .and_then(revision::kept);
    // The watcher may hear of it before the answer is here.
    context.cache.expect(
        &uid,
        live.metadata.generation.unwrap_or(0) + 1,
        &hash::owned_fields(live.metadata.managed_fields.as_ref()),
    );
    let params = PatchParams::apply(names::manager::OPERATOR).force();
    let patched = if let Some(kept) = kept {
        let mut built = deployment::deployment(key, name, &kept, 0);
        built.metadata.uid = Some(uid);
        let namespace = dependents::second_owner(context, key).await?;
        hold(&mut built.metadata, namespace);
        deployments
            .patch(name, &params, &Patch::Apply(&built))
            .await
    } else {
        // Without its ControllerRevision only the number can be changed.
        let none = serde_json::json!({ "metadata": { "uid": uid }, "spec": { "replicas": 0 } });
        let params = PatchParams {
            field_manager: Some(names::manager::OPERATOR.into()),
            ..PatchParams::default()
        };
        deployments.patch(name, &params, &Patch::Merge(&none)).await
    };
    match patched {
        Ok(stopped) => {
            ours(context, &stopped.metadata);
            Ok(())
        }
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => Err(Fault::from(error).about(&format!("stopping the pods of {name}"))),
    }
}

pub(crate) fn claim(found: &Deployment, key: &ProcessKey) -> Result<String> {
    if belongs(key, &found.metadata) {
        return Ok(found.uid().unwrap_or_default());
    }
    Err(Fault::new(
        ErrorCategory::Conflict,
        format!(
            "Deployment {} exists and belongs to something else; delete or rename it",
            found.name_any()
        ),
    ))
}

async fn keep_revision(
    scene: &Scene<'_>,
    wanted: &Version<'_>,
    namespace: Option<OwnerReference>,
) -> Result<revision::Kept> {
    let api: Api<ControllerRevision> =
        Api::namespaced(scene.context.kube.clone(), &scene.key.namespace);
    if wanted.revision {
        let stored = api.get_opt(wanted.kept_as).await?;
        if let Some(stored) = &stored
            && let Some(kept) = revision::kept(stored)
        {
            if belongs(scene.key, &stored.metadata) {
                dependents::claim(scene.context, scene.key, stored, namespace.clone()).await?;
            }
            Box::pin(definition::keep_copy(scene, &kept, None, namespace)).await?;
            return Ok(kept);
        }
    }
    let source = Box::pin(definition::read(scene, wanted.build_id)).await?;
    let checksum = source.as_ref().map(build_definition::checksum);
    // With a definition that was found out when it was read.
    let asked = || names::Version::new(&scene.key.name, &scene.process.spec);
    let asks = || asked().is_ok_and(|asked| asked.build_id.as_str() == wanted.build_id);
    if source.is_none() && !asks() {
        return Err(Fault::new(
            ErrorCategory::NotFound,
            format!(
                "ControllerRevision {} is gone, so its version cannot be made again",
                wanted.kept_as
            ),
        ));
    }
    let kept = revision::Kept {
        build_id: wanted.build_id.to_owned(),
        template: template::template(
            &scene.process,
            scene.key,
            (wanted.build_id, wanted.kept_as),
            checksum,
            &scene.context.workers,
        ),
    };
    let copied = definition::keep_copy(scene, &kept, source.as_ref(), namespace.clone());
    Box::pin(copied).await?;
    let number = scene.process.metadata.generation.unwrap_or(1);
    let mut built = revision::revision(scene.key, wanted.kept_as, number, &kept);
    hold(&mut built.metadata, namespace.clone());
    let params = PostParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PostParams::default()
    };
    match api.create(&params, &built).await {
        Ok(_) => Ok(kept),
        // Left by a try that was cut off after the API server had committed.
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            let stored = api.get_opt(wanted.kept_as).await?;
            // Of a predecessor: orphaned it is taken over, like the Deployment. Otherwise it may be
            // gone by now, and the next try creates it.
            let ours = stored.filter(|stored| {
                let controller = |owner: &OwnerReference| owner.controller == Some(true);
                belongs(scene.key, &stored.metadata)
                    || !stored.owner_references().iter().any(controller)
            });
            let Some((stored, kept)) =
                ours.and_then(|it| revision::kept(&it).map(|kept| (it, kept)))
            else {
                return Err(Fault::new(
                    ErrorCategory::Conflict,
                    format!(
                        "ControllerRevision {} belongs to something else",
                        wanted.kept_as
                    ),
                ));
            };
            dependents::claim(scene.context, scene.key, &stored, namespace).await?;
            Ok(kept)
        }
        Err(error) => {
            let what = format!("creating ControllerRevision {}", wanted.kept_as);
            Err(Fault::from(error).about(&what))
        }
    }
}
