//! One remote call, from its arrival to its status.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::http::request::Parts;
use hyper::{Request, Response, Uri};

use crate::action::{Exchange, Lost, Reply, carry_out};
use crate::body::{Body, BoxError, boxed, full};
use crate::front::Conn;
use crate::journal::{Outcome, Ticket};
use crate::proxy::Core;
use crate::temporal::rpc::{GrpcCode, GrpcError, Rpc, grpc_status};
use crate::temporal::{Frontend, Temporal};

/// What the whole workflow service consists of: one message each way. Its requests are read
/// before they are forwarded, so that rules can look into them.
const UNARY: &str = "/temporal.api.";

pub(crate) async fn serve_rpc(
    frontend: Arc<Frontend>,
    core: Arc<Core<Temporal>>,
    conn: Conn,
    request: Request<Incoming>,
) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let (message, body) = if path.starts_with(UNARY) {
        match body.collect().await {
            Ok(body) => {
                let bytes = body.to_bytes();
                (bytes.clone(), Payload::Known(bytes))
            }
            Err(_) => return Err(crate::action::Aborted),
        }
    } else {
        (Bytes::new(), Payload::Streaming(Some(body)))
    };
    let rpc = Arc::new(Rpc::new(path, &parts.headers, &message));
    let ticket = core.journal.open(Arc::clone(&rpc));
    let decided = core.rules.decide(&rpc);
    carry_out(
        RpcExchange {
            frontend,
            parts,
            body,
        },
        decided,
        &conn,
        ticket,
    )
    .await
}

enum Payload {
    Known(Bytes),
    /// Can be forwarded once.
    Streaming(Option<Incoming>),
}

struct RpcExchange {
    frontend: Arc<Frontend>,
    parts: Parts,
    body: Payload,
}

impl RpcExchange {
    fn request(&mut self) -> Result<Request<Body>, Lost> {
        let body = match &mut self.body {
            Payload::Known(bytes) => full(bytes.clone()),
            Payload::Streaming(body) => boxed(body.take().ok_or(Lost::Request)?),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.headers_mut() = self.parts.headers.clone();
        let mut uri = std::mem::take(&mut self.parts.uri).into_parts();
        uri.scheme = Some(hyper::http::uri::Scheme::HTTP);
        uri.authority = self.frontend.address.parse().ok().or(uri.authority);
        self.parts.uri = Uri::from_parts(uri).map_err(|_| Lost::Request)?;
        *request.uri_mut() = self.parts.uri.clone();
        Ok(request)
    }
}

impl Exchange for RpcExchange {
    type Request = Rpc;
    type Answer = GrpcError;

    async fn forward(&mut self) -> Result<Response<Body>, Lost> {
        let request = self.request()?;
        let mut sender = self.frontend.sender().await.map_err(|_| Lost::Server)?;
        sender.ready().await.map_err(|_| Lost::Server)?;
        match sender.send_request(request).await {
            Ok(response) => Ok(response.map(boxed)),
            Err(_) if self.frontend.is_lost().await => Err(Lost::Server),
            Err(_) => Err(Lost::Request),
        }
    }

    async fn commit(&mut self) -> Result<(Response<Body>, u16), Lost> {
        let (head, body) = self.forward().await?.into_parts();
        let body = body.collect().await.map_err(|_| Lost::Request)?;
        let status = body.trailers().and_then(grpc_status);
        let code = status
            .or_else(|| grpc_status(&head.headers))
            .unwrap_or(UNKNOWN);
        Ok((Response::from_parts(head, boxed(body)), code))
    }

    fn pass_on(&self, answer: Response<Body>, ticket: Ticket<Rpc>) -> Response<Body> {
        if let Some(code) = grpc_status(answer.headers()) {
            ticket.finish(Outcome::Answered(code));
            return answer;
        }
        answer.map(|inner| boxed(Observed { inner, ticket }))
    }

    fn inject(&self, answer: &GrpcError) -> (Response<Body>, u16) {
        (answer.response(), answer.code())
    }
}

const UNKNOWN: u16 = GrpcCode::Unknown as u16;

/// A body whose trailers tell what became of the call.
struct Observed {
    inner: Body,
    ticket: Ticket<Rpc>,
}

impl hyper::body::Body for Observed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(grpc_status) {
                    self.ticket.finish(Outcome::Answered(status));
                }
            }
            Poll::Ready(Some(Err(_))) => self.ticket.finish(Outcome::Unreachable),
            // Over without a status, which gRPC clients take for an unknown error.
            Poll::Ready(None) => self.ticket.finish(Outcome::Answered(UNKNOWN)),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
