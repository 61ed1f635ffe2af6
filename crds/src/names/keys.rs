//! Fixed words: labels, annotations, managers, environment variables.

/// Keys of labels on owned objects.
pub mod label {
    /// Name of the Process.
    pub const PROCESS: &str = "ameide.io/process";
    /// Build id of the version.
    pub const BUILD_ID: &str = "ameide.io/build-id";
    /// `metadata.uid` of the Process: tells the objects of a Process from those of a predecessor
    /// of the same name.
    pub const PROCESS_UID: &str = "ameide.io/process-uid";

    /// With `versioning: None`, which of the two Deployments it is: [`super::track`].
    pub const TRACK: &str = "ameide.io/track";
    /// On the ConfigMap with a definition: its version, a whole number.
    pub const DEFINITION_VERSION: &str = "ameide.io/definition-version";
    /// On a CronJob and its pods: name of the cron job in the spec.
    pub const CRON_JOB: &str = "ameide.io/cron-job";
    /// On a CronJob and its pods: what the cron job is for.
    pub const PURPOSE: &str = "ameide.io/purpose";

    /// Recommended label: kind of the application.
    pub const APP_NAME: &str = "app.kubernetes.io/name";
    /// Recommended label: instance of the application, the name of the Process.
    pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
    /// Recommended label: version of the application, the build id.
    pub const APP_VERSION: &str = "app.kubernetes.io/version";
    /// Recommended label: part that the object plays.
    pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
    /// Recommended label: the larger whole.
    pub const APP_PART_OF: &str = "app.kubernetes.io/part-of";
    /// Recommended label: who looks after the object.
    pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

    /// Beginnings of label and annotation keys that a user may not set on worker pods; the rules
    /// of the CRD name the same.
    pub const RESERVED_PREFIXES: [&str; 4] = [
        "app.kubernetes.io/",
        "ameide.io/",
        "kubernetes.io/",
        "k8s.io/",
    ];
}

/// Keys of annotations.
pub mod annotation {
    /// On the CustomResourceDefinition: version of the operator that it was generated with.
    pub const OPERATOR_VERSION: &str = "ameide.io/process-operator-version";
    /// On a Process: a request to the operator, as JSON.
    pub const REQUEST: &str = "ameide.io/request";
    /// On a Process: who wrote that request, stamped by the admission policies of the chart. It takes
    /// the place of the actor in the request.
    pub const REQUEST_ACTOR: &str = "ameide.io/request-actor";
    /// On a Process that is being deleted, with value `true`: let it go at once, also while
    /// Temporal is away. Nothing is waited for, nothing is ended, no record is cleaned before.
    pub const FORCE_FINALIZE: &str = "ameide.io/force-finalize";

    /// Whether a Process with these annotations is to be let go at once.
    pub fn lets_go(annotations: &std::collections::BTreeMap<String, String>) -> bool {
        annotations
            .get(FORCE_FINALIZE)
            .is_some_and(|value| value == "true")
    }
    /// On the ControllerRevision of a retired version that is kept for a rollback: when it was
    /// last current.
    pub const LAST_CURRENT: &str = "ameide.io/last-current";
    /// On the ConfigMap that holds the routing: when each version was last current, as JSON.
    pub const SERVED: &str = "ameide.io/served";
    /// On worker pods, on a version's copy of its definition and on the ConfigMap with a fetched one:
    /// checksum of the definition.
    pub const DEFINITION_CHECKSUM: &str = "ameide.io/definition-checksum";
    /// On the ConfigMap with a fetched definition: mark of the registry that its content comes from.
    pub const DEFINITION_SOURCE: &str = "ameide.io/definition-source";
    /// On the ConfigMap with a fetched definition: `ETag` of its content, by which only another one is asked
    /// for.
    pub const DEFINITION_ETAG: &str = "ameide.io/definition-etag";
    /// On the ConfigMap with a fetched definition: what the registry says in the place of a version.
    pub const DEFINITION_UNVERSIONED: &str = "ameide.io/definition-unversioned";
    /// On the ConfigMap with a fetched definition: why the last fetch failed, as JSON.
    pub const DEFINITION_FAILURE: &str = "ameide.io/definition-failure";
    /// On worker pods: `spec.dependencies.eventing` as the workers read it, JSON.
    pub const EVENTING: &str = "ameide.io/eventing";
    /// On owned objects: hash of what makes the version.
    pub const VERSION_HASH: &str = "ameide.io/version-hash";
}

/// Values of label [`label::TRACK`].
pub mod track {
    /// The Deployment that stays.
    pub const STABLE: &str = "stable";
    /// The Deployment beside it during a canary.
    pub const CANARY: &str = "canary";
}

/// The finalizer of a Process.
pub mod finalizer {
    /// Keeps a deleted Process until the operator has cleaned up.
    pub const PROCESS: &str = "ameide.io/process-operator";
    /// Kubernetes' own, of a Process that is deleted with `--cascade=orphan`.
    pub const ORPHAN: &str = "orphan";
}

/// Field managers of server-side apply.
pub mod manager {
    /// Owned objects and the status of a Process.
    pub const OPERATOR: &str = "process-operator";
    /// The annotation by which pods are restarted on request.
    pub const RESTART: &str = "process-operator-restart";
    /// What the watcher writes while Temporal is away.
    pub const WATCHER: &str = "process-operator-watcher";
}

/// Task queues of the operator's own workers.
pub mod queue {
    /// Workflows and short activities.
    pub const MAIN: &str = "process-operator";
    /// Activities that wait for long and send heartbeats.
    pub const WAITS: &str = "process-operator-waits";
    /// Changes of routing, which the server limits to ten a second in a Temporal namespace.
    pub const ROUTING: &str = "process-operator-routing";
}

/// Names of container ports.
pub mod port {
    /// Where a worker serves Prometheus metrics.
    pub const METRICS: &str = "metrics";
}

/// Names and paths of the operator's own volumes.
pub mod volume {
    /// Beginning of volume names that a user may not use.
    pub const RESERVED_NAME_PREFIX: &str = "process-";
    /// Beginning of paths that a user may not mount over.
    pub const RESERVED_PATH_PREFIX: &str = "/etc/process-";
    /// Name of the volume with the definition.
    pub const DEFINITION: &str = "process-definition";
    /// Where the definition is.
    pub const DEFINITION_PATH: &str = "/etc/process-definition";
    /// Name of the volume with the event bindings, and beginning of those with credentials.
    pub const EVENTING: &str = "process-eventing";
    /// Where the event bindings are.
    pub const EVENTING_PATH: &str = "/etc/process-eventing";
    /// The file with the event bindings, below [`EVENTING_PATH`].
    pub const EVENTING_FILE: &str = "bindings.json";
    /// Where credentials for event buses are, each below the name of its bus.
    pub const EVENTING_CREDENTIALS_PATH: &str = "/etc/process-eventing-credentials";
}

/// Environment variables of the worker container that the operator sets.
pub mod env {
    /// `host:port` of the Temporal frontend.
    pub const TEMPORAL_ADDRESS: &str = "TEMPORAL_ADDRESS";
    /// Temporal namespace of the workflows.
    pub const TEMPORAL_NAMESPACE: &str = "TEMPORAL_NAMESPACE";
    /// Task queue to poll.
    pub const TASK_QUEUE: &str = "TASK_QUEUE";
    /// The same as [`TASK_QUEUE`], by Temporal's own name.
    pub const TEMPORAL_TASK_QUEUE: &str = "TEMPORAL_TASK_QUEUE";
    /// Name of the Worker Deployment.
    pub const TEMPORAL_DEPLOYMENT_NAME: &str = "TEMPORAL_DEPLOYMENT_NAME";
    /// Build id of the version.
    pub const TEMPORAL_WORKER_BUILD_ID: &str = "TEMPORAL_WORKER_BUILD_ID";
    /// `true` when the connection uses TLS.
    pub const TEMPORAL_TLS: &str = "TEMPORAL_TLS";
    /// Client certificate, PEM.
    pub const TEMPORAL_TLS_CLIENT_CERT_DATA: &str = "TEMPORAL_TLS_CLIENT_CERT_DATA";
    /// Private key of the client certificate, PEM.
    pub const TEMPORAL_TLS_CLIENT_KEY_DATA: &str = "TEMPORAL_TLS_CLIENT_KEY_DATA";
    /// Certificate authority of the server, PEM.
    pub const TEMPORAL_TLS_SERVER_CA_CERT_DATA: &str = "TEMPORAL_TLS_SERVER_CA_CERT_DATA";
    /// Name in the server's certificate.
    pub const TEMPORAL_TLS_SERVER_NAME: &str = "TEMPORAL_TLS_SERVER_NAME";
    /// API key.
    pub const TEMPORAL_API_KEY: &str = "TEMPORAL_API_KEY";
    /// Name of the Process.
    pub const PROCESS_NAME: &str = "PROCESS_NAME";
    /// `spec.definitionRef.id`.
    pub const PROCESS_DEFINITION_ID: &str = "PROCESS_DEFINITION_ID";
    /// Directory with the definition of `spec.definitionRef.configMapRef` or `registry`.
    pub const PROCESS_DEFINITION_PATH: &str = "PROCESS_DEFINITION_PATH";
    /// `spec.definitionRef.tenantId`.
    pub const PROCESS_TENANT_ID: &str = "PROCESS_TENANT_ID";
    /// Name of the cron job, in its pods.
    pub const PROCESS_CRON_JOB: &str = "PROCESS_CRON_JOB";
    /// What the cron job is for, in its pods.
    pub const PROCESS_CRON_JOB_PURPOSE: &str = "PROCESS_CRON_JOB_PURPOSE";
    /// Path of the file with `spec.dependencies.eventing`.
    pub const PROCESS_EVENTING_FILE: &str = "PROCESS_EVENTING_FILE";
    /// `spec.rollout.maxConcurrencyPerTenant`.
    pub const MAX_CONCURRENCY_PER_TENANT: &str = "MAX_CONCURRENCY_PER_TENANT";
    /// `spec.observability.metricsTags` as a JSON object.
    pub const METRICS_TAGS: &str = "METRICS_TAGS";
    /// `spec.observability.metricsPort`.
    pub const METRICS_PORT: &str = "METRICS_PORT";

    /// Whether a user may not set `name`. The rule of the CRD on `spec.worker.env` says the same;
    /// this is for objects that were stored before the rule.
    pub fn is_reserved(name: &str) -> bool {
        name.starts_with("TEMPORAL_")
            || name.starts_with("PROCESS_")
            || matches!(
                name,
                TASK_QUEUE | MAX_CONCURRENCY_PER_TENANT | METRICS_TAGS | METRICS_PORT
            )
    }
}

/// Label selector of the worker pods of one version, as `status.selector` shows it.
pub fn selector(process: &str, build_id: &super::BuildId) -> String {
    format!(
        "{}={process},{}={build_id}",
        label::PROCESS,
        label::BUILD_ID
    )
}

/// Label selector of the worker pods with `versioning: None`: those of the Deployment that stays.
pub fn track_selector(process: &str) -> String {
    format!(
        "{}={process},{}={}",
        label::PROCESS,
        label::TRACK,
        track::STABLE
    )
}

/// Name of the Deployment beside the one that stays, during a canary with `versioning: None`.
pub fn canary_name(process: &str) -> String {
    format!("{process}-canary")
}

/// Name of the CronJob for a cron job of a Process.
pub fn cron_job_name(process: &str, job: &str) -> String {
    format!("{process}-{job}")
}

/// Name of the ConfigMap with a version's own copy of its definition; `version` is the name of its
/// ControllerRevision.
pub fn definition_name(version: &str) -> String {
    format!("{version}-definition")
}

/// Name of the ConfigMap that keeps what was fetched from the registry of a Process.
pub fn fetched_name(process: &str) -> String {
    definition_name(process)
}

/// Name of the ControllerRevision that tells whether a Process's objects have been orphaned.
pub fn sentinel_name(process: &str) -> String {
    format!("{process}-sentinel")
}

/// Name of the ConfigMap that holds the routing where Temporal does not.
pub fn routing_name(process: &str) -> String {
    format!("{process}-routing")
}

/// Name of the Lease that says when Temporal last answered an operator whose workflows live in this
/// Temporal namespace. It is in the operator's own Kubernetes namespace.
pub fn lease_name(temporal_namespace: &str) -> String {
    let clean: String = temporal_namespace
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    format!("process-operator-temporal-{}", clean.trim_matches('-'))
}
