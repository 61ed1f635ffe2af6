//! One request to kube-apiserver, from its arrival to its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::action::{Exchange, Lost, Reply, carry_out};
use crate::body::{Body, boxed, full, pieces};
use crate::front::Conn;
use crate::journal::{Outcome, Ticket};
use crate::kube::Kube;
use crate::kube::answer::{Answer, stream_response};
use crate::kube::frozen::View;
use crate::kube::request::{KubeRequest, Verb};
use crate::kube::watch::{Over, Pump, WatchEnd};
use crate::proxy::Core;

pub(crate) async fn serve_request(
    kube: Arc<Kube>,
    core: Arc<Core<Kube>>,
    conn: Conn,
    request: Request<Incoming>,
) -> Reply {
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        // The client left in the middle of its own request.
        Err(_) => conn.cut().await,
    };
    kube.upstream.remember(&parts.headers);
    let request = Arc::new(KubeRequest::parse(&parts, body));
    let ticket = core.journal.open(Arc::clone(&request));
    let decided = core.rules.decide(&request);
    let exchange = KubeExchange {
        kube,
        request,
        parts: Arc::new(parts),
        conn: conn.clone(),
    };
    carry_out(exchange, decided, &conn, ticket).await
}

/// Marks an answer from a frozen view, which the server knows nothing of.
#[derive(Clone)]
struct Remembered;

struct KubeExchange {
    kube: Arc<Kube>,
    request: Arc<KubeRequest>,
    parts: Arc<Parts>,
    conn: Conn,
}

impl KubeExchange {
    fn accept(&self) -> &str {
        self.parts
            .headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    async fn send(&self, path: &str, body: Bytes) -> Result<Response<Incoming>, Lost> {
        self.kube
            .upstream
            .send(&self.parts.method, path, &self.parts.headers, body)
            .await
            .map_err(|_| Lost::Server)
    }

    fn pump(&self) -> (Pump, Body) {
        let closing = self.conn.closing.clone();
        let (pump, out) = Pump::new(
            &self.request,
            &self.kube.watches,
            &self.kube.freezer,
            &self.kube.rewriter,
            closing,
        );
        (pump, pieces(out, self.conn.clone()))
    }

    fn remembered(&self, view: &Arc<View>) -> Option<Response<Body>> {
        let mut response = match self.request.verb {
            Verb::Watch => self.silent_watch(view),
            _ => view.snapshot.answer(&self.request, self.accept())?,
        };
        response.extensions_mut().insert(Remembered);
        Some(response)
    }

    /// A watch that is opened while its resource is frozen: silent until the thaw, then it goes
    /// on from where the view stood.
    fn silent_watch(&self, view: &Arc<View>) -> Response<Body> {
        let (mut pump, body) = self.pump();
        for event in view.snapshot.initial_events(&self.request, self.accept()) {
            pump.say(&event, Instant::now());
        }
        let path = path_after_thaw(&self.request, &view.snapshot.version());
        let limit = self
            .request
            .param("timeoutSeconds")
            .and_then(|seconds| seconds.parse().ok());
        let exchange = self.again();
        tokio::spawn(async move {
            let frozen = Duration::from_secs(limit.unwrap_or(u64::from(u32::MAX)));
            let Ok(Ok(())) = tokio::time::timeout(frozen, pump.thawed()).await else {
                return Over;
            };
            match pump.unless_over(exchange.send(&path, Bytes::new())).await {
                Err(over) => over,
                Ok(Err(_)) => pump.end(WatchEnd::Cut),
                Ok(Ok(response)) if response.status() == 200 => pump
                    .run(boxed(response.into_body()))
                    .await
                    .err()
                    .unwrap_or(Over),
                Ok(Ok(refused)) => {
                    let body = refused.into_body().collect().await;
                    let body = body
                        .map(http_body_util::Collected::to_bytes)
                        .unwrap_or_default();
                    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
                    pump.say(&json!({"type": "ERROR", "object": status}), Instant::now());
                    Over
                }
            }
        });
        stream_response(200, body)
    }

    fn again(&self) -> Self {
        Self {
            kube: Arc::clone(&self.kube),
            request: Arc::clone(&self.request),
            parts: Arc::clone(&self.parts),
            conn: self.conn.clone(),
        }
    }
}

impl Exchange for KubeExchange {
    type Request = KubeRequest;
    type Answer = Answer;

    async fn forward(&mut self) -> Result<Response<Body>, Lost> {
        if let Some(view) = self.kube.freezer.view(&self.request)
            && let Some(response) = self.remembered(&view)
        {
            return Ok(response);
        }
        let path = self
            .parts
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let response = self.send(path, self.request.body.clone()).await?;
        let json = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let changed = json
            && response.status().is_success()
            && self.request.verb != Verb::Watch
            && self.kube.rewriter.concerns(&self.request);
        if changed {
            let (mut head, body) = response.into_parts();
            head.headers.remove(CONTENT_LENGTH);
            let body = body.collect().await.map_err(|_| Lost::Server)?.to_bytes();
            let body = self.kube.rewriter.answer(&self.request, body);
            return Ok(Response::from_parts(head, full(body)));
        }
        if self.request.verb != Verb::Watch || response.status() != 200 || !json {
            return Ok(response.map(boxed));
        }
        let (mut pump, body) = self.pump();
        let (mut head, upstream) = response.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        tokio::spawn(async move { pump.run(boxed(upstream)).await });
        Ok(Response::from_parts(head, body))
    }

    async fn commit(&mut self) -> Result<(Response<Body>, u16), Lost> {
        let response = self.forward().await?;
        let code = response.status().as_u16();
        if self.request.verb == Verb::Watch {
            // Its body has no end to wait for.
            return Ok((response, code));
        }
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Lost::Server)?;
        Ok((Response::from_parts(head, boxed(body)), code))
    }

    fn pass_on(&self, answer: Response<Body>, ticket: Ticket<KubeRequest>) -> Response<Body> {
        let code = answer.status().as_u16();
        ticket.finish(match answer.extensions().get::<Remembered>() {
            Some(_) => Outcome::Injected(code),
            None => Outcome::Answered(code),
        });
        answer
    }

    fn inject(&self, answer: &Answer) -> (Response<Body>, u16) {
        (answer.response(&self.request), answer.code())
    }
}

/// The path of a watch that goes on from where a frozen view stood.
fn path_after_thaw(request: &KubeRequest, version: &str) -> String {
    let from = match request.param("resourceVersion") {
        None | Some("" | "0") => version,
        Some(_) if request.param("sendInitialEvents") == Some("true") => version,
        Some(own) => own,
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in &request.query {
        if !matches!(
            key.as_str(),
            "resourceVersion" | "resourceVersionMatch" | "sendInitialEvents"
        ) {
            query.append_pair(key, value);
        }
    }
    query.append_pair("resourceVersion", from);
    format!("{}?{}", request.path, query.finish())
}
