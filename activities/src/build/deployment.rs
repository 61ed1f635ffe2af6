//! The Deployment of a version.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use process_operator_crds::names;
use process_operator_workflows::contract::ProcessKey;

use super::revision::Kept;
use super::{hash, owner, template};

/// Annotation with the hash of what was applied.
pub(super) const APPLIED: &str = "ameide.io/applied";

/// Seconds that pods must be ready before those of another version are replaced by them. Where nothing
/// tells which version polls, staying up is all that speaks for a version.
const PROOF: i32 = 10;

/// Builds the complete set of fields that we own, with the hash of it as annotation.
pub fn deployment(key: &ProcessKey, name: &str, kept: &Kept, replicas: i32) -> Deployment {
    let mut labels = template::labels(key, &kept.build_id);
    labels.insert(names::label::PROCESS_UID.to_owned(), key.uid.clone());
    let mut template = kept.template.clone();
    let mut selector = template::selector(key, &kept.build_id);
    let mut proof = None;
    if let Some(track) = track(key, name) {
        let track = (names::label::TRACK.to_owned(), track.to_owned());
        labels.extend([track.clone()]);
        let metadata = template.metadata.get_or_insert_default();
        let pods = metadata.labels.get_or_insert_default();
        pods.extend([track.clone()]);
        // Pods of all versions, one after the other.
        selector.remove(names::label::BUILD_ID);
        selector.extend([track]);
        proof = Some(PROOF);
    }
    let mut built = Deployment {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            min_ready_seconds: proof,
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    let applied = applied_hash(&built);
    built.metadata.annotations = Some(BTreeMap::from([(APPLIED.to_owned(), applied)]));
    built
}

/// Which of the two Deployments of `versioning: None` it is; every other one is a version's own, and
/// is called after it.
fn track(key: &ProcessKey, name: &str) -> Option<&'static str> {
    if name == key.name {
        Some(names::track::STABLE)
    } else if name == names::canary_name(&key.name) {
        Some(names::track::CANARY)
    } else {
        None
    }
}

/// Hash over the built object without the annotation that carries it.
fn applied_hash(built: &Deployment) -> String {
    // Maps are ordered, so the same object always serialises to the same bytes.
    hash::short(&serde_json::to_vec(built).unwrap_or_default())
}

/// The hash that a Deployment carries.
pub fn applied(deployment: &Deployment) -> String {
    applied_of(&deployment.metadata)
}

/// The hash that an object carries.
pub(super) fn applied_of(metadata: &ObjectMeta) -> String {
    metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(APPLIED))
        .cloned()
        .unwrap_or_default()
}
