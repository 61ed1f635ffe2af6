//! `/livez`, `/readyz` and `/metrics`.
//!
//! Liveness depends on nothing outside: killing the operator mends neither Temporal nor the API
//! server. Readiness does, and says what is missing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::Metrics;

/// Parts that have to work before the operator is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The API server answers.
    ApiServer,
    /// `processes.ameide.io` is installed.
    Crd,
    /// The first list of all watched objects is complete.
    Watch,
    /// The Temporal server answers and the operator's namespace exists.
    Temporal,
    /// The workers poll.
    Workers,
}

impl Part {
    const ALL: [Self; 5] = [
        Self::ApiServer,
        Self::Crd,
        Self::Watch,
        Self::Temporal,
        Self::Workers,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "apiserver",
            Self::Crd => "crd",
            Self::Watch => "watch",
            Self::Temporal => "temporal",
            Self::Workers => "workers",
        }
    }
}

/// What is missing, by part; a part that is not listed works.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    missing: Arc<Mutex<BTreeMap<Part, String>>>,
}

impl Readiness {
    /// Nothing works yet.
    pub(crate) fn new() -> Self {
        let missing = Part::ALL
            .map(|part| (part, "not tried yet".to_owned()))
            .into();
        Self {
            missing: Arc::new(Mutex::new(missing)),
        }
    }

    /// A part works.
    pub(crate) fn up(&self, part: Part) {
        self.missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&part);
    }

    /// A part does not work, and why.
    pub(crate) fn down(&self, part: Part, why: impl Into<String>) {
        self.missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(part, why.into());
    }

    /// Why a part does not work.
    #[cfg(test)]
    pub(crate) fn missing(&self, part: Part) -> Option<String> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.get(&part).cloned()
    }

    fn text(&self) -> (bool, String) {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = Part::ALL
            .iter()
            .map(|part| match missing.get(part) {
                None => format!("[+]{} ok", part.name()),
                Some(why) => format!("[-]{} failed: {why}", part.name()),
            })
            .collect();
        (missing.is_empty(), lines.join("\n") + "\n")
    }
}

/// Serves until the future resolves.
pub(crate) async fn serve(
    listen: SocketAddr,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(readiness)
        .route(
            "/metrics",
            get(move || std::future::ready(render(&metrics))),
        );
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {listen} (flag --listen): {error}"))?;
    tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;
    Ok(())
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let (ready, text) = readiness.text();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, text)
}

fn render(metrics: &Metrics) -> impl IntoResponse + use<> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}
