//! How a signal reaches its lifecycle.
//!
//! One signal for each Process is on its way at a time; what happens meanwhile is one more after
//! it. While Temporal is away the last one waits, so that memory does not grow with the outage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use process_operator_activities::build::hash;
use process_operator_workflows::contract::{Changed, ProcessKey};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Status};
use tokio::sync::{Semaphore, watch};

use super::Link;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::temporal;

mod call;

/// Signals on their way at once, over all Processes.
const CONCURRENT: usize = 32;
/// A signal is one local transaction of the server.
const CALL: Duration = Duration::from_secs(10);
/// Back-off while Temporal is away.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// One signal.
#[derive(Debug, Clone)]
struct Delivery {
    key: ProcessKey,
    request_id: String,
    changed: Changed,
    /// The lifecycle is started when it does not run.
    start: bool,
    /// It is likely not to run yet.
    new: bool,
    seen: Instant,
}

/// Sends signals; cheap to clone.
#[derive(Clone)]
pub(crate) struct Signaler {
    inner: Arc<Inner>,
}

struct Inner {
    connection: watch::Receiver<Option<Link>>,
    namespace: String,
    identity: String,
    metrics: Arc<Metrics>,
    slots: Semaphore,
    registering: tokio::sync::Mutex<()>,
    /// By uid: on its way, and what comes after it.
    queue: Mutex<HashMap<String, Option<Delivery>>>,
}

impl Signaler {
    /// A signaler that begins to send once there is a connection.
    pub(crate) fn new(
        connection: watch::Receiver<Option<Link>>,
        config: &Config,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                connection,
                namespace: config.temporal_namespace.clone(),
                identity: config.identity(),
                metrics,
                slots: Semaphore::new(CONCURRENT),
                registering: tokio::sync::Mutex::default(),
                queue: Mutex::default(),
            }),
        }
    }

    /// Signals a lifecycle, starting it when it does not run. The request id is made from the change
    /// itself, so that two replicas that report the same change count once; never from state, which
    /// may return while the server remembers the id for the life of the run.
    pub(crate) fn send(
        &self,
        key: &ProcessKey,
        object_uid: &str,
        resource_version: &str,
        changed: Changed,
    ) {
        self.enqueue(Self::delivery(key, object_uid, resource_version, changed));
    }

    /// The same of a Process that nobody has seen before, for which most often there is no lifecycle yet.
    pub(crate) fn send_first(
        &self,
        key: &ProcessKey,
        object_uid: &str,
        resource_version: &str,
        changed: Changed,
    ) {
        self.enqueue(Delivery {
            new: true,
            ..Self::delivery(key, object_uid, resource_version, changed)
        });
    }

    fn delivery(
        key: &ProcessKey,
        object_uid: &str,
        resource_version: &str,
        changed: Changed,
    ) -> Delivery {
        let text = format!(
            "{}\n{object_uid}\n{resource_version}\n{}",
            key.uid, changed.kind
        );
        Delivery {
            key: key.clone(),
            request_id: hash::prefix(text.as_bytes(), 16),
            changed,
            start: true,
            new: false,
            seen: Instant::now(),
        }
    }

    /// Signals a lifecycle without an identity of the change: each call counts.
    pub(crate) fn send_again(&self, key: &ProcessKey, changed: Changed) {
        let now = jiff::Timestamp::now().as_nanosecond();
        self.send(key, &self.inner.identity, &now.to_string(), changed);
    }

    /// Signals a lifecycle only if it runs: there is nothing to start for a Process that is gone.
    pub(crate) fn send_if_running(&self, key: &ProcessKey, changed: Changed) {
        self.enqueue(Delivery {
            key: key.clone(),
            request_id: String::new(),
            changed,
            start: false,
            new: false,
            seen: Instant::now(),
        });
    }

    fn enqueue(&self, request: Delivery) {
        let mut queue = self
            .inner
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = queue.get_mut(&request.key.uid) {
            *next = Some(request);
            return;
        }
        queue.insert(request.key.uid.clone(), None);
        self.inner
            .metrics
            .signals_pending
            .set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
        drop(queue);
        let inner = self.inner.clone();
        tokio::spawn(async move { inner.deliver(request).await });
    }
}

impl Inner {
    async fn deliver(&self, mut request: Delivery) {
        loop {
            self.insist(&mut request).await;
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(next) = queue.get_mut(&request.key.uid).and_then(Option::take) else {
                queue.remove(&request.key.uid);
                self.metrics
                    .signals_pending
                    .set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
                return;
            };
            request = next;
        }
    }

    /// Tries until the server has taken the signal, or the newest one that came meanwhile.
    async fn insist(&self, request: &mut Delivery) {
        let mut pause = BACK_OFF.0;
        loop {
            let mut connection = self.connection.clone();
            let link = match connection.wait_for(Option::is_some).await {
                Ok(link) => link.clone(),
                Err(_) => return,
            };
            let Some(link) = link else { return };
            let result = {
                let Ok(_slot) = self.slots.acquire().await else {
                    return;
                };
                tokio::time::timeout(CALL, self.try_once(&link, request))
                    .await
                    .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
            };
            match result {
                Ok(()) => {
                    Metrics::count(&self.metrics.signals, "ok");
                    self.metrics
                        .signal_seconds
                        .observe(request.seen.elapsed().as_secs_f64());
                    return;
                }
                Err(status) if !request.start && status.code() == Code::NotFound => return,
                Err(status) => {
                    if lacks_search_attribute(&status) {
                        self.register(&link).await;
                    }
                    Metrics::count(&self.metrics.signals, code_label(status.code()));
                    tracing::info!(
                        workflow_id = request.key.lifecycle().to_string(),
                        process = request.key.name,
                        namespace = request.key.namespace,
                        "signal not delivered, trying again in {pause:?}: {}",
                        status.message()
                    );
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(newer) = queue.get_mut(&request.key.uid).and_then(Option::take) {
                *request = newer;
            }
        }
    }

    /// Registers the search attributes once more: a namespace that was made again has none. Not by
    /// every signal that meets this at once.
    async fn register(&self, link: &Link) {
        let Ok(_turn) = self.registering.try_lock() else {
            return;
        };
        tracing::warn!("search attributes are missing; registering them again");
        temporal::register_search_attributes(
            &link.connection,
            &self.namespace,
            &link.search_attributes,
        )
        .await;
    }

    async fn try_once(&self, link: &Link, request: &mut Delivery) -> Result<(), Status> {
        let mut connection = link.connection.clone();
        if !request.start {
            return WorkflowService::signal_workflow_execution(
                &mut connection,
                call::signal(self, request)?.into_request(),
            )
            .await
            .map(|_| ());
        }
        // Once: what a call without an answer has started is found by a signal, which counts once for all replicas.
        if std::mem::take(&mut request.new) {
            let answer = WorkflowService::start_workflow_execution(
                &mut connection,
                call::start(self, link, request)?.into_request(),
            )
            .await;
            match answer {
                Err(status) if status.code() == Code::AlreadyExists => {
                    if call::started_for(&status, &request.request_id) {
                        return Ok(());
                    }
                }
                answer => return answer.map(|_| ()),
            }
        }
        WorkflowService::signal_with_start_workflow_execution(
            &mut connection,
            call::signal_with_start(self, link, request)?.into_request(),
        )
        .await
        .map(|_| ())
    }
}

/// The server tells it from other bad requests only by its words.
fn lacks_search_attribute(status: &Status) -> bool {
    status.code() == Code::InvalidArgument && status.message().contains("search attribute")
}

fn code_label(code: Code) -> &'static str {
    match code {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            "unavailable"
        }
        Code::ResourceExhausted => "rate_limited",
        Code::PermissionDenied | Code::Unauthenticated => "forbidden",
        Code::NotFound => "not_found",
        _ => "internal",
    }
}
