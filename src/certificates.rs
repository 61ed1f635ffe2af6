//! Certificates for Temporal that are replaced while the operator runs.
//!
//! The connection asks for them whenever it has to be made anew. It stays the same one for the rest of the
//! operator: no worker is replaced, and what is under way goes on.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore};
use temporalio_client::danger::ServerCertVerifier;
use temporalio_client::{
    CertifiedKey, Connection, ConnectionOptions, ResolvesClientCert, SignatureScheme,
};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::temporal;

/// How long a server may take to accept new ones.
const TRIAL: Duration = Duration::from_secs(15);

/// As Temporal's environment configuration has them, in PEM.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    /// The client's certificate and its key.
    client: Option<(Vec<u8>, Vec<u8>)>,
    /// The server's authorities.
    authorities: Option<Vec<u8>>,
}

impl Pem {
    fn of(options: &ConnectionOptions) -> Self {
        let tls = options.tls_options.as_ref();
        let client = tls.and_then(|tls| tls.client_tls_options.as_ref());
        let pair = |it: &temporalio_client::ClientTlsOptions| {
            (it.client_cert.clone(), it.client_private_key.clone())
        };
        Self {
            client: client.map(pair),
            authorities: tls.and_then(|tls| tls.server_root_ca_cert.clone()),
        }
    }
}

/// What is used at present, and may be replaced.
struct Present<T>(RwLock<Arc<T>>);

impl<T> Present<T> {
    fn new(first: Arc<T>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(first)))
    }

    fn get(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, next: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

/// Without what it holds: there is a key in it.
impl<T> fmt::Debug for Present<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

impl ResolvesClientCert for Present<CertifiedKey> {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Decides nothing itself: whoever is present does.
impl ServerCertVerifier for Present<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.get()
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.get()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.get()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.get().supported_verify_schemes()
    }
}

/// Those of a connection.
pub(crate) struct Certificates {
    pem: Pem,
    client: Option<Arc<Present<CertifiedKey>>>,
    authorities: Option<Arc<Present<WebPkiServerVerifier>>>,
}

impl Certificates {
    /// Takes them out of the options of a connection, which then asks for the present ones. `None` when there are
    /// none.
    pub(crate) fn take(options: &mut ConnectionOptions) -> anyhow::Result<Option<Self>> {
        let pem = Pem::of(options);
        let client = pem.client.as_ref().map(|(chain, key)| pair(chain, key));
        let client = client.transpose()?.map(Present::new);
        let authorities = pem.authorities.as_ref().map(|pem| verifier(pem));
        let authorities = authorities.transpose()?.map(Present::new);
        let Some(tls) = options.tls_options.as_mut() else {
            return Ok(None);
        };
        if let Some(authorities) = &authorities {
            tls.server_root_ca_cert = None;
            tls.server_cert_verifier = Some(authorities.clone());
        }
        if let Some(client) = &client {
            tls.client_tls_options = None;
            tls.client_cert_resolver = Some(client.clone());
            // The SDK (1.1) asks for certificates on connections to one address only, and encrypts these itself:
            // `https` would be taken for a wish to do it twice. Requests name the scheme all the same.
            options.dns_load_balancing = None;
            if tls.domain.is_none() {
                options.override_origin = Some(options.target.as_str().parse()?);
            }
            let _ = options.target.set_scheme("http");
        }
        let any = client.is_some() || authorities.is_some();
        Ok(any.then_some(Self {
            pem,
            client,
            authorities,
        }))
    }

    /// Replaces them when the configuration has others, for ever. Those that cannot be read, or that the server
    /// does not accept, change nothing, and are tried again.
    pub(crate) async fn renew(mut self, config: Config, metrics: Arc<Metrics>) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(temporal::AGAIN).await;
            let looked = self.look(&config).await;
            metrics.certificates_waiting.set(looked.is_err().into());
            match looked {
                Ok(replaced) => {
                    if replaced {
                        tracing::info!("the certificates for Temporal are new ones");
                    }
                    said.clear();
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    if why != said {
                        tracing::warn!(
                            "new certificates for Temporal cannot be used: {why}; the ones before stay"
                        );
                        said = why;
                    }
                }
            }
        }
    }

    /// Whether they were replaced.
    async fn look(&mut self, config: &Config) -> anyhow::Result<bool> {
        let mut options = temporal::options(config)?;
        if Pem::of(&options) == self.pem {
            return Ok(false);
        }
        let next = Self::take(&mut options)?.context("there are none any more")?;
        let same = next.client.is_some() == self.client.is_some()
            && next.authorities.is_some() == self.authorities.is_some();
        anyhow::ensure!(
            same,
            "there are others than at the start: restart the operator"
        );
        // A server that does not know them yet, or that they do not know, would be lost with them.
        match tokio::time::timeout(TRIAL, Connection::connect(options)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => anyhow::bail!(
                "the server does not go with them: {}",
                anyhow::Error::from(error).root_cause()
            ),
            Err(_) => anyhow::bail!("no answer in {} s", TRIAL.as_secs()),
        }
        if let (Some(present), Some(next)) = (&self.client, &next.client) {
            present.set(next.get());
        }
        if let (Some(present), Some(next)) = (&self.authorities, &next.authorities) {
            present.set(next.get());
        }
        self.pem = next.pem;
        Ok(true)
    }
}

/// A certificate and its key, which must fit each other.
fn pair(chain: &[u8], key: &[u8]) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = certificates(chain).context("client certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key).context("key of the client certificate")?;
    let pair = CertifiedKey::from_der(chain, key, &default_provider());
    Ok(Arc::new(
        pair.context("the client certificate and its key")?,
    ))
}

fn verifier(authorities: &[u8]) -> anyhow::Result<Arc<WebPkiServerVerifier>> {
    let about = "authorities of the server";
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities).context(about)? {
        roots.add(authority).context(about)?;
    }
    let provider = Arc::new(default_provider());
    WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .context(about)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    anyhow::ensure!(!found.is_empty(), "no certificate in it");
    Ok(found)
}
