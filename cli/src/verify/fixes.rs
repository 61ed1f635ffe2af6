//! What mends what a reason says.

use process_operator_crds::Reason;

/// What a person can do about it; empty when waiting is all there is.
pub(super) fn of(reason: &str, name: &str) -> String {
    let fix = match reason.parse().unwrap_or(Reason::Unknown) {
        Reason::NamespaceNotFound => {
            "create the Temporal namespace (temporal operator namespace create -n NAME), or correct \
             spec.temporal.namespace"
        }
        Reason::TaskQueueConflict => {
            "give one of the two Processes another spec.temporal.taskQueue"
        }
        Reason::DeploymentOwnedElsewhere | Reason::RoutingChanged => {
            return format!("`kubectl process resume {name}` takes the routing back");
        }
        Reason::WorkerNotVersioned => {
            "turn Worker Versioning on in the worker, with deployment name and build id from \
             TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID"
        }
        Reason::ProgressDeadlineExceeded => {
            "look at the pods and their logs; correct the image or the worker, or raise \
             spec.rollout.progressDeadlineSeconds"
        }
        Reason::WorkersUnavailable => "look at the pods and their logs",
        Reason::ScaledToZero => "set spec.replicas",
        Reason::DefinitionNotFound => {
            "create the ConfigMap that spec.definitionRef.configMapRef names"
        }
        Reason::DependencyNotReady | Reason::NotFound => {
            "create what is named, or wait until whoever looks after it has made it Ready"
        }
        Reason::InvalidSpec => "correct the field that the message names",
        Reason::QuotaExceeded => "raise the quota, or remove what is not used",
        Reason::Forbidden => "give the operator the right that the message names: deploy/rbac.yaml",
        Reason::RolloutAborted | Reason::GateFailed | Reason::AnalysisFailed => {
            return format!("change the spec, or `kubectl process retry {name}`");
        }
        Reason::Undone => {
            return format!(
                "write the version that serves into the spec, or `kubectl process retry {name}`"
            );
        }
        Reason::Paused => return format!("`kubectl process resume {name}`"),
        Reason::TemporalUnavailable => "look after the Temporal server and the network between",
        Reason::TagMayMove => "name the image by a digest or by a tag that does not move",
        Reason::Suspended => "set spec.suspend to false",
        Reason::InternalError => "`kubectl process gather` collects what a report of it needs",
        _ => "",
    };
    fix.to_owned()
}
