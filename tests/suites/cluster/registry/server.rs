//! A registry of definitions.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::serve::Listener;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Response, StatusCode, header};
use process_operator_harness::until;
use serde_json::{Value, json};

use super::{SOON, TOKEN};

/// What the registry does next.
#[derive(Debug, Clone)]
pub(super) enum Mood {
    Serves,
    Fails(StatusCode),
    Redirects(String),
    SendsTooMuch,
    /// The head of an answer and a part of its body, and then nothing more.
    Hangs,
}

#[derive(Debug)]
struct Inner {
    mood: Mood,
    text: String,
    version: i64,
    /// What was asked last.
    asked: Value,
}

/// A registry that counts.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    inner: Arc<Mutex<Inner>>,
    requests: Arc<AtomicUsize>,
    unchanged: Arc<AtomicUsize>,
    /// Scheme, address and port.
    host: String,
}

impl Registry {
    pub(super) async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let host = format!("http://{}", listener.local_addr()?);
        Ok(Self::on(listener, host))
    }

    /// Answers on a listener, under this name.
    pub(super) fn on<L: Listener<Addr: std::fmt::Debug>>(listener: L, host: String) -> Self {
        let registry = Self {
            inner: Arc::new(Mutex::new(Inner {
                mood: Mood::Fails(StatusCode::SERVICE_UNAVAILABLE),
                text: "<first/>".into(),
                version: 3,
                asked: Value::Null,
            })),
            requests: Arc::default(),
            unchanged: Arc::default(),
            host,
        };
        let routes = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        registry
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    pub(super) fn publish(&self, version: i64, text: &str) {
        let mut inner = self.lock();
        inner.version = version;
        text.clone_into(&mut inner.text);
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(super) fn unchanged(&self) -> usize {
        self.unchanged.load(Ordering::SeqCst)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.host)
    }

    /// What the operator is to be allowed.
    pub(super) fn host(&self) -> String {
        self.host.clone()
    }

    /// What was asked last.
    pub(super) fn asked(&self) -> Value {
        self.lock().asked.clone()
    }

    /// Waits until it was asked once more than now.
    pub(super) async fn asked_again(&self) -> Result<()> {
        let before = self.requests();
        until("the registry is asked again", SOON, async || {
            ensure!(self.requests() > before, "not yet");
            Ok(())
        })
        .await
    }
}

/// Lets in who has the token. `/rpc/` speaks Connect, everything else is the definition.
async fn answer(
    State(registry): State<Registry>,
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    registry.requests.fetch_add(1, Ordering::SeqCst);
    let said = |name: header::HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
    let with = |status: StatusCode, body: String| {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response
    };
    let connect = uri.path().starts_with("/rpc/");
    if said(header::AUTHORIZATION) != Some(&format!("Bearer {TOKEN}")) {
        return with(StatusCode::UNAUTHORIZED, String::new());
    }
    let mut inner = registry.lock();
    match inner.mood.clone() {
        Mood::Serves => {}
        Mood::Fails(status) if connect => {
            // One that repeats what it was shown.
            let error = json!({ "code": "not_found", "message": format!("none for {TOKEN}") });
            return with(status, error.to_string());
        }
        Mood::Fails(status) => return with(status, String::new()),
        Mood::Redirects(to) => {
            let mut response = with(StatusCode::FOUND, String::new());
            if let Ok(to) = to.parse() {
                response.headers_mut().insert(header::LOCATION, to);
            }
            return response;
        }
        Mood::SendsTooMuch => return with(StatusCode::OK, "x".repeat(1_100_000)),
        Mood::Hangs => {
            let begins = futures::stream::once(async { Ok::<_, Infallible>("<firs") });
            let body = Body::from_stream(begins.chain(futures::stream::pending()));
            return Response::new(body);
        }
    }
    let etag = format!("\"{}-{}\"", inner.version, inner.text.len());
    if said(header::IF_NONE_MATCH) == Some(&etag) {
        registry.unchanged.fetch_add(1, Ordering::SeqCst);
        return with(StatusCode::NOT_MODIFIED, String::new());
    }
    let (text, version) = (inner.text.clone(), inner.version);
    let mut response = if connect {
        inner.asked = serde_json::from_slice(&body).unwrap_or_default();
        if method != Method::POST || !headers.contains_key("connect-protocol-version") {
            return with(StatusCode::UNSUPPORTED_MEDIA_TYPE, String::new());
        }
        let message = json!({
            "content": text, "fileName": "l2o.bpmn", "version": version.to_string(),
        });
        with(StatusCode::OK, message.to_string())
    } else {
        with(StatusCode::OK, text)
    };
    let headers = response.headers_mut();
    let content_type = if connect {
        "application/json"
    } else {
        "application/bpmn+xml"
    };
    for (name, value) in [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::ETAG, etag),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"l2o.bpmn\"".to_owned(),
        ),
        (
            header::HeaderName::from_static("definition-version"),
            version.to_string(),
        ),
    ] {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    response
}
