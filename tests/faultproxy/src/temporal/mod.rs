//! The proxy before a Temporal frontend.

mod exchange;
mod rpc;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Result, ensure};
use futures::FutureExt;
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use self::rpc::{GrpcCode, GrpcError, Rpc, RpcMatch};

use self::exchange::serve_rpc;
use crate::body::Body;
use crate::front::{Conn, Front, Io, Serve};
use crate::proxy::{Core, Protocol, Proxy};

/// The same on both sides, and above what a burst of long polls and large histories needs.
const MAX_STREAMS: u32 = 10_000;
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A proxy before a Temporal frontend: gRPC over plaintext HTTP/2 on both sides.
///
/// Each client connection has one connection of its own to the frontend, opened with its first
/// request, so that what happens to one side happens to the other.
pub type TemporalProxy = Proxy<Temporal>;

/// The protocol of a Temporal frontend.
pub struct Temporal {
    frontend: String,
}

impl Protocol for Temporal {
    type Request = Rpc;
    type Answer = GrpcError;
}

/// Where a [`TemporalProxy`] stands.
#[derive(Clone, Debug)]
pub struct TemporalProxyConfig {
    frontend: String,
    listen: Vec<SocketAddr>,
}

impl TemporalProxyConfig {
    /// In front of this frontend (`host:port`), on a free port of 127.0.0.1.
    pub fn new(frontend: &str) -> Self {
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        Self {
            frontend: frontend.to_owned(),
            listen,
        }
    }

    /// On these addresses instead, e.g. also on one that pods can reach; port 0 means a free one.
    #[must_use]
    pub fn listen(mut self, addrs: &[SocketAddr]) -> Self {
        self.listen = addrs.to_vec();
        self
    }
}

impl Proxy<Temporal> {
    /// Starts listening.
    pub async fn start(config: TemporalProxyConfig) -> Result<Self> {
        ensure!(
            !config.listen.is_empty(),
            "a proxy needs an address to listen on"
        );
        let core = Arc::new(Core::<Temporal>::new());
        let temporal = Arc::new(Temporal {
            frontend: config.frontend,
        });
        let serve: Serve = {
            let (temporal, core) = (Arc::clone(&temporal), Arc::clone(&core));
            Arc::new(move |io, conn| {
                let frontend = Arc::new(Frontend::new(&temporal.frontend));
                serve_connection(frontend, Arc::clone(&core), io, conn).boxed()
            })
        };
        let front = Front::start(&config.listen, CancellationToken::new(), serve).await?;
        Ok(Self {
            front,
            core,
            protocol: temporal,
        })
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.core.rules.clear();
    }

    /// Ends every disturbance: rules are removed, the proxy is up.
    pub async fn heal(&self) -> Result<()> {
        self.clear_rules();
        self.up().await
    }

    /// The frontend behind this proxy.
    pub fn frontend(&self) -> &str {
        &self.protocol.frontend
    }
}

async fn serve_connection(frontend: Arc<Frontend>, core: Arc<Core<Temporal>>, io: Io, conn: Conn) {
    let service = service_fn(|request| {
        serve_rpc(
            Arc::clone(&frontend),
            Arc::clone(&core),
            conn.clone(),
            request,
        )
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // An error means that the client went away or that a rule ended the connection.
        _ = connection.as_mut() => {}
        () = conn.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// One connection to the frontend.
pub(crate) struct Frontend {
    address: String,
    sender: Mutex<Option<SendRequest<Body>>>,
    /// Ends the connection when its client's connection is gone.
    gone: CancellationToken,
}

impl Frontend {
    fn new(address: &str) -> Self {
        let address = address.to_owned();
        Self {
            address,
            sender: Mutex::default(),
            gone: CancellationToken::new(),
        }
    }

    /// A sender on the connection, which is opened if there is none that works.
    pub(crate) async fn sender(&self) -> Result<SendRequest<Body>> {
        let mut current = self.sender.lock().await;
        if let Some(sender) = current.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(self.gone.clone().run_until_cancelled_owned(connection));
        *current = Some(sender.clone());
        Ok(sender)
    }

    /// Whether the connection has failed.
    pub(crate) async fn is_lost(&self) -> bool {
        self.sender
            .lock()
            .await
            .as_ref()
            .is_none_or(SendRequest::is_closed)
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}
