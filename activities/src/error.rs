//! The one place where what goes wrong outside becomes a category.

use std::time::Duration;

use process_operator_crds::ErrorCategory;
use process_operator_crds::conditions::truncate;
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
/// itself would wait for ever. Longer than the 10 s that an admission webhook has by default, so that
/// one that does not answer is told by its name.
const LIMIT: Duration = Duration::from_secs(12);

/// Bytes of a message that are kept: it goes into histories, again with each try, and a server may say a lot.
const WORDS: usize = 8 * 1024;

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
            message: truncate(&message.into(), WORDS).to_owned(),
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
        let category = match status.code {
            403 if status.message.contains("exceeded quota") => ErrorCategory::QuotaExceeded,
            401 | 403 => ErrorCategory::Forbidden,
            _ if refused_by_admission(&status.message) => ErrorCategory::Forbidden,
            404 => ErrorCategory::NotFound,
            409 => ErrorCategory::Conflict,
            400 | 422 => ErrorCategory::InvalidSpec,
            429 => ErrorCategory::RateLimited,
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

/// Policies answer with 422, webhooks with what they like and with 400 when they do not say, and a webhook
/// that does not answer makes it a 500: none of this is about the spec or about an API server that is away.
fn refused_by_admission(message: &str) -> bool {
    const WORDS: [&str; 3] = [
        "denied request: ",
        "denied the request",
        "failed calling webhook",
    ];
    WORDS.iter().any(|words| message.contains(words))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, message: &str) -> ErrorCategory {
        let status = kube::core::Status::failure(message, "Whatever").with_code(code);
        Fault::from(kube::Error::Api(Box::new(status))).category
    }

    #[test]
    fn a_refusal_at_admission_is_no_fault_of_the_spec_and_no_outage() {
        for (code, message) in [
            (
                422,
                "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied \
                 request: not today",
            ),
            (
                400,
                "admission webhook \"a.example\" denied the request without explanation",
            ),
            (
                500,
                "Internal error occurred: failed calling webhook \"a.example\": failed to call webhook: Post \
                 \"https://127.0.0.1:9/?timeout=2s\": context deadline exceeded",
            ),
        ] {
            assert_eq!(
                answered(code, message),
                ErrorCategory::Forbidden,
                "{message}"
            );
        }
    }

    #[test]
    fn other_answers_keep_their_meaning() {
        for (code, message, category) in [
            (403, "exceeded quota: few", ErrorCategory::QuotaExceeded),
            (403, "cannot patch", ErrorCategory::Forbidden),
            (
                422,
                "spec.selector: field is immutable",
                ErrorCategory::InvalidSpec,
            ),
            (
                500,
                "etcdserver: request timed out",
                ErrorCategory::Unavailable,
            ),
            (503, "", ErrorCategory::Unavailable),
        ] {
            assert_eq!(answered(code, message), category, "{message}");
        }
    }
}
