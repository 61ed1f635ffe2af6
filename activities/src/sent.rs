//! Requests that are seen to their end when nobody asks for them any more: one that was sent and given up
//! may be carried out all the same, later.

use std::sync::Arc;

use process_operator_crds::ErrorCategory;
use tokio::sync::Mutex;
use tracing::Instrument as _;

use crate::error::{Fault, Result};

/// What one activity has sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    under_way: Arc<Mutex<()>>,
}

impl Sent {
    /// Makes a request that goes on without its caller.
    pub(crate) async fn through<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let under_way = self.under_way.clone().lock_owned().await;
        let request = async move {
            let _under_way = under_way;
            request.await
        };
        let made = tokio::spawn(request.in_current_span());
        made.await
            .unwrap_or_else(|error| Err(Fault::new(ErrorCategory::Internal, error.to_string())))
    }

    /// Returns when nothing is under way any more.
    pub(crate) async fn settled(&self) {
        let _none = self.under_way.lock().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_was_sent_is_seen_to_its_end_without_its_caller() {
        let sent = Sent::default();
        let (told, heard) = tokio::sync::oneshot::channel();
        let request = sent.through(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = told.send(());
            Ok(())
        });
        let given_up = tokio::time::timeout(Duration::from_millis(20), request).await;
        assert!(given_up.is_err());
        sent.settled().await;
        assert_eq!(heard.await, Ok(()));
    }

    #[tokio::test]
    async fn nothing_is_waited_for_when_nothing_was_sent() {
        Sent::default().settled().await;
    }
}
