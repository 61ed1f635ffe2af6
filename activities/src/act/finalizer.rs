//! The finalizer of a Process: added before the first effect, removed after the last.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use process_operator_crds::{ErrorCategory, Process, names};
use serde_json::json;

use super::{Scene, read};
use crate::dependents;
use crate::error::{Fault, Result};

/// JSON patch with a test of the uid, so that a successor of the same name is never written to. Whether the Process is
/// there, and as it was when the steps were planned.
async fn patch(scene: &Scene<'_>, present: &Process, wanted: &[String]) -> Result<bool> {
    let before = present.finalizers();
    let change = if before.is_empty() {
        // There is none, says the test: one that somebody has added meanwhile is not lost.
        json!([
            { "op": "test", "path": "/metadata/finalizers", "value": null },
            { "op": "add", "path": "/metadata/finalizers", "value": wanted },
        ])
    } else {
        json!([
            { "op": "test", "path": "/metadata/finalizers", "value": before },
            { "op": "replace", "path": "/metadata/finalizers", "value": wanted },
        ])
    };
    let mut operations =
        vec![json!({ "op": "test", "path": "/metadata/uid", "value": scene.key.uid })];
    operations.extend(change.as_array().into_iter().flatten().cloned());
    let patch: Patch<DynamicObject> = Patch::Json(
        serde_json::from_value(operations.into())
            .map_err(|error| Fault::new(ErrorCategory::Internal, error.to_string()))?,
    );
    let params = PatchParams {
        field_manager: Some(names::manager::OPERATOR.into()),
        ..PatchParams::default()
    };
    match scene
        .context
        .processes(&scene.key.namespace)
        .patch(&scene.key.name, &params, &patch)
        .await
    {
        Ok(patched) => {
            let mut latest = scene.latest.lock().unwrap_or_else(PoisonError::into_inner);
            let same = patched.metadata.generation == scene.process.metadata.generation;
            Arc::make_mut(&mut latest).metadata = patched.metadata;
            Ok(same)
        }
        Err(error) => {
            let fault = Fault::from(error).about("patching the finalizer");
            match fault.category {
                // A failed test of the patch is answered with 422: somebody was faster.
                ErrorCategory::InvalidSpec => {
                    Err(Fault::new(ErrorCategory::Conflict, fault.message))
                }
                ErrorCategory::NotFound => Ok(false),
                _ => Err(fault),
            }
        }
    }
}

/// Adds the operator's. Whether the Process is there, and as it was when the steps were planned.
pub(super) async fn add(scene: &Scene<'_>) -> Result<bool> {
    let Some(present) = fresh(scene).await? else {
        return Ok(false);
    };
    let mut wanted = present.finalizers().to_vec();
    if wanted.iter().any(|name| name == names::finalizer::PROCESS) {
        return Ok(present.metadata.generation == scene.process.metadata.generation);
    }
    wanted.push(names::finalizer::PROCESS.into());
    patch(scene, &present, &wanted).await
}

/// Takes it away, after everything that it has held. When it began to is said also when it fails: the
/// answer may have been lost.
pub(super) async fn remove(scene: &Scene<'_>, began: &mut Option<Timestamp>) -> Result<()> {
    let Some(present) = read(scene.context, scene.key).await? else {
        return Ok(());
    };
    if present.uid().as_deref() != Some(scene.key.uid.as_str()) {
        return Ok(());
    }
    let wanted: Vec<String> = present
        .finalizers()
        .iter()
        .filter(|name| *name != names::finalizer::PROCESS)
        .cloned()
        .collect();
    if wanted.len() == present.finalizers().len() {
        return Ok(());
    }
    let finalizers = present.finalizers();
    dependents::release(&scene.context.kube, scene.key, finalizers, None).await?;
    *began = Some(Timestamp::now());
    patch(scene, &present, &wanted).await.map(|_| ())
}

/// The first try works on the object just observed; after a conflict it is read again.
async fn fresh(scene: &Scene<'_>) -> Result<Option<Process>> {
    if scene.process.finalizers().is_empty() {
        return Ok(Some((*scene.process).clone()));
    }
    let found = read(scene.context, scene.key).await?;
    Ok(found.filter(|found| found.uid().as_deref() == Some(scene.key.uid.as_str())))
}
