//! What stands before a Temporal server: TLS, and the keys that it takes.

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

/// A Temporal server as it is reached over TLS. When it is dropped, its connections are closed.
pub struct TlsFront {
    /// Where it listens.
    pub address: SocketAddr,
    server: watch::Sender<Arc<ServerConfig>>,
}

impl TlsFront {
    /// Listens on a free port of `host`, and passes on to `temporal` (`host:port`) what comes from clients that `server`
    /// lets in.
    pub async fn start(host: &str, temporal: &str, server: ServerConfig) -> Result<Self> {
        let tcp = TcpListener::bind((host, 0)).await?;
        let address = tcp.local_addr()?;
        let (server, present) = watch::channel(speaking_grpc(server));
        tokio::spawn(accept(tcp, present, temporal.to_owned()));
        Ok(Self { address, server })
    }

    /// Another server from now on; all connections are closed.
    pub fn becomes(&self, server: ServerConfig) {
        self.server.send_replace(speaking_grpc(server));
    }
}

fn speaking_grpc(mut server: ServerConfig) -> Arc<ServerConfig> {
    server.alpn_protocols.push(b"h2".to_vec());
    Arc::new(server)
}

async fn accept(tcp: TcpListener, server: watch::Receiver<Arc<ServerConfig>>, temporal: String) {
    while let Ok((stream, _)) = tcp.accept().await {
        let (mut server, temporal) = (server.clone(), temporal.clone());
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

/// From now on whoever asks with another API key than these is refused, as by Temporal Cloud.
pub fn takes_only(proxy: &TemporalProxy, keys: &[&str]) -> RuleHandle {
    let known: Vec<String> = keys.iter().map(|key| format!("Bearer {key}")).collect();
    let others = RpcMatch::any().when(move |rpc| !known.contains(&rpc.authorization));
    let refusal = GrpcError::new(GrpcCode::Unauthenticated, "this key is not known");
    proxy.rule(others, Action::Answer(refusal))
}
