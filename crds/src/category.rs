//! Kinds of errors.
//!
//! An error is sorted into a category once, where it happens. What follows from the category
//! (whether to try again, what the condition, the Event and the metric say) is decided here and
//! nowhere else.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

use crate::Reason;

/// The kind of an error.
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
    EnumString,
    IntoStaticStr,
)]
#[non_exhaustive]
pub enum ErrorCategory {
    /// The spec cannot be carried out as it stands.
    InvalidSpec,
    /// The Temporal namespace of the Process does not exist.
    NamespaceNotFound,
    /// An older Process serves the same task queue.
    TaskQueueConflict,
    /// Someone else manages the Worker Deployment in Temporal.
    DeploymentOwnedElsewhere,
    /// The workers poll without their build id.
    WorkerNotVersioned,
    /// A quota of Kubernetes or a limit of Temporal was hit.
    QuotaExceeded,
    /// RBAC or an admission policy refused the request.
    Forbidden,
    /// An object does not exist.
    NotFound,
    /// An object was changed by someone else in between.
    Conflict,
    /// Too many requests.
    RateLimited,
    /// The Kubernetes API server does not answer, or answers with a 5xx status.
    Unavailable,
    /// Temporal does not answer.
    TemporalUnavailable,
    /// A version did not become ready in time.
    ProgressDeadlineExceeded,
    /// A gate workflow did not complete on a new version.
    GateFailed,
    /// The evidence speaks against a new version.
    AnalysisFailed,
    /// Somebody else changed the routing during a rollout.
    RoutingChanged,
    /// A person aborted a rollout.
    RolloutAborted,
    /// Anything else: a bug, or an answer that was not understood. Also stands for a category of
    /// a newer operator, so that two versions of the operator can share a task queue.
    #[serde(other)]
    Internal,
}

impl ErrorCategory {
    /// The category as it is written in logs and in details of Temporal failures.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the same request can succeed without anybody changing the Process.
    ///
    /// `false` ends an activity's retries: the lifecycle then waits for a change of the Process or
    /// of what it depends on. Quotas, permissions and missing objects count as retryable, since
    /// they are put right elsewhere and nothing tells the operator when.
    pub fn retryable(self) -> bool {
        match self {
            Self::InvalidSpec
            | Self::TaskQueueConflict
            | Self::DeploymentOwnedElsewhere
            | Self::WorkerNotVersioned
            | Self::ProgressDeadlineExceeded
            | Self::GateFailed
            | Self::AnalysisFailed
            | Self::RoutingChanged
            | Self::RolloutAborted => false,
            Self::NamespaceNotFound
            | Self::QuotaExceeded
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict
            | Self::RateLimited
            | Self::Unavailable
            | Self::TemporalUnavailable
            | Self::Internal => true,
        }
    }

    /// Whether the user of the Process must change something: the spec, the image, or what the
    /// Process depends on. `false` means that the cluster, Temporal or the operator is at fault.
    pub fn user_fault(self) -> bool {
        match self {
            Self::InvalidSpec
            | Self::NamespaceNotFound
            | Self::TaskQueueConflict
            | Self::DeploymentOwnedElsewhere
            | Self::WorkerNotVersioned
            | Self::QuotaExceeded
            | Self::Forbidden
            | Self::NotFound
            | Self::ProgressDeadlineExceeded
            | Self::GateFailed
            | Self::AnalysisFailed
            | Self::RoutingChanged
            | Self::RolloutAborted => true,
            Self::Conflict
            | Self::RateLimited
            | Self::Unavailable
            | Self::TemporalUnavailable
            | Self::Internal => false,
        }
    }

    /// Reason of the conditions that tell of the error.
    pub fn reason(self) -> Reason {
        match self {
            Self::InvalidSpec => Reason::InvalidSpec,
            Self::NamespaceNotFound => Reason::NamespaceNotFound,
            Self::TaskQueueConflict => Reason::TaskQueueConflict,
            Self::DeploymentOwnedElsewhere => Reason::DeploymentOwnedElsewhere,
            Self::WorkerNotVersioned => Reason::WorkerNotVersioned,
            Self::QuotaExceeded => Reason::QuotaExceeded,
            Self::Forbidden => Reason::Forbidden,
            Self::NotFound => Reason::NotFound,
            Self::Conflict => Reason::Conflict,
            Self::RateLimited => Reason::RateLimited,
            Self::Unavailable => Reason::Unavailable,
            Self::TemporalUnavailable => Reason::TemporalUnavailable,
            Self::ProgressDeadlineExceeded => Reason::ProgressDeadlineExceeded,
            Self::GateFailed => Reason::GateFailed,
            Self::AnalysisFailed => Reason::AnalysisFailed,
            Self::RoutingChanged => Reason::RoutingChanged,
            Self::RolloutAborted => Reason::RolloutAborted,
            Self::Internal => Reason::InternalError,
        }
    }

    /// Reason of the Warning Event that tells of the error: the same word as in the conditions,
    /// so that one search finds both.
    pub fn event_reason(self) -> &'static str {
        self.reason().as_str()
    }

    /// Value of the label `category` of the error counter: `snake_case`, a closed set.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::InvalidSpec => "invalid_spec",
            Self::NamespaceNotFound => "namespace_not_found",
            Self::TaskQueueConflict => "task_queue_conflict",
            Self::DeploymentOwnedElsewhere => "deployment_owned_elsewhere",
            Self::WorkerNotVersioned => "worker_not_versioned",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::TemporalUnavailable => "temporal_unavailable",
            Self::ProgressDeadlineExceeded => "progress_deadline_exceeded",
            Self::GateFailed => "gate_failed",
            Self::AnalysisFailed => "analysis_failed",
            Self::RoutingChanged => "routing_changed",
            Self::RolloutAborted => "rollout_aborted",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn metric_labels_and_reasons_tell_categories_apart() {
        let count = ErrorCategory::iter().count();
        let labels: BTreeSet<_> = ErrorCategory::iter()
            .map(ErrorCategory::metric_label)
            .collect();
        let reasons: BTreeSet<_> = ErrorCategory::iter().map(ErrorCategory::reason).collect();
        assert_eq!((labels.len(), reasons.len()), (count, count));
        assert!(
            labels
                .iter()
                .all(|l| l.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        );
    }

    #[test]
    fn what_only_the_user_can_change_is_not_the_operators_fault() {
        for category in ErrorCategory::iter().filter(|c| !c.retryable()) {
            assert!(
                category.user_fault(),
                "{category} can neither be retried nor put right"
            );
        }
    }

    #[test]
    fn survives_a_round_trip_and_a_newer_operator() {
        for category in ErrorCategory::iter() {
            let json = serde_json::to_string(&category).expect("unit variant");
            assert_eq!(json, format!("\"{}\"", category.as_str()));
            assert_eq!(
                serde_json::from_str::<ErrorCategory>(&json).expect("same"),
                category
            );
        }
        let newer: ErrorCategory = serde_json::from_str(r#""NotInventedYet""#).expect("any string");
        assert_eq!(newer, ErrorCategory::Internal);
    }
}
