//! The one place where what goes wrong outside becomes a category.

use std::time::Duration;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::StepFailure;
use temporalio_client::tonic;
use temporalio_common::error::ApplicationFailure;
use temporalio_sdk::activities::ActivityError;

/// An error with its category.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Decides retry, condition, Event and metric.
    pub category: ErrorCategory,
    /// For people.
    pub message: String,
    /// Not to be tried again before so many seconds are over.
    pub retry_after_seconds: Option<u32>,
}

/// Result of an effect.
pub type Result<T> = std::result::Result<T, Fault>;

/// Longest time of one look or step. An API server that hangs is one that is away; the client
/// itself would wait for ever.
const LIMIT: Duration = Duration::from_secs(10);

/// Seconds: an API server that asks to be left alone for longer is asked all the same.
const LONGEST_WAIT: u32 = 120;

/// Gives an effect its time limit.
pub(crate) async fn within<T>(effect: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LIMIT, effect)
        .await
        .unwrap_or_else(|_| {
            Err(Fault::new(
                ErrorCategory::Unavailable,
                format!("the API server: no answer in {} s", LIMIT.as_secs()),
            ))
        })
}

impl Fault {
    /// A fault of a known category.
    pub fn new(category: ErrorCategory, message: impl Into<String>) -> Self {
        Self {
            category,
            message: message.into(),
            retry_after_seconds: None,
        }
    }

    /// The same fault, saying what was tried.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Fails an activity, with the category as type; the one place that decides whether Temporal
    /// tries again.
    pub fn fail(self) -> ActivityError {
        let retryable = self.category.retryable();
        let label = self.category.metric_label().to_owned();
        let wait = self.retry_after_seconds;
        ApplicationFailure::builder(self)
            .type_name(label)
            .non_retryable(!retryable)
            .maybe_next_retry_delay(wait.map(|seconds| Duration::from_secs(seconds.into())))
            .build()
            .into()
    }
}

impl From<Fault> for StepFailure {
    fn from(fault: Fault) -> Self {
        Self {
            category: fault.category,
            message: fault.message,
            retry_after_seconds: fault.retry_after_seconds,
        }
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            // Transport, TLS, time-out, a body that ended early: the API server is away.
            return Self::new(
                ErrorCategory::Unavailable,
                format!("the API server: {error}"),
            );
        };
        let category = match (status.code, status.reason.as_str()) {
            (403, _) if status.message.contains("exceeded quota") => ErrorCategory::QuotaExceeded,
            (401 | 403, _) => ErrorCategory::Forbidden,
            (404, _) => ErrorCategory::NotFound,
            (409, _) => ErrorCategory::Conflict,
            (400 | 422, _) => ErrorCategory::InvalidSpec,
            (429, _) => ErrorCategory::RateLimited,
            _ => ErrorCategory::Unavailable,
        };
        Self {
            retry_after_seconds: status
                .details
                .as_ref()
                .map(|details| details.retry_after_seconds.min(LONGEST_WAIT))
                .filter(|seconds| *seconds > 0),
            ..Self::new(category, status.message.clone())
        }
    }
}

impl From<tonic::Status> for Fault {
    fn from(status: tonic::Status) -> Self {
        let category = match status.code() {
            tonic::Code::NotFound if is_namespace_not_found(&status) => {
                ErrorCategory::NamespaceNotFound
            }
            tonic::Code::NotFound => ErrorCategory::NotFound,
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
                ErrorCategory::Forbidden
            }
            tonic::Code::ResourceExhausted => ErrorCategory::RateLimited,
            tonic::Code::FailedPrecondition | tonic::Code::Aborted | tonic::Code::AlreadyExists => {
                ErrorCategory::Conflict
            }
            tonic::Code::InvalidArgument => ErrorCategory::InvalidSpec,
            tonic::Code::Unimplemented => ErrorCategory::Internal,
            _ => ErrorCategory::TemporalUnavailable,
        };
        Self::new(category, format!("Temporal: {}", status.message()))
    }
}

/// The server answers `NotFound` for a missing namespace and for a missing Worker Deployment; the
/// type of the failure in the details tells them apart.
fn is_namespace_not_found(status: &tonic::Status) -> bool {
    const TYPE: &[u8] = b"NamespaceNotFoundFailure";
    status
        .details()
        .windows(TYPE.len())
        .any(|window| window == TYPE)
}
