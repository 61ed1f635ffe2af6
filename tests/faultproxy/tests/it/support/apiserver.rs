//! As much of a kube-apiserver as the proxy can see: objects of `apps/v1` deployments behind TLS,
//! with resource versions, lists, and watches that begin at any version.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    /// Every event with its version.
    events: Vec<(u64, Value)>,
    requests: Vec<(Method, String, HeaderMap)>,
    forbid_cluster_lists: bool,
}

pub(crate) struct ApiServer {
    addr: SocketAddr,
    ca_pem: String,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    _running: DropGuard,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let cert = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(cert.signing_key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let running = CancellationToken::new();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            ca_pem: cert.cert.pem(),
            state: Arc::default(),
            changed: watch::channel(0).0,
            _running: running.clone().drop_guard(),
        };
        let (state, changed) = (Arc::clone(&server.state), server.changed.clone());
        tokio::spawn(running.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, state, changed) =
                    (acceptor.clone(), Arc::clone(&state), changed.clone());
                tokio::spawn(running.clone().run_until_cancelled_owned(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(|request| {
                        serve(Arc::clone(&state), changed.clone(), request)
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                }));
            }
        }));
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Creates or changes a deployment behind the proxy's back, and gives its new version.
    pub(crate) fn put(&self, name: &str, generation: i64) -> u64 {
        let object =
            json!({"metadata": {"name": name, "namespace": "a", "generation": generation}});
        store(&self.state, &self.changed, object)
    }

    pub(crate) fn delete(&self, name: &str) {
        remove(&self.state, &self.changed, name);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    /// All requests so far as `METHOD path`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state
            .requests
            .iter()
            .map(|(method, path, _)| format!("{method} {path}"))
            .collect()
    }

    pub(crate) fn last_headers(&self) -> HeaderMap {
        self.state
            .lock()
            .unwrap()
            .requests
            .last()
            .unwrap()
            .2
            .clone()
    }

    pub(crate) fn forbid_cluster_lists(&self) {
        self.state.lock().unwrap().forbid_cluster_lists = true;
    }
}

fn store(state: &Mutex<State>, changed: &watch::Sender<u64>, mut object: Value) -> u64 {
    let mut state = state.lock().unwrap();
    state.version += 1;
    let version = state.version;
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    let known = state.objects.insert(name, object.clone()).is_some();
    object["apiVersion"] = "apps/v1".into();
    object["kind"] = "Deployment".into();
    let kind = if known { "MODIFIED" } else { "ADDED" };
    state
        .events
        .push((version, json!({"type": kind, "object": object})));
    changed.send_replace(version);
    version
}

fn remove(state: &Mutex<State>, changed: &watch::Sender<u64>, name: &str) {
    let mut state = state.lock().unwrap();
    if let Some(object) = state.objects.remove(name) {
        state.version += 1;
        let version = state.version;
        state
            .events
            .push((version, json!({"type": "DELETED", "object": object})));
        changed.send_replace(version);
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn answer(code: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())).boxed_unsync())
        .unwrap()
}

async fn serve(
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path_and_query().unwrap().to_string();
    state
        .lock()
        .unwrap()
        .requests
        .push((parts.method.clone(), path, parts.headers));
    let query: BTreeMap<String, String> =
        form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let path = parts.uri.path();
    let name = path
        .strip_prefix(DEPLOYMENTS)
        .and_then(|rest| rest.strip_prefix('/'));
    Ok(match (parts.method, name) {
        (Method::GET, None) if query.contains_key("watch") => follow(state, &changed, &query),
        (Method::GET, None) if path.starts_with("/apis/apps/v1") => {
            list(&state.lock().unwrap(), path)
        }
        (Method::GET, Some(name)) => match state.lock().unwrap().objects.get(name) {
            Some(object) => answer(200, object),
            None => answer(404, &json!({"kind": "Status", "code": 404})),
        },
        (Method::POST | Method::PUT | Method::PATCH, _) => {
            let object: Value = serde_json::from_slice(&body).unwrap();
            store(&state, &changed, object.clone());
            answer(201, &object)
        }
        (Method::DELETE, Some(name)) => {
            remove(&state, &changed, name);
            answer(200, &json!({"kind": "Status", "status": "Success"}))
        }
        _ => answer(404, &json!({"kind": "Status", "code": 404})),
    })
}

fn list(state: &State, path: &str) -> Response<Body> {
    if state.forbid_cluster_lists && path != DEPLOYMENTS {
        return answer(403, &json!({"kind": "Status", "code": 403}));
    }
    let items: Vec<_> = state.objects.values().collect();
    answer(
        200,
        &json!({
            "apiVersion": "apps/v1",
            "kind": "DeploymentList",
            "metadata": {"resourceVersion": state.version.to_string()},
            "items": items,
        }),
    )
}

/// All events after the given version, past and to come.
fn follow(
    state: Arc<Mutex<State>>,
    changed: &watch::Sender<u64>,
    query: &BTreeMap<String, String>,
) -> Response<Body> {
    let from = query
        .get("resourceVersion")
        .map_or(0, |version| version.parse().unwrap());
    let events =
        stream::unfold((state, changed.subscribe(), from), next_events).flat_map(stream::iter);
    let body =
        StreamBody::new(events.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n"))))));
    Response::builder()
        .header("content-type", "application/json")
        .body(body.boxed_unsync())
        .unwrap()
}

type Following = (Arc<Mutex<State>>, watch::Receiver<u64>, u64);

async fn next_events((state, mut changed, from): Following) -> Option<(Vec<Value>, Following)> {
    let version = *changed.wait_for(|version| *version > from).await.ok()?;
    let state_now = state.lock().unwrap();
    let due = state_now
        .events
        .iter()
        .filter(|(at, _)| *at > from && *at <= version);
    let due = due.map(|(_, event)| event.clone()).collect();
    drop(state_now);
    Some((due, (state, changed, version)))
}
