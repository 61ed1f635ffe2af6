//! The ControllerRevision that keeps what a version was rendered to.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use process_operator_crds::names;
use process_operator_workflows::contract::ProcessKey;
use serde::{Deserialize, Serialize};

use super::{owner, template};

/// What is kept of a version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Kept {
    /// Build id.
    pub build_id: String,
    /// Pod template as rendered when the version appeared.
    pub template: PodTemplateSpec,
}

impl Kept {
    /// Image of the worker container.
    pub fn image(&self) -> String {
        self.template
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find(|container| container.name == template::CONTAINER)
            .and_then(|container| container.image.clone())
            .unwrap_or_default()
    }
}

/// Builds the ControllerRevision of a version. Its data is immutable on the API server.
pub fn revision(key: &ProcessKey, name: &str, number: i64, kept: &Kept) -> ControllerRevision {
    let mut labels = template::labels(key, &kept.build_id);
    labels.insert(names::label::PROCESS_UID.to_owned(), key.uid.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        revision: number,
        data: serde_json::to_value(kept).ok().map(RawExtension),
    }
}

/// Reads a ControllerRevision back; `None` when it is not one of ours.
pub fn kept(revision: &ControllerRevision) -> Option<Kept> {
    let managed_by = revision
        .metadata
        .labels
        .as_ref()?
        .get("app.kubernetes.io/managed-by")?;
    if managed_by != names::manager::OPERATOR {
        return None;
    }
    serde_json::from_value(revision.data.as_ref()?.0.clone()).ok()
}
