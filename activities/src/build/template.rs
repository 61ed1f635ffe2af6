//! The pod template of a version. Rendered once, when the version first appears, and kept in its
//! ControllerRevision: a new default in a later release must not re-roll a fleet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, PodSecurityContext, PodSpec,
    PodTemplateSpec, SeccompProfile, SecretKeySelector, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use process_operator_crds::{Process, names};
use process_operator_workflows::contract::ProcessKey;

use super::{definition, eventing};
use crate::context::WorkerDefaults;

/// Name of the container.
pub const CONTAINER: &str = "worker";

/// Labels of everything that belongs to one version.
pub fn labels(key: &ProcessKey, build_id: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "process-worker"),
        ("app.kubernetes.io/instance", key.name.as_str()),
        ("app.kubernetes.io/version", build_id),
        ("app.kubernetes.io/component", "worker"),
        ("app.kubernetes.io/part-of", key.name.as_str()),
        ("app.kubernetes.io/managed-by", names::manager::OPERATOR),
        (names::label::PROCESS, key.name.as_str()),
        (names::label::BUILD_ID, build_id),
    ]
    .into_iter()
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .collect()
}

/// The immutable subset of the labels by which a Deployment finds its pods.
pub fn selector(key: &ProcessKey, build_id: &str) -> BTreeMap<String, String> {
    [
        (names::label::PROCESS, key.name.as_str()),
        (names::label::BUILD_ID, build_id),
    ]
    .into_iter()
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .collect()
}

/// Renders the pod template of the version that the spec asks for, which `kept_as` keeps. `checksum` is
/// that of the definition that its workers read, if they read one.
pub fn template(
    process: &Process,
    key: &ProcessKey,
    (build_id, kept_as): (&str, &str),
    checksum: Option<String>,
    defaults: &WorkerDefaults,
) -> PodTemplateSpec {
    let spec = &process.spec;
    let worker = spec.worker.clone().unwrap_or_default();
    let mut template_labels = worker.pod_labels;
    template_labels.extend(labels(key, build_id));
    let mut env = own_env(process, key, build_id, defaults);
    env.extend(worker.env.into_iter().map(EnvVar::from));
    let port = spec
        .observability
        .as_ref()
        .and_then(|observability| observability.metrics_port);
    let security = worker.security_context.unwrap_or_default();
    let mut annotations = worker.pod_annotations;
    let mut volumes = some(worker.volumes).unwrap_or_default();
    let mut mounts = some(worker.volume_mounts).unwrap_or_default();
    if let Some(checksum) = checksum {
        annotations.insert(names::annotation::DEFINITION_CHECKSUM.to_owned(), checksum);
        env.push(plain(
            names::env::PROCESS_DEFINITION_PATH,
            names::volume::DEFINITION_PATH,
        ));
        let (volume, mount) = definition::mounted(kept_as);
        volumes.push(volume);
        mounts.push(mount);
    }
    if let Some(eventing) = eventing::of(process) {
        env.push(plain(names::env::PROCESS_EVENTING_FILE, eventing::path()));
        annotations.insert(
            names::annotation::EVENTING.to_owned(),
            eventing::file(eventing),
        );
        volumes.extend(eventing::volumes(eventing));
        mounts.extend(eventing::mounts(eventing));
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(template_labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![Container {
                name: CONTAINER.into(),
                image: Some(spec.image.clone()),
                image_pull_policy: Some(spec.image_pull_policy.as_str().to_owned()),
                command: some(worker.command),
                args: some(worker.args),
                env: Some(env),
                env_from: some(worker.env_from),
                ports: port.map(|port| {
                    vec![ContainerPort {
                        name: Some("metrics".into()),
                        container_port: port,
                        protocol: Some("TCP".into()),
                        ..ContainerPort::default()
                    }]
                }),
                resources: worker.resources.map(Into::into),
                liveness_probe: worker.liveness_probe,
                readiness_probe: worker.readiness_probe,
                volume_mounts: some(mounts),
                security_context: Some(SecurityContext {
                    allow_privilege_escalation: Some(false),
                    capabilities: Some(Capabilities {
                        drop: Some(vec!["ALL".into()]),
                        ..Capabilities::default()
                    }),
                    ..SecurityContext::default()
                }),
                ..Container::default()
            }],
            image_pull_secrets: some(spec.image_pull_secrets.clone()),
            // A worker talks to Temporal; it gets a Kubernetes token only with an account of its own.
            automount_service_account_token: Some(worker.service_account_name.is_some()),
            service_account_name: worker.service_account_name,
            enable_service_links: Some(false),
            node_selector: (!worker.node_selector.is_empty()).then_some(worker.node_selector),
            tolerations: some(worker.tolerations),
            affinity: worker.affinity,
            topology_spread_constraints: some(worker.topology_spread_constraints),
            termination_grace_period_seconds: worker.termination_grace_period_seconds,
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: security.run_as_user,
                run_as_group: security.run_as_group,
                fs_group: security.fs_group,
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            volumes: some(volumes),
            ..PodSpec::default()
        }),
    }
}

/// Absent rather than empty: an empty list would be a field of ours on the API server.
fn some<T, U: From<T>>(list: Vec<T>) -> Option<Vec<U>> {
    (!list.is_empty()).then(|| list.into_iter().map(U::from).collect())
}

fn plain(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..EnvVar::default()
    }
}

fn from_secret(name: &str, secret: &str, key: &str, optional: bool) -> EnvVar {
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.into(),
                key: key.into(),
                optional: Some(optional),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// What the operator tells the worker. The API refuses these names in `spec.worker.env`.
fn own_env(
    process: &Process,
    key: &ProcessKey,
    build_id: &str,
    defaults: &WorkerDefaults,
) -> Vec<EnvVar> {
    let spec = &process.spec;
    let mut env = Vec::new();
    if let Some(secret) = &spec.temporal.connection_secret_ref {
        let name = secret.name.as_str();
        env.push(from_secret("TEMPORAL_ADDRESS", name, "address", false));
        for (variable, entry) in [
            ("TEMPORAL_API_KEY", "apiKey"),
            ("TEMPORAL_TLS_CLIENT_CERT_DATA", "tls.crt"),
            ("TEMPORAL_TLS_CLIENT_KEY_DATA", "tls.key"),
            ("TEMPORAL_TLS_SERVER_CA_CERT_DATA", "ca.crt"),
            ("TEMPORAL_TLS_SERVER_NAME", "serverName"),
        ] {
            env.push(from_secret(variable, name, entry, true));
        }
    } else {
        env.push(plain("TEMPORAL_ADDRESS", &defaults.temporal_address));
    }
    let versioning = spec.rollout.versioning;
    let task_queue = names::task_queue(versioning, &spec.temporal.task_queue, build_id);
    env.extend([
        plain("TEMPORAL_NAMESPACE", &spec.temporal.namespace),
        plain("TASK_QUEUE", &task_queue),
        plain("TEMPORAL_TASK_QUEUE", &task_queue),
    ]);
    if versioning.is_default() {
        // A worker that is told both polls as a version, and nothing would be routed to it.
        env.push(plain("TEMPORAL_DEPLOYMENT_NAME", key.worker_deployment()));
    }
    env.extend([
        plain("TEMPORAL_WORKER_BUILD_ID", build_id),
        plain("PROCESS_NAME", &key.name),
        plain("PROCESS_DEFINITION_ID", &spec.definition_ref.id),
        plain("PROCESS_TENANT_ID", &spec.definition_ref.tenant_id),
    ]);
    if let Some(most) = spec.rollout.max_concurrency_per_tenant {
        env.push(plain("MAX_CONCURRENCY_PER_TENANT", most.to_string()));
    }
    if let Some(observability) = &spec.observability {
        if !observability.metrics_tags.is_empty() {
            // A map of strings always serialises.
            let tags = serde_json::to_string(&observability.metrics_tags).unwrap_or_default();
            env.push(plain("METRICS_TAGS", tags));
        }
        if let Some(port) = observability.metrics_port {
            env.push(plain("METRICS_PORT", port.to_string()));
        }
    }
    env
}
