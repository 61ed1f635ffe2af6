//! As much of a Temporal frontend and its client as the proxy can see: gRPC frames over plaintext
//! HTTP/2, trailers, long polls and a stream in both directions.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use process_operator_faultproxy::{TemporalProxy, TemporalProxyConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SOON;

pub(crate) const SERVICE: &str = "/temporal.api.workflowservice.v1.WorkflowService";

type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) struct Frontend {
    addr: SocketAddr,
    calls: Arc<Mutex<Vec<(String, Bytes)>>>,
    /// Lets long polls return.
    pub(crate) task: Arc<Notify>,
    /// Polls whose client went away before they returned.
    pub(crate) abandoned: Arc<Notify>,
    running: Option<DropGuard>,
}

impl Frontend {
    pub(crate) async fn start() -> Self {
        let mut frontend = Self {
            addr: ([127, 0, 0, 1], 0).into(),
            calls: Arc::default(),
            task: Arc::default(),
            abandoned: Arc::default(),
            running: None,
        };
        frontend.restart().await;
        frontend
    }

    /// Ends all connections and listens again.
    pub(crate) async fn restart(&mut self) {
        self.running = None;
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        while socket.bind(self.addr).is_err() {
            tokio::task::yield_now().await;
        }
        let listener = socket.listen(16).unwrap();
        self.addr = listener.local_addr().unwrap();
        let running = CancellationToken::new();
        self.running = Some(running.clone().drop_guard());
        let serve = Arc::new(Serve {
            calls: Arc::clone(&self.calls),
            task: Arc::clone(&self.task),
            abandoned: Arc::clone(&self.abandoned),
        });
        tokio::spawn(accept(listener, serve, running));
    }

    pub(crate) async fn proxy(&self) -> TemporalProxy {
        TemporalProxy::start(TemporalProxyConfig::new(&self.addr.to_string()))
            .await
            .unwrap()
    }

    /// The calls that reached the server as `Method message`.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|(m, message)| format!("{m} {}", String::from_utf8_lossy(message)))
            .collect()
    }
}

async fn accept(listener: TcpListener, serve: Arc<Serve>, running: CancellationToken) {
    while let Some(Ok((stream, _))) = running.run_until_cancelled(listener.accept()).await {
        let serve = Arc::clone(&serve);
        tokio::spawn(running.clone().run_until_cancelled_owned(async move {
            let service = hyper::service::service_fn(|request| Arc::clone(&serve).call(request));
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }));
    }
}

struct Serve {
    calls: Arc<Mutex<Vec<(String, Bytes)>>>,
    task: Arc<Notify>,
    abandoned: Arc<Notify>,
}

/// Tells if it is dropped before the end.
struct Abandoned<'a>(Option<&'a Notify>);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(notify) = self.0 {
            notify.notify_one();
        }
    }
}

impl Serve {
    async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        assert_eq!(request.headers()["te"], "trailers");
        if method == "Echo" {
            // Each frame goes back when it comes, then the trailers.
            let back = BodyStream::new(request.into_body())
                .filter_map(async |frame| frame.ok().map(Ok))
                .chain(futures::stream::iter([Ok(Frame::trailers(status(0)))]));
            return Ok(response(StreamBody::new(back).boxed_unsync()));
        }
        let Ok(body) = request.into_body().collect().await else {
            return Ok(response(Full::default().boxed_unsync()));
        };
        let body = body.to_bytes();
        self.calls
            .lock()
            .unwrap()
            .push((method.clone(), body.slice(5..)));
        match method.as_str() {
            "PollWorkflowTaskQueue" => {
                let mut abandoned = Abandoned(Some(&self.abandoned));
                self.task.notified().await;
                abandoned.0 = None;
            }
            "DescribeNamespace" => {
                let mut answer = response(Full::default().boxed_unsync());
                answer.headers_mut().extend(status(5));
                return Ok(answer);
            }
            _ => {}
        }
        let trailers = async { Some(Ok(status(0))) };
        Ok(response(
            Full::new(body).with_trailers(trailers).boxed_unsync(),
        ))
    }
}

fn response(body: Body) -> Response<Body> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

fn status(code: u16) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    trailers.insert("x-trailer", "kept".parse().unwrap());
    trailers
}

pub(crate) fn framed(message: &str) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(message.as_bytes());
    body.freeze()
}

/// One connection. Many calls share it.
#[derive(Clone)]
pub(crate) struct GrpcClient {
    sender: SendRequest<Body>,
}

/// What a call came to: status, message, and the headers and trailers together.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) fields: HeaderMap,
}

impl GrpcClient {
    pub(crate) async fn connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the connection is over.
    pub(crate) async fn closed(&mut self) {
        while self.sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    async fn open(&self, path: &str, body: Body) -> Result<Response<Incoming>, hyper::Error> {
        let request = Request::builder()
            .method("POST")
            .uri(format!("http://temporal{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        self.sender.clone().send_request(request).await
    }

    /// A call with one message each way. An error means that no complete answer came.
    pub(crate) async fn call(&self, method: &str, message: &str) -> Result<Called, hyper::Error> {
        let call = async {
            let body = Full::new(framed(message)).boxed_unsync();
            let (head, body) = self
                .open(&format!("{SERVICE}/{method}"), body)
                .await?
                .into_parts();
            let body = body.collect().await?;
            let mut fields = head.headers;
            fields.extend(body.trailers().cloned().unwrap_or_default());
            let message = body.to_bytes();
            let message = message.get(5..).unwrap_or_default();
            Ok(Called {
                status: fields["grpc-status"].to_str().unwrap().parse().unwrap(),
                message: String::from_utf8_lossy(message).into_owned(),
                fields,
            })
        };
        tokio::time::timeout(SOON, call)
            .await
            .expect("an answer or an error in time")
    }

    /// A stream in both directions: what goes in, and what comes back.
    pub(crate) async fn echo(&self) -> (mpsc::UnboundedSender<Bytes>, Incoming) {
        let (input, frames) = mpsc::unbounded_channel();
        let frames =
            futures::stream::unfold(frames, |mut frames: mpsc::UnboundedReceiver<Bytes>| async {
                let bytes = frames.recv().await?;
                Some((Ok(Frame::data(bytes)), frames))
            });
        let body = StreamBody::new(frames).boxed_unsync();
        let opened = tokio::time::timeout(SOON, self.open("/test.Streams/Echo", body)).await;
        let response = opened.expect("an answer in time").unwrap();
        (input, response.into_body())
    }
}
