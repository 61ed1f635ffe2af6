//! A release that reaches Temporal over mutual TLS and with an API key, all of it from one Secret, whose certificates
//! are replaced while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};
use process_operator_faultproxy::{
    Action, GrpcCode, GrpcError, RpcMatch, TemporalProxy, TemporalProxyConfig,
};
use process_operator_harness::{Authority, Env, Issued, SOON, condition, manifest, until};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::release::operators;
use crate::support::{Release, own_values};

const SECRET: &str = "temporal-access";
const KEY: &str = "key-of-the-release-4f70";
/// The kubelet looks at a Secret again within a minute and a half, when nothing makes it look before; then the operator
/// reads the files and tries them.
const REFRESHED: Duration = Duration::from_secs(150);

/// Temporal as pods reach it over TLS.
struct Front {
    address: SocketAddr,
    server: watch::Sender<Arc<ServerConfig>>,
}

impl Front {
    /// Passes on to `temporal` what comes from clients that `server` lets in.
    async fn start(host: &str, temporal: SocketAddr, server: Arc<ServerConfig>) -> Result<Self> {
        let tcp = TcpListener::bind((host, 0)).await?;
        let address = tcp.local_addr()?;
        let (server, current) = watch::channel(server);
        tokio::spawn(accept(tcp, current, temporal));
        Ok(Self { address, server })
    }

    /// Another one from now on; all connections are closed.
    fn becomes(&self, server: Arc<ServerConfig>) {
        self.server.send_replace(server);
    }
}

async fn accept(
    tcp: TcpListener,
    server: watch::Receiver<Arc<ServerConfig>>,
    temporal: SocketAddr,
) {
    while let Ok((stream, _)) = tcp.accept().await {
        let mut server = server.clone();
        tokio::spawn(async move {
            let tls = TlsAcceptor::from(server.borrow_and_update().clone());
            let pass = async {
                let mut client = tls.accept(stream).await?;
                let mut temporal = TcpStream::connect(temporal).await?;
                copy_bidirectional(&mut client, &mut temporal).await
            };
            tokio::select! {
                _ = pass => {}
                _ = server.changed() => {}
            }
        });
    }
}

/// A server with a certificate of `own`, for clients that show one of any of `clients`.
fn server(host: &str, own: &Authority, clients: &[&Authority]) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for authority in clients {
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes())?)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
    let issued = own.issue(host)?;
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(Arc::new(config))
}

/// Where pods reach this machine: it is there that they find the testbed's Temporal.
fn host(env: &Env) -> Result<String> {
    let slice = ["get", "endpointslice", "temporal-frontend-host"];
    let address = "jsonpath={.endpoints[0].addresses[0]}";
    let asked = [&slice[..], &["-n", "temporal", "-o", address]].concat();
    env.kubectl(&asked, "")
}

/// What is in the Secret from now on.
fn holds(env: &Env, release: &Release, pair: &Issued, authorities: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": SECRET },
        "stringData": {
            "tls.crt": pair.certificate,
            "tls.key": pair.key,
            "ca.crt": authorities,
            "api-key": KEY,
        },
    });
    let apply = ["apply", "-n", &release.namespace, "-f", "-"];
    env.kubectl(&apply, &secret.to_string())?;
    Ok(())
}

/// The release, and its Secret with certificates of one authority.
fn release(env: &Env, front: &Front, authority: &Authority) -> Result<Release> {
    let mut values = own_values(env);
    values["temporal"] = json!({
        "address": front.address.to_string(),
        "namespace": env.control,
        // Workers get nothing of the Secret.
        "workerAddress": env.temporal_pod_address,
        "secret": {
            "name": SECRET,
            "keys": {
                "apiKey": "api-key",
                "certificate": "tls.crt",
                "privateKey": "tls.key",
                "serverCa": "ca.crt",
            },
        },
    });
    let release = Release::with_values(env, "tls", &values)?;
    let pair = authority.issue("operator")?;
    holds(env, &release, &pair, &authority.pem)?;
    Ok(release)
}

/// Uids of the replicas by name. All are ready, and none was ever started again.
async fn replicas(env: &Env, release: &Release) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for pod in operators(env, release).list(&ListParams::default()).await? {
        let status = pod.status.iter();
        for container in status.flat_map(|status| status.container_statuses.iter().flatten()) {
            let well = container.ready && container.restart_count == 0;
            ensure!(well, "{}: {container:?}", pod.name_any());
        }
        found.insert(pod.name_any(), pod.uid());
    }
    ensure!(found.len() == 2, "{found:?}");
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_key_are_of_a_secret_and_new_ones_need_no_restart() -> Result<()> {
    let env = Env::new("helm-tls").await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    let others = RpcMatch::any().when(|rpc| rpc.authorization != format!("Bearer {KEY}"));
    let refusal = GrpcError::new(GrpcCode::Unauthenticated, "this key is not known");
    proxy.rule(others, Action::Answer(refusal));
    let (first, second) = (Authority::new("first")?, Authority::new("second")?);
    let host = host(&env)?;
    // Clients of both are let in while the new certificates spread.
    let both = server(&host, &first, &[&first, &second])?;
    let front = Front::start(&host, proxy.addr(), both).await?;
    let release = release(&env, &front, &first)?;
    release.put("install", &[])?;
    let before = replicas(&env, &release).await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;

    let authorities = format!("{}\n{}", first.pem, second.pem);
    holds(&env, &release, &second.issue("operator")?, &authorities)?;
    // The kubelet looks at once when a pod has changed.
    let changed = ["annotate", "pods", "--all", "example.com/secret=replaced"];
    release.kubectl(&env, &changed)?;
    let pods = operators(&env, &release);
    let what = "each replica has taken the new certificates";
    until(what, REFRESHED, async || {
        for name in before.keys() {
            let log = pods.logs(name, &LogParams::default()).await?;
            let new = log.contains("the certificates for Temporal are new ones");
            ensure!(new, "{name} has not");
            let tells = log.contains("PRIVATE KEY") || log.contains(KEY);
            ensure!(!tells, "a secret is in the log of {name}");
        }
        Ok(())
    })
    .await?;

    // Those from before are of no use any more, on either side.
    front.becomes(server(&host, &second, &[&second])?);
    env.set_tag("l2o", "v2").await?;
    let process = env.wait_settled("l2o", "v2").await?;
    ensure!(condition(&process, "TemporalReachable").0 == "True");
    until("the replicas are ready, and the same", SOON, async || {
        let now = replicas(&env, &release).await?;
        ensure!(now == before, "{before:?} {now:?}");
        Ok(())
    })
    .await?;
    env.kubectl(&["delete", "process", "l2o", "--timeout=90s"], "")?;
    release.remove(&env)?;
    env.remove().await
}
