//! One request to a registry.
//!
//! The client is hyper's, which is there for Kubernetes and Temporal anyhow. It follows no redirect, so
//! nothing leads off the hosts that are allowed.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use process_operator_crds::spec::RegistryProtocol;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Answer, Failure, Host, MAX_BYTES, Settings, Source, Trouble, answer};

/// Longest time of a request, until the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Of which a connection may take so long.
const CONNECT: Duration = Duration::from_secs(5);
/// Requests on their way at once, over all registries.
const CONCURRENT: usize = 8;
/// A message has its content escaped or in base64, and other fields besides.
const MAX_MESSAGE: usize = 2 * MAX_BYTES;
/// What is read of an answer that is an error.
const MAX_ERROR: usize = 16_384;
/// A registry that asks to be left alone for longer is asked all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The registries that may be asked.
pub struct Registries {
    settings: Settings,
    /// `None` when no host may be asked.
    client: Option<HttpClient>,
    permits: Semaphore,
}

impl Registries {
    /// With the flags of the operator. Fails when certificates cannot be read.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let client = if settings.hosts.is_empty() {
            None
        } else {
            Some(client(&settings)?)
        };
        Ok(Self {
            settings,
            client,
            permits: Semaphore::new(CONCURRENT),
        })
    }

    /// Why a source may not be asked: a sentence for people that names field and flag.
    pub fn forbids(&self, source: &Source) -> Option<String> {
        let host = match Host::of(&source.url) {
            Ok(host) => host,
            Err(why) => return Some(format!("spec.definitionRef.registry.url: {why}")),
        };
        if self.settings.hosts.contains(&host) {
            return None;
        }
        Some(format!(
            "spec.definitionRef.registry.url names {host}, which the operator may not ask: allow it with the \
             operator's flag --definition-registry or correct the address"
        ))
    }

    /// Asks for a definition. With `etag` only for another one than that.
    pub async fn fetch(&self, source: &Source, etag: Option<&str>) -> Result<Answer, Failure> {
        let client = match (&self.client, self.forbids(source)) {
            (Some(client), None) => client,
            (_, why) => {
                let why = why.unwrap_or_default();
                return Err(Failure::new(Trouble::Refused, why));
            }
        };
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(away(source, "the operator stops"));
        };
        let asked = self.ask(client, source, etag);
        tokio::time::timeout(LIMIT, asked)
            .await
            .unwrap_or_else(|_| {
                let why = format!("no complete answer in {} s", LIMIT.as_secs());
                Err(away(source, &why))
            })
    }

    async fn ask(
        &self,
        client: &HttpClient,
        source: &Source,
        etag: Option<&str>,
    ) -> Result<Answer, Failure> {
        let token = match &self.settings.token_file {
            Some(file) => Some(token(file).await?),
            None => None,
        };
        let request = request(source, etag, token.as_deref())?;
        let response = client
            .request(request)
            .await
            .map_err(|error| unanswered(source, &error))?;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::NOT_MODIFIED && etag.is_some() {
            return Ok(Answer::Unchanged);
        }
        let connect = source.protocol == RegistryProtocol::Connect;
        if head.status != StatusCode::OK {
            let failure = if connect {
                // An error that is too long to be read is told by its status.
                let read = Limited::new(body, MAX_ERROR).collect().await;
                let read = read.map(http_body_util::Collected::to_bytes);
                answer::error(
                    source,
                    head.status,
                    &read.unwrap_or_default(),
                    token.as_deref(),
                )
            } else {
                answer::status(source, head.status)
            };
            return Err(Failure {
                retry_after: retry_after(&head.headers),
                ..failure
            });
        }
        if let Some(coding) = head.headers.get(header::CONTENT_ENCODING)
            && coding != "identity"
        {
            return Err(Failure::new(
                Trouble::Unusable,
                "the registry answered with a content coding that was not asked for",
            ));
        }
        let limit = if connect { MAX_MESSAGE } else { MAX_BYTES };
        let read = Limited::new(body, limit).collect().await;
        let body = match read {
            Ok(read) => read.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(answer::too_large()),
            Err(error) => return Err(away(source, &chain(&*error))),
        };
        let mut definition = if connect {
            answer::message(&head.headers, &body)?
        } else {
            answer::plain(&head.headers, body.to_vec())?
        };
        let said = definition.unversioned.take();
        definition.unversioned = said.map(|said| answer::shown(&said, token.as_deref()));
        Ok(Answer::Fetched(definition))
    }
}

fn client(settings: &Settings) -> anyhow::Result<HttpClient> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(settings)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    // Minutes pass between two requests: no connection is kept for that.
    Ok(Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector))
}

/// The authorities of the system, and those of the file.
fn tls(settings: &Settings) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if settings.hosts.iter().any(Host::secure) {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!("certificate authorities of the system: {error}");
        }
        roots.add_parsable_certificates(found.certs);
    }
    if let Some(file) = &settings.ca_file {
        let about = || format!("--definition-registry-ca-file {}", file.display());
        let mut any = false;
        for certificate in CertificateDer::pem_file_iter(file).with_context(about)? {
            roots
                .add(certificate.with_context(about)?)
                .with_context(about)?;
            any = true;
        }
        anyhow::ensure!(any, "{}: no certificate in it", about());
    }
    let provider = rustls::crypto::ring::default_provider();
    Ok(ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Read again for each request, since tokens of files are renewed.
async fn token(file: &Path) -> Result<String, Failure> {
    let unreadable = |why: String| {
        Failure::new(
            Trouble::Unavailable,
            format!(
                "the file that the operator's flag --definition-registry-token-file names cannot be used: {why}"
            ),
        )
    };
    let text = tokio::fs::read_to_string(file)
        .await
        .map_err(|error| unreadable(error.kind().to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(unreadable("it is empty".to_owned()));
    }
    Ok(token.to_owned())
}

pub(super) fn request(
    source: &Source,
    etag: Option<&str>,
    token: Option<&str>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let unusable = |error: http::Error| {
        let message = format!("spec.definitionRef.registry.url cannot be asked: {error}");
        Failure::new(Trouble::Unusable, message)
    };
    let mut builder = Request::builder().uri(&source.url).header(
        header::USER_AGENT,
        concat!("process-operator/", env!("CARGO_PKG_VERSION")),
    );
    if let Some(etag) = etag {
        builder = builder.header(header::IF_NONE_MATCH, etag);
    }
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            Failure::new(
                Trouble::Unavailable,
                "the file that the operator's flag --definition-registry-token-file names holds more than a token",
            )
        })?;
        value.set_sensitive(true);
        builder = builder.header(header::AUTHORIZATION, value);
    }
    match &source.asks {
        None => builder
            .method(Method::GET)
            .header(header::ACCEPT, "*/*")
            .body(Full::default()),
        Some((id, tenant)) => builder
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header("connect-protocol-version", "1")
            .header("connect-timeout-ms", LIMIT.as_millis().to_string())
            .body(Full::from(
                json!({ "id": id, "tenantId": tenant }).to_string(),
            )),
    }
    .map_err(unusable)
}

/// No answer came. Which authorities are known is for whoever runs the operator to mend.
fn unanswered(source: &Source, error: &(dyn Error + 'static)) -> Failure {
    let mut why = chain(error);
    if unknown_issuer(error) {
        why.push_str(
            "; name the authority that signs for it with the operator's flag --definition-registry-ca-file",
        );
    }
    away(source, &why)
}

fn unknown_issuer(error: &(dyn Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        let unknown = rustls::CertificateError::UnknownIssuer;
        return *tls == rustls::Error::InvalidCertificate(unknown);
    }
    // An I/O error keeps what it is made of apart from its cause.
    let io = error.downcast_ref::<std::io::Error>();
    if let Some(inner) = io.and_then(std::io::Error::get_ref) {
        return unknown_issuer(inner);
    }
    error.source().is_some_and(unknown_issuer)
}

fn away(source: &Source, why: &str) -> Failure {
    Failure::new(
        Trouble::Unavailable,
        format!(
            "{} does not answer: {why}; it is asked again",
            source.shown()
        ),
    )
}

/// Seconds; a date is not worth reading.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// An error with all that caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
