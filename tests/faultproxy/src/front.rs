//! The side of a proxy that clients connect to: listeners that can go away and come back on the
//! same port, and connections that can be cut or reset at any moment.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a graceful stop lets answers under way finish.
const GRACE: Duration = Duration::from_secs(1);

/// Serves one connection until it ends or its `closing` token asks for a graceful end.
pub(crate) type Serve = Arc<dyn Fn(Io, Conn) -> BoxFuture<'static, ()> + Send + Sync>;

pub(crate) struct Front {
    addrs: Vec<SocketAddr>,
    /// Bound but never listening: they keep the ports ours while the proxy is down, and a
    /// connection to a port that nobody listens on is refused.
    reserved: Vec<TcpSocket>,
    serve: Serve,
    root: CancellationToken,
    epoch: Mutex<Option<Epoch>>,
}

/// One period of being up.
struct Epoch {
    accepting: CancellationToken,
    closing: CancellationToken,
    cut: CancellationToken,
    accepts: TaskTracker,
    connections: TaskTracker,
}

impl Front {
    pub(crate) async fn start(
        listen: &[SocketAddr],
        root: CancellationToken,
        serve: Serve,
    ) -> Result<Self> {
        let mut reserved = Vec::new();
        let mut addrs = Vec::new();
        for addr in listen {
            let socket = bind(*addr)?;
            addrs.push(socket.local_addr()?);
            reserved.push(socket);
        }
        let front = Self {
            addrs,
            reserved,
            serve,
            root,
            epoch: Mutex::new(None),
        };
        front.up().await?;
        Ok(front)
    }

    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    pub(crate) async fn up(&self) -> Result<()> {
        let mut epoch = self.epoch.lock().await;
        if epoch.is_some() || self.root.is_cancelled() {
            return Ok(());
        }
        let fresh = Epoch {
            accepting: self.root.child_token(),
            closing: self.root.child_token(),
            cut: self.root.child_token(),
            accepts: TaskTracker::new(),
            connections: TaskTracker::new(),
        };
        // All of them or none.
        let listeners: Result<Vec<_>> = self
            .addrs
            .iter()
            .map(|addr| Ok(bind(*addr)?.listen(1024)?))
            .collect();
        for listener in listeners? {
            fresh.accepts.spawn(accept(
                listener,
                fresh.accepting.clone(),
                Connections {
                    serve: Arc::clone(&self.serve),
                    root: self.root.clone(),
                    closing: fresh.closing.clone(),
                    cut: fresh.cut.clone(),
                    tasks: fresh.connections.clone(),
                },
            ));
        }
        *epoch = Some(fresh);
        Ok(())
    }

    /// Once this returns, connections are refused and none is left.
    pub(crate) async fn down(&self) {
        if let Some(epoch) = self.epoch.lock().await.take() {
            epoch.stop_accepting().await;
            epoch.cut_all().await;
        }
    }

    pub(crate) async fn stop(&self) {
        if let Some(epoch) = self.epoch.lock().await.take() {
            epoch.stop_accepting().await;
            epoch.closing.cancel();
            epoch.connections.close();
            let _ = tokio::time::timeout(GRACE, epoch.connections.wait()).await;
            epoch.cut_all().await;
        }
        self.root.cancel();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.root.cancel();
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("reserved", &self.reserved)
            .finish_non_exhaustive()
    }
}

impl Epoch {
    async fn stop_accepting(&self) {
        self.accepting.cancel();
        self.accepts.close();
        self.accepts.wait().await;
    }

    async fn cut_all(&self) {
        self.cut.cancel();
        self.connections.close();
        self.connections.wait().await;
    }
}

fn bind(addr: SocketAddr) -> Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Lets the listener share the port with its reservation.
    socket.set_reuseaddr(true)?;
    socket
        .bind(addr)
        .with_context(|| format!("cannot listen on {addr}"))?;
    Ok(socket)
}

struct Connections {
    serve: Serve,
    root: CancellationToken,
    closing: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

async fn accept(listener: TcpListener, accepting: CancellationToken, to: Connections) {
    while let Some(accepted) = accepting.run_until_cancelled(listener.accept()).await {
        // An error is about the one connection that failed, e.g. aborted before it was taken.
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let conn = Conn {
            cut: to.cut.child_token(),
            closing: to.closing.clone(),
            root: to.root.clone(),
            reset: Arc::default(),
        };
        let io = Io {
            stream,
            reset: Arc::clone(&conn.reset),
        };
        let serving = (to.serve)(io, conn.clone());
        to.tasks.spawn(conn.cut.run_until_cancelled_owned(serving));
    }
}

/// Power over one client connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    cut: CancellationToken,
    pub(crate) closing: CancellationToken,
    root: CancellationToken,
    reset: Arc<AtomicBool>,
}

impl Conn {
    /// Ends the connection (FIN). Does not return: whoever asks is part of what ends.
    pub(crate) async fn cut(&self) -> ! {
        self.cut.cancel();
        std::future::pending().await
    }

    /// Ends the connection the hard way (RST).
    pub(crate) async fn reset(&self) -> ! {
        self.reset.store(true, Ordering::Relaxed);
        self.cut().await
    }

    /// Runs something to its end even if the connection goes away meanwhile, but no longer than
    /// the proxy lives.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        tokio::spawn(self.root.clone().run_until_cancelled_owned(work))
            .await
            .ok()
            .flatten()
    }
}

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Io {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
