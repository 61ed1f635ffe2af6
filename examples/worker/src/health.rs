//! `/readyz` and `/livez` for the pod's probes.

use axum::{Router, http::StatusCode, routing::get};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::TcpListener;

/// Whether the worker is ready; clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// Sets what `/readyz` answers.
    pub fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// What `/readyz` answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn status(&self) -> StatusCode {
        if self.is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }

    /// Answers probes on all addresses for as long as the process lives. Returns once the port is
    /// taken.
    ///
    /// `/livez` only says that the process runs: a worker that waits for Temporal is alive, and
    /// restarting it would help nobody.
    pub async fn listen(&self, port: u16) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let address = listener.local_addr()?;
        let health = self.clone();
        let router = Router::new()
            .route("/livez", get(async || StatusCode::OK))
            .route("/readyz", get(async move || health.status()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::Health;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn status(port: u16, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    #[tokio::test]
    async fn readiness_follows_the_flag_and_liveness_does_not() {
        let health = Health::default();
        let port = health.listen(0).await.unwrap().port();
        assert_eq!(status(port, "/livez").await, "200");
        assert_eq!(status(port, "/readyz").await, "503");
        health.set_ready(true);
        assert_eq!(status(port, "/readyz").await, "200");
        assert_eq!(status(port, "/other").await, "404");
    }
}
