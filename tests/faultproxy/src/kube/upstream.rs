//! The way to kube-apiserver.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

/// Headers that are about one hop, and those the proxy's own client sets.
const NOT_FORWARDED: [header::HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::HOST,
    header::CONTENT_LENGTH,
    // Answers are read here, so they have to come in plain text.
    header::ACCEPT_ENCODING,
];

pub(crate) struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    /// What the client last identified itself with.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Upstream {
    pub(crate) fn new(server: &str, ca_pem: &[u8]) -> Result<Self> {
        let uri: Uri = server.parse().with_context(|| format!("server {server}"))?;
        let scheme = uri.scheme_str().context("the server's URL has no scheme")?;
        let authority = uri.authority().context("the server's URL has no host")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots
                .add(certificate.context("the CA is no PEM")?)
                .context("the CA is unusable")?;
        }
        ensure!(
            scheme == "http" || !roots.is_empty(),
            "the CA holds no certificate"
        );
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            // Sooner than the server closes idle connections, so that none dies in our hands.
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        let base = format!("{scheme}://{authority}");
        Ok(Self {
            client,
            base,
            authorization: Mutex::default(),
        })
    }

    pub(crate) fn remember(&self, headers: &HeaderMap) {
        if let Some(authorization) = headers.get(header::AUTHORIZATION) {
            *self.authorization.lock() = Some(authorization.clone());
        }
    }

    /// Forwards a client's request. The path includes the query.
    pub(crate) async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        // A path that came in a request line is one that can go out in a request line.
        *request.uri_mut() = format!("{}{path}", self.base).parse().unwrap_or_default();
        let headers = headers
            .iter()
            .filter(|(name, _)| !NOT_FORWARDED.contains(name));
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        let mut response = self.client.request(request).await?;
        for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
            response.headers_mut().remove(name);
        }
        Ok(response)
    }

    /// Reads JSON with the rights of the client that was seen last.
    pub(crate) async fn read(&self, path: &str) -> Result<(u16, Value)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = self.authorization.lock().clone() {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let response = self
            .send(&Method::GET, path, &headers, Bytes::new())
            .await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((
            code,
            serde_json::from_slice(&body).with_context(|| format!("GET {path}: no JSON"))?,
        ))
    }
}
