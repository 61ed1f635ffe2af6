//! What makes a version, and what it is called.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::MAX_BUILD_ID;
use crate::{
    Process, ProcessSpec,
    spec::{
        DefinitionRef, Eventing, ImagePullPolicy, Observability, Resources, SecurityContext,
        Versioning, Worker,
    },
};

/// Length of a [`VersionHash`].
const HASH_LEN: usize = 8;

/// Characters of a digest that a build id shows; the hash behind it tells versions apart.
const DIGEST_LEN: usize = 12;

/// First 8 hex digits of the SHA-256 over what makes a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionHash(String);

impl VersionHash {
    fn over(input: &str) -> Self {
        let digest = Sha256::digest(input.as_bytes());
        let mut hex = String::with_capacity(HASH_LEN);
        for byte in digest.iter().take(HASH_LEN / 2) {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// The 8 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Build id of a version in Temporal; also the value of label `ameide.io/build-id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildId(String);

impl BuildId {
    /// The build id of `image` with `hash`: the tag, or the beginning of the digest, or `latest`,
    /// and then the hash.
    pub fn new(image: &str, hash: &VersionHash) -> Self {
        let head = clean(image_version(image).as_str(), MAX_BUILD_ID - HASH_LEN - 1);
        Self(format!("{head}-{hash}"))
    }

    /// A build id as it was read from a label, from status or from Temporal.
    pub fn from_observed(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The build id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash at its end, if this is a build id that the operator made.
    pub fn hash(&self) -> Option<VersionHash> {
        let (_, hash) = self.0.rsplit_once('-')?;
        let hex =
            hash.len() == HASH_LEN && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| VersionHash(hash.to_owned()))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of the version that a spec asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Hash over what makes the version.
    pub hash: VersionHash,
    /// Build id in Temporal.
    pub build_id: BuildId,
    /// Name of the version's Deployment and of its ControllerRevision.
    pub deployment_name: String,
}

impl Version {
    /// The version that `process` asks for.
    pub fn of(process: &Process) -> Result<Self, serde_json::Error> {
        Self::new(
            process.metadata.name.as_deref().unwrap_or_default(),
            &process.spec,
        )
    }

    /// The version that `spec` of the Process called `name` asks for.
    pub fn new(name: &str, spec: &ProcessSpec) -> Result<Self, serde_json::Error> {
        Self::with_definition(name, spec, None)
    }

    /// The same with the checksum of the definition that the workers are to read.
    pub fn with_definition(
        name: &str,
        spec: &ProcessSpec,
        checksum: Option<&str>,
    ) -> Result<Self, serde_json::Error> {
        let mut input = input(spec)?;
        if let Some(checksum) = checksum {
            input.insert("definition".into(), checksum.into());
        }
        let hash = VersionHash::over(&canonical(&Value::Object(input)));
        Ok(Self {
            build_id: BuildId::new(&spec.image, &hash),
            deployment_name: child_name(name, &hash),
            hash,
        })
    }
}

/// Name of the Deployment and of the ControllerRevision of one version: `<process>-<hash>`.
pub fn child_name(process: &str, hash: &VersionHash) -> String {
    format!("{process}-{hash}")
}

/// Task queue that the workers of one version poll: the Process's own, or with
/// [`Versioning::TaskQueuePerVersion`] `<taskQueue>-<hash>`. A build id that the operator has not made
/// stands there as a whole.
pub fn task_queue(versioning: Versioning, task_queue: &str, build_id: &str) -> String {
    if versioning != Versioning::TaskQueuePerVersion {
        return task_queue.to_owned();
    }
    let hash = BuildId::from_observed(build_id).hash();
    let suffix = hash.as_ref().map_or(build_id, VersionHash::as_str);
    format!("{task_queue}-{suffix}")
}

/// The hash over [`version_input`].
///
/// Fails only if the spec cannot be written as JSON, which no spec that came from JSON does.
pub fn version_hash(spec: &ProcessSpec) -> Result<VersionHash, serde_json::Error> {
    Ok(VersionHash::over(&version_input(spec)?))
}

/// What makes a version, as canonical JSON: sorted keys, no whitespace.
///
/// Only what the user wrote counts, and only what reaches the pods: `replicas`, `suspend` and the
/// rest of `rollout` do not. Absent fields and fields at their default are left out, so that a
/// later release can add optional fields and a new default without re-rolling every Process.
/// Rendered objects are never part of it for the same reason.
/// The content of a definition is part of it too, by its checksum.
pub fn version_input(spec: &ProcessSpec) -> Result<String, serde_json::Error> {
    Ok(canonical(&Value::Object(input(spec)?)))
}

fn input(spec: &ProcessSpec) -> Result<Map<String, Value>, serde_json::Error> {
    let mut input = Map::new();
    input.insert("image".into(), spec.image.clone().into());
    if spec.image_pull_policy != ImagePullPolicy::default() {
        input.insert(
            "imagePullPolicy".into(),
            spec.image_pull_policy.as_str().into(),
        );
    }
    if !spec.image_pull_secrets.is_empty() {
        input.insert(
            "imagePullSecrets".into(),
            serde_json::to_value(&spec.image_pull_secrets)?,
        );
    }
    let definition_ref = DefinitionRef {
        // Where the content comes from is not what it is.
        registry: None,
        ..spec.definition_ref.clone()
    };
    input.insert(
        "definitionRef".into(),
        serde_json::to_value(definition_ref)?,
    );
    input.insert("temporal".into(), serde_json::to_value(&spec.temporal)?);
    if let Some(worker) = spec
        .worker
        .as_ref()
        .map(without_empty)
        .filter(|w| *w != Worker::default())
    {
        input.insert("worker".into(), serde_json::to_value(worker)?);
    }
    if let Some(eventing) = spec
        .dependencies
        .as_ref()
        .and_then(|dependencies| dependencies.eventing.as_ref())
        .filter(|eventing| **eventing != Eventing::default())
    {
        input.insert("eventing".into(), serde_json::to_value(eventing)?);
    }
    if let Some(max) = spec.rollout.max_concurrency_per_tenant {
        input.insert("maxConcurrencyPerTenant".into(), max.into());
    }
    if spec.rollout.versioning != Versioning::default() {
        // It decides what the workers are told: their queue, and whether they have a version.
        input.insert("versioning".into(), spec.rollout.versioning.as_str().into());
    }
    if let Some(observability) = spec
        .observability
        .as_ref()
        .filter(|o| **o != Observability::default())
    {
        input.insert("observability".into(), serde_json::to_value(observability)?);
    }
    Ok(input)
}

/// `worker` without objects that say nothing: `resources: {}` means the same as no `resources`.
/// Kubernetes' own types are left as they are, since there an empty object can have a meaning
/// (`namespaceSelector: {}` selects all namespaces).
fn without_empty(worker: &Worker) -> Worker {
    let mut worker = worker.clone();
    worker.resources = worker.resources.filter(|r| *r != Resources::default());
    worker.security_context = worker
        .security_context
        .filter(|c| *c != SecurityContext::default());
    worker
}

/// JSON with sorted keys, whatever map type `serde_json` was built with.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            let fields: Vec<String> = keys
                .into_iter()
                .map(|key| format!("{}:{}", Value::from(key.as_str()), canonical(&map[key])))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// The tag of an image reference; without a tag the beginning of the digest; without either
/// `latest`, which is what an image without tag means.
fn image_version(image: &str) -> String {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash belongs to the port of the registry.
    let last = name.rsplit('/').next().unwrap_or(name);
    if let Some((_, tag)) = last.split_once(':') {
        return tag.to_owned();
    }
    match digest.and_then(|d| d.split_once(':')) {
        Some((algorithm, hex)) => format!(
            "{algorithm}-{}",
            crate::conditions::truncate(hex, DIGEST_LEN)
        ),
        None => digest.unwrap_or("latest").to_owned(),
    }
}

/// Whether the same image reference is expected to be other code some day: without a digest, and with the
/// tag `latest`, with none, or pulled anew at every start of a pod.
pub fn tag_may_move(spec: &ProcessSpec) -> bool {
    !spec.image.contains('@')
        && (spec.image_pull_policy == ImagePullPolicy::Always
            || image_version(&spec.image) == "latest")
}

/// `text` as the beginning of a label value: characters that labels refuse become dashes, and it
/// begins with a letter or digit (which also keeps off `__`, which Temporal reserves).
fn clean(text: &str, max: usize) -> String {
    let dashed: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .take(max)
        .collect();
    let edge = |c: char| !c.is_ascii_alphanumeric();
    match dashed.trim_matches(edge) {
        "" => "image".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(image: &str) -> String {
        BuildId::new(image, &VersionHash("0123abcd".into()))
            .as_str()
            .to_owned()
    }

    #[test]
    fn a_build_id_shows_where_the_image_came_from() {
        for (image, expected) in [
            ("ghcr.io/ameide/l2o-process:0.7.0", "0.7.0-0123abcd"),
            ("localhost:5000/worker", "latest-0123abcd"),
            ("localhost:5000/worker:v1", "v1-0123abcd"),
            ("worker:v1@sha256:aaaabbbbccccdddd", "v1-0123abcd"),
            (
                "worker@sha256:aaaabbbbccccdddd",
                "sha256-aaaabbbbcccc-0123abcd",
            ),
            ("worker:1.2.3+build_7", "1.2.3-build_7-0123abcd"),
            ("worker:__main__", "main-0123abcd"),
            ("worker:---", "image-0123abcd"),
            ("worker:", "image-0123abcd"),
            ("", "latest-0123abcd"),
        ] {
            assert_eq!(head(image), expected, "{image}");
        }
    }

    #[test]
    fn a_tag_may_move_unless_a_digest_holds_it() {
        let spec = |image: &str, policy: &str| -> ProcessSpec {
            serde_json::from_value(serde_json::json!({
                "image": image,
                "imagePullPolicy": policy,
                "definitionRef": { "id": "d", "tenantId": "t" },
                "temporal": { "namespace": "default", "taskQueue": "q" },
            }))
            .expect("a spec")
        };
        for (image, policy, moves) in [
            ("worker:v1", "IfNotPresent", false),
            ("worker:v1", "Never", false),
            ("worker:v1", "Always", true),
            ("worker:latest", "IfNotPresent", true),
            ("localhost:5000/worker", "IfNotPresent", true),
            ("worker:latest@sha256:aaaabbbbccccdddd", "Always", false),
        ] {
            assert_eq!(
                tag_may_move(&spec(image, policy)),
                moves,
                "{image} {policy}"
            );
        }
    }

    #[test]
    fn long_tags_are_cut_and_never_end_in_punctuation() {
        let id = head(&format!("w:{}.{}", "a".repeat(53), "b".repeat(70)));
        assert_eq!(id, format!("{}-0123abcd", "a".repeat(53)));
        assert_eq!(head(&format!("w:{}", "a".repeat(128))).len(), MAX_BUILD_ID);
    }

    #[test]
    fn the_hash_of_a_build_id_can_be_read_back() {
        let hash = VersionHash("0123abcd".into());
        assert_eq!(BuildId::new("w:v-1", &hash).hash(), Some(hash));
        for foreign in ["v1", "v1-0123ABCD", "v1-0123abc", "2024-01-02"] {
            assert_eq!(BuildId::from_observed(foreign).hash(), None, "{foreign}");
        }
    }

    #[test]
    fn canonical_json_sorts_and_escapes_keys() {
        let value: Value =
            serde_json::from_str(r#"{"b":[{"d":1,"c":null}],"a\"":"\u00e4"}"#).expect("JSON");
        assert_eq!(canonical(&value), r#"{"a\"":"ä","b":[{"c":null,"d":1}]}"#);
    }
}
