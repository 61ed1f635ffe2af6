//! What can be done to one request, the same for both proxies.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use hyper::Response;
use tokio_util::sync::CancellationToken;

use crate::body::{Body, trickled, truncated};
use crate::front::Conn;
use crate::journal::{Outcome, Ticket};
use crate::rules::Applied;

/// What a rule does, with `A` as the protocol's way of answering.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action<A> {
    /// Forward as if there were no rule: an exception from a rule installed later.
    Pass,
    /// Run the hook, never forward, drop the connection.
    KillBefore(Hook),
    /// Forward, wait until the server has answered in full, run the hook, drop the connection
    /// without giving the answer.
    KillAfter(Hook),
    /// Never forward; answer this.
    Answer(A),
    /// Forward, wait until the server has answered, then answer this instead.
    AnswerAfter(A),
    /// Never forward; reset the connection (TCP RST), with all that share it.
    Reset,
    /// Never forward; end this request without an answer. With gRPC the stream is reset and
    /// others on the connection go on, with HTTP/1.1 the connection is closed.
    Abort,
    /// Never forward and say nothing until the time is over or the rule removed, then abort.
    Hang(Option<Duration>),
    /// Forward when the time is over or the rule removed, if the client is still there.
    Delay(Duration),
    /// Forward now; give the answer when the time is over or the rule removed.
    DelayAnswer(Duration),
    /// Forward; give the head of the answer at once and its body bit by bit over the time. Not for watches,
    /// whose bodies have no end.
    Trickle(Duration),
    /// Forward; cut the connection after this many bytes of the answer's body.
    CutAfter(usize),
    /// Forward twice, one after the other; give the second answer.
    Duplicate,
}

impl<A> Action<A> {
    /// [`Action::KillBefore`] with a plain closure.
    pub fn kill_before(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self::KillBefore(Hook::new(hook))
    }

    /// [`Action::KillAfter`] with a plain closure.
    pub fn kill_after(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self::KillAfter(Hook::new(hook))
    }

    /// The server does the work and answers, but the answer is lost and the connection with it.
    pub fn lose_answer() -> Self {
        Self::KillAfter(Hook::new(|| ()))
    }
}

/// Something the test wants done at an exact point, such as killing the operator.
#[derive(Clone)]
pub struct Hook(Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>);

impl Hook {
    /// A closure that does not block.
    pub fn new(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || {
            hook();
            std::future::ready(()).boxed()
        }))
    }

    /// A closure with something to await, e.g. until the killed process is gone.
    pub fn future<F>(hook: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move || hook().boxed()))
    }

    async fn run(&self) {
        (self.0)().await;
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// No answer: the request ends without one.
#[derive(Debug)]
pub(crate) struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("aborted by a rule")
    }
}

impl std::error::Error for Aborted {}

/// Why the server gave no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// It ended this one request.
    Request,
    /// It could not be reached, or went away.
    Server,
}

pub(crate) type Reply = Result<Response<Body>, Aborted>;

/// One request in the proxy's hands.
pub(crate) trait Exchange: Send + Sized + 'static {
    type Request: fmt::Debug + Send + Sync + 'static;
    type Answer: Clone + fmt::Debug + Send + Sync + 'static;

    /// Forwards; the answer's body may still be coming in.
    fn forward(&mut self) -> impl Future<Output = Result<Response<Body>, Lost>> + Send;

    /// Forwards and waits until the answer is complete, as far as it ever will be. Gives its code.
    fn commit(&mut self) -> impl Future<Output = Result<(Response<Body>, u16), Lost>> + Send;

    /// Passes an answer on, saying what it was.
    fn pass_on(&self, answer: Response<Body>, ticket: Ticket<Self::Request>) -> Response<Body>;

    /// Makes an answer of the proxy's own.
    fn inject(&self, answer: &Self::Answer) -> (Response<Body>, u16);
}

/// Carries out what was decided about a request.
#[allow(clippy::too_many_lines, reason = "one arm for each action")]
pub(crate) async fn carry_out<X: Exchange>(
    mut exchange: X,
    decided: Option<Applied<Action<X::Answer>>>,
    conn: &Conn,
    ticket: Ticket<X::Request>,
) -> Reply {
    let Some(Applied {
        id,
        action,
        removed,
        done,
    }) = decided
    else {
        return forward(exchange, conn, ticket).await;
    };
    ticket.ruled(id);
    match action {
        Action::Pass => forward(exchange, conn, ticket).await,
        Action::KillBefore(hook) => {
            ticket.finish(Outcome::Dropped);
            // The killed client closes its connection, which must not end the hook half-way.
            conn.detached(async move {
                hook.run().await;
                drop(done);
            })
            .await;
            conn.cut().await
        }
        Action::KillAfter(hook) => {
            conn.detached(async move {
                ticket.finish(match exchange.commit().await {
                    Ok((_, code)) => Outcome::Withheld(code),
                    Err(_) => Outcome::Unreachable,
                });
                hook.run().await;
                drop(done);
            })
            .await;
            conn.cut().await
        }
        Action::Answer(answer) => {
            let (response, code) = exchange.inject(&answer);
            ticket.finish(Outcome::Injected(code));
            Ok(response)
        }
        Action::AnswerAfter(answer) => {
            let work = async move {
                let done = exchange.commit().await.map(|(_, upstream)| {
                    let (response, given) = exchange.inject(&answer);
                    ticket.finish(Outcome::Replaced { upstream, given });
                    response
                });
                done.map_err(|lost| (lost, ticket))
            };
            reply(conn.detached(work).await, conn).await
        }
        Action::Reset => {
            ticket.finish(Outcome::Dropped);
            conn.reset().await
        }
        Action::Abort => {
            ticket.finish(Outcome::Dropped);
            Err(Aborted)
        }
        Action::Hang(limit) => {
            pause(limit, &removed).await;
            ticket.finish(Outcome::Dropped);
            Err(Aborted)
        }
        Action::Delay(time) => {
            pause(Some(time), &removed).await;
            forward(exchange, conn, ticket).await
        }
        Action::DelayAnswer(time) => {
            let work = async move {
                match exchange.commit().await {
                    Ok((response, _)) => {
                        pause(Some(time), &removed).await;
                        Ok(exchange.pass_on(response, ticket))
                    }
                    Err(lost) => Err((lost, ticket)),
                }
            };
            reply(conn.detached(work).await, conn).await
        }
        Action::Trickle(time) => {
            let response = forward(exchange, conn, ticket).await?;
            Ok(response.map(|body| trickled(body, time)))
        }
        Action::CutAfter(n) => {
            let response = forward(exchange, conn, ticket).await?;
            Ok(response.map(|body| truncated(body, n, conn.clone())))
        }
        Action::Duplicate => {
            let work = async move {
                let twice = match exchange.commit().await {
                    Ok(_) => exchange.commit().await,
                    Err(lost) => Err(lost),
                };
                match twice {
                    Ok((response, _)) => Ok(exchange.pass_on(response, ticket)),
                    Err(lost) => Err((lost, ticket)),
                }
            };
            reply(conn.detached(work).await, conn).await
        }
    }
}

async fn forward<X: Exchange>(mut exchange: X, conn: &Conn, ticket: Ticket<X::Request>) -> Reply {
    let result = match exchange.forward().await {
        Ok(response) => Ok(exchange.pass_on(response, ticket)),
        Err(lost) => Err((lost, ticket)),
    };
    reply(Some(result), conn).await
}

/// An answer to pass on, or why there is none with the duty to say so.
type Done<Q> = Result<Response<Body>, (Lost, Ticket<Q>)>;

/// A server that is not there says nothing, so the proxy makes up no answer in its name.
async fn reply<Q>(done: Option<Done<Q>>, conn: &Conn) -> Reply
where
    Q: fmt::Debug + Send + Sync + 'static,
{
    match done {
        Some(Ok(response)) => Ok(response),
        Some(Err((Lost::Request, ticket))) => {
            ticket.finish(Outcome::Unreachable);
            Err(Aborted)
        }
        Some(Err((Lost::Server, ticket))) => {
            ticket.finish(Outcome::Unreachable);
            conn.cut().await
        }
        // The proxy is being stopped.
        None => conn.cut().await,
    }
}

async fn pause(limit: Option<Duration>, removed: &CancellationToken) {
    match limit {
        Some(limit) => drop(tokio::time::timeout(limit, removed.cancelled()).await),
        None => removed.cancelled().await,
    }
}
