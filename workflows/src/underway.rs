//! What a workflow has under way: at most one of a kind, stopped when something else is wanted.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use temporalio_workflow::WorkflowCancellationToken;

/// A place for one piece of work.
pub(crate) struct UnderWay<T, E> {
    running: Option<Running<T, E>>,
}

struct Running<T, E> {
    what: T,
    token: WorkflowCancellationToken,
    event: LocalBoxFuture<'static, E>,
}

impl<T, E> Default for UnderWay<T, E> {
    fn default() -> Self {
        Self { running: None }
    }
}

impl<T: PartialEq, E> UnderWay<T, E> {
    /// Goes on with what is wanted still; otherwise stops what is not, and starts what is new, which
    /// ends when the token is cancelled.
    pub(crate) fn turn_to(
        &mut self,
        wanted: Option<T>,
        token: impl FnOnce(&T) -> WorkflowCancellationToken,
        start: impl FnOnce(&T, WorkflowCancellationToken) -> LocalBoxFuture<'static, E>,
    ) {
        if self.running.as_ref().map(|running| &running.what) == wanted.as_ref() {
            return;
        }
        self.stop();
        self.running = wanted.map(|what| {
            let token = token(&what);
            Running {
                event: start(&what, token.clone()),
                what,
                token,
            }
        });
    }

    /// Tells it to stop; nobody waits for it any more.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.token.cancel();
        }
    }

    /// Tells a piece of work of this kind to stop, and hands out its end to who waits for that.
    pub(crate) fn stopping(
        &mut self,
        kind: impl FnOnce(&T) -> bool,
    ) -> Option<LocalBoxFuture<'static, E>> {
        let running = self.running.take_if(|running| kind(&running.what))?;
        running.token.cancel();
        Some(running.event)
    }

    /// What it was and what it came to; pending while there is nothing. What has ended is not asked
    /// again, nor is there anything left to stop.
    pub(crate) async fn ended(&mut self) -> (T, E) {
        let event = match &mut self.running {
            Some(running) => (&mut running.event).await,
            None => std::future::pending().await,
        };
        match self.running.take() {
            Some(running) => (running.what, event),
            None => std::future::pending().await,
        }
    }
}

/// The first of two to end; the other one stays under way.
pub(crate) async fn first<T: PartialEq, U: PartialEq, E>(
    one: &mut UnderWay<T, E>,
    other: &mut UnderWay<U, E>,
) -> E {
    let mut one = std::pin::pin!(one.ended().fuse());
    let mut other = std::pin::pin!(other.ended().fuse());
    temporalio_workflow::workflows::select! {
        (_, event) = one => event,
        (_, event) = other => event,
    }
}
