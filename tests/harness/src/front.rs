//! What stands before a server: TLS, and the keys that it takes.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use process_operator_faultproxy::{
    Action, GrpcCode, GrpcError, RpcMatch, RuleHandle, TemporalProxy,
};
use rustls::ServerConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// A server as it is reached over TLS. When it is dropped, its connections are closed.
pub struct TlsFront {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken behind TLS, if clients are told.
    protocol: Option<&'static [u8]>,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl TlsFront {
    /// Listens on a free port of `host`, and passes on to `server` (`host:port`) what comes from clients that `config`
    /// lets in.
    pub async fn start(host: &str, server: &str, config: ServerConfig) -> Result<Self> {
        Self::speaking(None, host, server, config).await
    }

    /// The same before a Temporal server, whose clients want to be told that it speaks HTTP/2.
    pub async fn before_temporal(host: &str, temporal: &str, config: ServerConfig) -> Result<Self> {
        Self::speaking(Some(b"h2"), host, temporal, config).await
    }

    async fn speaking(
        protocol: Option<&'static [u8]>,
        host: &str,
        server: &str,
        config: ServerConfig,
    ) -> Result<Self> {
        let tcp = TcpListener::bind((host, 0)).await?;
        let address = tcp.local_addr()?;
        let (config, present) = watch::channel(told(config, protocol));
        tokio::spawn(accept(tcp, present, server.to_owned()));
        Ok(Self {
            address,
            protocol,
            config,
        })
    }

    /// Another certificate, or other clients, from now on; all connections are closed.
    pub fn becomes(&self, config: ServerConfig) {
        self.config.send_replace(told(config, self.protocol));
    }
}

fn told(mut config: ServerConfig, protocol: Option<&[u8]>) -> Arc<ServerConfig> {
    config.alpn_protocols.extend(protocol.map(<[u8]>::to_vec));
    Arc::new(config)
}

async fn accept(tcp: TcpListener, config: watch::Receiver<Arc<ServerConfig>>, server: String) {
    while let Ok((stream, _)) = tcp.accept().await {
        let (mut config, server) = (config.clone(), server.clone());
        tokio::spawn(async move {
            let tls = TlsAcceptor::from(config.borrow_and_update().clone());
            let pass = async {
                let mut client = tls.accept(stream).await?;
                let mut server = TcpStream::connect(server).await?;
                copy_bidirectional(&mut client, &mut server).await
            };
            tokio::select! {
                _ = pass => {}
                _ = config.changed() => {}
            }
        });
    }
}

/// From now on whoever asks with another API key than these is refused, as by Temporal Cloud.
pub fn takes_only(proxy: &TemporalProxy, keys: &[&str]) -> RuleHandle {
    let known: Vec<String> = keys.iter().map(|key| format!("Bearer {key}")).collect();
    let others = RpcMatch::any().when(move |rpc| !known.contains(&rpc.authorization));
    let refusal = GrpcError::new(GrpcCode::Unauthenticated, "this key is not known");
    proxy.rule(others, Action::Answer(refusal))
}
