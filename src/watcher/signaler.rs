//! How a signal reaches its lifecycle.
//!
//! One signal for each Process is on its way at a time; what happens meanwhile is one more after
//! it. While Temporal is away the last one waits, so that memory does not grow with the outage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use process_operator_activities::build::hash;
use process_operator_workflows::contract::{
    Changed, LifecycleInput, ProcessKey, QUEUE_MAIN, SA_NAME, SA_NAMESPACE, SIGNAL_CHANGED,
    TYPE_LIFECYCLE,
};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Status};
use temporalio_common::protos::coresdk::AsJsonPayloadExt;
use temporalio_common::protos::temporal::api::common::v1::{
    Payload, Payloads, SearchAttributes, WorkflowExecution, WorkflowType,
};
use temporalio_common::protos::temporal::api::enums::v1::{
    WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use temporalio_common::protos::temporal::api::sdk::v1::UserMetadata;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
};
use tokio::sync::{Semaphore, watch};

use super::Link;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::temporal;

/// Signals on their way at once, over all Processes.
const CONCURRENT: usize = 32;
/// A signal is one local transaction of the server.
const CALL: Duration = Duration::from_secs(10);
/// Back-off while Temporal is away.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Longest time of a workflow task; see the workflow crate.
const TASK_TIMEOUT: prost_wkt_types::Duration = prost_wkt_types::Duration {
    seconds: 5,
    nanos: 0,
};

/// One signal.
#[derive(Debug, Clone)]
struct Delivery {
    key: ProcessKey,
    request_id: String,
    changed: Changed,
    start: bool,
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
        let text = format!(
            "{}\n{object_uid}\n{resource_version}\n{}",
            key.uid, changed.kind
        );
        self.enqueue(Delivery {
            key: key.clone(),
            request_id: hash::prefix(text.as_bytes(), 16),
            changed,
            start: true,
            seen: Instant::now(),
        });
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

    async fn try_once(&self, link: &Link, request: &Delivery) -> Result<(), Status> {
        let signal = payloads(request.changed.as_json_payload())?;
        let mut connection = link.connection.clone();
        if !request.start {
            let call = SignalWorkflowExecutionRequest {
                namespace: self.namespace.clone(),
                workflow_execution: Some(WorkflowExecution {
                    workflow_id: request.key.lifecycle().to_string(),
                    run_id: String::new(),
                }),
                signal_name: SIGNAL_CHANGED.into(),
                input: Some(signal),
                identity: self.identity.clone(),
                ..Default::default()
            };
            return WorkflowService::signal_workflow_execution(
                &mut connection,
                call.into_request(),
            )
            .await
            .map(|_| ());
        }
        let input = LifecycleInput {
            key: request.key.clone(),
            ..LifecycleInput::default()
        };
        let name = format!("{}/{}", request.key.namespace, request.key.name);
        let call = SignalWithStartWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_id: request.key.lifecycle().to_string(),
            workflow_type: Some(WorkflowType {
                name: TYPE_LIFECYCLE.into(),
            }),
            task_queue: Some(TaskQueue {
                name: QUEUE_MAIN.into(),
                ..Default::default()
            }),
            input: Some(payloads(input.as_json_payload())?),
            workflow_task_timeout: Some(TASK_TIMEOUT),
            identity: self.identity.clone(),
            request_id: request.request_id.clone(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::AllowDuplicate.into(),
            workflow_id_conflict_policy: WorkflowIdConflictPolicy::UseExisting.into(),
            signal_name: SIGNAL_CHANGED.into(),
            signal_input: Some(signal),
            search_attributes: search_attributes(link, &request.key)?,
            user_metadata: Some(UserMetadata {
                summary: Some(json(format!("Process {name}").as_json_payload())?),
                details: Some(json(
                    format!(
                        "Keeps Process {name} (uid {}) as its spec asks. Do not terminate it to stop a rollout: \
                         set spec.suspend.",
                        request.key.uid
                    )
                    .as_json_payload(),
                )?),
            }),
            ..Default::default()
        };
        WorkflowService::signal_with_start_workflow_execution(&mut connection, call.into_request())
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

fn json<E: std::fmt::Display>(payload: Result<Payload, E>) -> Result<Payload, Status> {
    payload.map_err(|error| Status::internal(error.to_string()))
}

fn payloads<E: std::fmt::Display>(payload: Result<Payload, E>) -> Result<Payloads, Status> {
    Ok(Payloads {
        payloads: vec![json(payload)?],
    })
}

/// Set at the start, so that a lifecycle can be found from its first moment.
fn search_attributes(link: &Link, key: &ProcessKey) -> Result<Option<SearchAttributes>, Status> {
    if !*link.search_attributes.borrow() {
        return Ok(None);
    }
    let mut indexed_fields = HashMap::new();
    for (name, value) in [(SA_NAME, &key.name), (SA_NAMESPACE, &key.namespace)] {
        let mut payload = json(value.as_json_payload())?;
        payload.metadata.insert("type".into(), b"Keyword".to_vec());
        indexed_fields.insert(name.to_owned(), payload);
    }
    Ok(Some(SearchAttributes { indexed_fields }))
}
