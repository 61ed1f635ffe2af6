//! Why a condition has its status.
//!
//! Reasons are part of the API: programs compare them, so a reason is never renamed and never gets
//! another meaning within `ameide.io/v1`. `docs/reference/conditions.md` is generated from the
//! comments below.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumMessage, EnumString, IntoStaticStr};

/// Why a condition has its status; the `reason` field of a condition.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumIter,
    EnumMessage,
    EnumString,
    IntoStaticStr,
)]
#[non_exhaustive]
pub enum Reason {
    /// The operator has not looked at the Process yet.
    Pending,
    /// There is nothing to do: the version that spec asks for is current.
    Settled,
    /// Everything is as it should be.
    AsExpected,
    /// The new version has become current.
    RolloutComplete,
    /// A new version is being rolled out.
    RollingOut,
    /// Worker pods have been created and are not ready yet, or do not poll the task queue yet.
    WaitingForWorkers,
    /// Enough worker pods of the current version are ready.
    WorkersReady,
    /// Too few worker pods of the current version are ready.
    WorkersUnavailable,
    /// `spec.replicas` is 0, so that nothing serves the task queue.
    ScaledToZero,
    /// The new version did not become ready within `spec.rollout.progressDeadlineSeconds`.
    ProgressDeadlineExceeded,
    /// `spec.temporal.namespace` does not exist in Temporal. Nothing is deployed until it does.
    NamespaceNotFound,
    /// An older Process serves the same task queue of the same Temporal namespace. This one
    /// deploys nothing.
    TaskQueueConflict,
    /// The Worker Deployment in Temporal is managed by someone else, for example by an operator in
    /// another cluster.
    DeploymentOwnedElsewhere,
    /// The workers poll the task queue without their build id: the image ignores
    /// `TEMPORAL_DEPLOYMENT_NAME` and `TEMPORAL_WORKER_BUILD_ID`.
    WorkerNotVersioned,
    /// The rollout waits until somebody promotes it.
    WaitingForPromotion,
    /// The rollout is paused, by `spec.rollout.paused` or by a request.
    Paused,
    /// Too few executions of the new version have closed to judge it; the rollout waits for more.
    Inconclusive,
    /// A gate workflow runs on the new version.
    GateRunning,
    /// The rollout was aborted by a request. The version that served before takes all new
    /// workflows.
    RolloutAborted,
    /// A gate workflow did not complete on the new version.
    GateFailed,
    /// The executions, workflow tasks or pods of the new version speak against it.
    AnalysisFailed,
    /// Somebody else changed the routing of the Worker Deployment while it was being rolled out.
    RoutingChanged,
    /// A request brought an earlier version back. It serves until the spec changes or a request
    /// asks for the spec's version again.
    Undone,
    /// The spec cannot be carried out as it stands; the message says which field is wrong.
    InvalidSpec,
    /// A quota of the namespace, or a limit of Temporal, does not admit what is needed.
    QuotaExceeded,
    /// The operator lacks a permission, or an admission policy refuses what is needed.
    Forbidden,
    /// An object that the Process needs does not exist.
    NotFound,
    /// Someone else changed the same object at the same time; it is tried again.
    Conflict,
    /// The API server or Temporal asks for fewer requests; it is tried again later.
    RateLimited,
    /// The API server does not answer; it is tried again.
    Unavailable,
    /// Temporal does not answer. Running workers are left alone.
    TemporalUnavailable,
    /// Temporal answers.
    TemporalReachable,
    /// `spec.suspend` is true: the operator observes and does not act.
    Suspended,
    /// The Process is being deleted.
    Deleting,
    /// Retired versions still run workflows.
    DrainingVersions,
    /// No retired version is kept.
    NothingDraining,
    /// `spec.definitionRef` is passed on to the workers as it is; the operator does not read it.
    OpaqueReference,
    /// The definition that `spec.definitionRef.configMapRef` or `registry` names was found; the workers read a
    /// copy.
    DefinitionFound,
    /// The ConfigMap that `spec.definitionRef.configMapRef` names does not exist, or the registry has no such
    /// definition. Without one nothing new is deployed; what runs goes on with its own copy.
    DefinitionNotFound,
    /// The registry that `spec.definitionRef.registry` names is being asked for the first time.
    DefinitionPending,
    /// The registry gave an answer that no definition can be made of, or the ConfigMap is empty; the message
    /// says which. What was fetched before is used meanwhile.
    DefinitionUnusable,
    /// The operator was started without `--definition-registry` for the host that
    /// `spec.definitionRef.registry.url` names. Nothing is fetched and nothing new is deployed; what runs goes
    /// on with its own copy.
    RegistryNotAllowed,
    /// The registry of the definition does not let the operator in. What was fetched before is used meanwhile.
    RegistryRefused,
    /// The registry of the definition does not answer; it is asked again. What was fetched before is used
    /// meanwhile, and running workers are left alone.
    RegistryUnavailable,
    /// `spec.dependencies` names no Domain and no Agent.
    NoDependencies,
    /// Every Domain and Agent of `spec.dependencies` exists and is Ready.
    DependenciesReady,
    /// A Domain or an Agent of `spec.dependencies` does not exist or is not Ready; the message names it.
    /// The first version waits for it, running workers do not.
    DependencyNotReady,
    /// The image is named by a tag that is expected to move; a digest is safer, since two pods of one
    /// version then run the same code and no open workflow is replayed by other code than its own.
    TagMayMove,
    /// The operator made a mistake; its log and the workflow in the Temporal UI say more.
    InternalError,
    /// A reason that this version of the operator does not know, written by a newer one.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The reason as it is written in a condition.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What the reason means, one sentence or two for users.
    pub fn meaning(self) -> &'static str {
        self.get_documentation().unwrap_or_default().trim()
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn every_reason_is_one_pascal_case_word_with_a_meaning() {
        for reason in Reason::iter() {
            let text = reason.as_str();
            assert!(text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
            assert!(reason.meaning().ends_with('.'), "{text} has no meaning");
            assert_eq!(text.parse(), Ok(reason));
        }
    }

    #[test]
    fn a_reason_of_a_newer_operator_can_be_read() {
        let reason: Reason = serde_json::from_str(r#""NotInventedYet""#).expect("any string");
        assert_eq!(reason, Reason::Unknown);
    }
}
