//! A registry whose certificate an authority of its own has signed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use axum::serve::Listener;
use process_operator_harness::{
    Authority, Env, Invariants, Operator, OperatorOptions, condition, manifest,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::server::{Mood, Registry};
use super::{SOON, TOKEN};
use crate::definition::{current, read};

/// Connections that speak TLS; others are dropped.
struct Secured {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = Listener::accept(&mut self.tcp).await;
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

async fn start(authority: &Authority, name: &str) -> Result<Registry> {
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let host = format!("https://{}", tcp.local_addr()?);
    let tls = TlsAcceptor::from(Arc::new(authority.server(name, &[])?));
    let registry = Registry::on(Secured { tcp, tls }, host);
    registry.is(Mood::Serves);
    Ok(registry)
}

fn file(env: &Env, what: &str, content: &str) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("{}-{what}", env.namespace));
    std::fs::write(&path, content)?;
    Ok(path)
}

fn options(hosts: &[String], token: &Path, authorities: Option<&Path>) -> OperatorOptions {
    let mut args = vec![
        "--definition-registry-token-file".into(),
        token.display().to_string(),
    ];
    for host in hosts {
        args.extend(["--definition-registry".into(), host.clone()]);
    }
    if let Some(file) = authorities {
        args.push("--definition-registry-ca-file".into());
        args.push(file.display().to_string());
    }
    OperatorOptions {
        args,
        ..OperatorOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_registry_with_a_certificate_of_a_known_authority_is_asked() -> Result<()> {
    let env = Env::new("registry-tls").await?;
    let invariants = Invariants::start(&env)?;
    let (ours, theirs) = (Authority::new("ours")?, Authority::new("theirs")?);
    let registry = start(&ours, "127.0.0.1").await?;
    let misnamed = start(&ours, "registry.example").await?;
    let token = file(&env, "token", TOKEN)?;
    let [ours, theirs] = [
        file(&env, "ours.pem", &ours.pem)?,
        file(&env, "theirs.pem", &theirs.pem)?,
    ];
    let hosts = [registry.host(), misnamed.host()];
    let wanted = |registry: &Registry| {
        let mut process = manifest(&env, "l2o", "v1");
        process["spec"]["definitionRef"]["registry"] =
            json!({ "url": registry.url("l2o"), "refreshSeconds": 10 });
        process
    };
    let told = |words: &'static str| {
        env.wait_process("l2o", words, SOON, move |process| {
            let (_, reason, message) = condition(process, "DefinitionResolved");
            reason == "RegistryUnavailable" && message.contains(words)
        })
    };

    // Neither by the authorities of the system nor by another one of somebody's own.
    for authorities in [None, Some(theirs.as_path())] {
        let operator = Operator::start(&env, options(&hosts, &token, authorities)).await?;
        env.apply(&wanted(&registry)).await?;
        let waits = told("--definition-registry-ca-file").await?;
        let message = condition(&waits, "DefinitionResolved").2;
        ensure!(message.contains("UnknownIssuer"), "{message}");
        ensure!(
            condition(&waits, "Stalled").0 == "False",
            "it is asked again"
        );
        operator.stop().await?;
    }
    ensure!(registry.requests() == 0, "no token has left the operator");
    ensure!(
        env.deployments("l2o").await?.is_empty(),
        "nothing is deployed"
    );

    let operator = Operator::start(&env, options(&hosts, &token, Some(&ours))).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    ensure!(
        read(&env, "served").await? == "<first/>",
        "what was fetched"
    );

    // The right authority for another host.
    env.apply(&wanted(&misnamed)).await?;
    let unnamed = told("certificate").await?;
    let message = condition(&unnamed, "DefinitionResolved").2;
    ensure!(message.contains("not valid for name"), "{message}");
    ensure!(misnamed.requests() == 0, "no token has left the operator");
    ensure!(condition(&unnamed, "Ready").0 == "True", "it serves");
    ensure!(current(&unnamed) == current(&settled), "the same version");
    env.apply(&wanted(&registry)).await?;
    env.wait_settled("l2o", "v1").await?;

    invariants
        .hold(&env, &[&operator], std::time::Duration::from_secs(5))
        .await?;
    for file in [token, ours, theirs] {
        std::fs::remove_file(file)?;
    }
    env.remove().await
}
