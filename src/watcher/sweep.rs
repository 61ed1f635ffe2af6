//! The sweep: what Kubernetes cannot tell.
//!
//! A lifecycle terminated by hand, a change missed while no operator ran, routing changed by
//! somebody else, a Temporal namespace that came or went. Its cost is a few calls per Temporal
//! namespace, not per Process, and it only reports: lifecycles look for themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use process_operator_activities::cache::Neighbour;
use process_operator_crds::Reason;
use process_operator_workflows::contract::{ChangeKind, Changed, MEMO_DIGEST, TYPE_LIFECYCLE};
use process_operator_workflows::plan::{DeploymentMark, digest};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Status};
use temporalio_common::protos::coresdk::FromJsonPayloadExt;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeWorkerDeploymentRequest, ListWorkerDeploymentsRequest, ListWorkflowExecutionsRequest,
};

use super::{Link, Shared};
use crate::metrics::Metrics;

/// A Process younger than this may not be visible in Temporal's index yet.
const YOUNG: Duration = Duration::from_secs(10);

/// Sweeps for ever: once when both sides are there, then at the configured interval.
pub(crate) async fn run(shared: Shared) {
    if !shared.listed().await {
        return;
    }
    let Some(link) = shared.link().await else {
        return;
    };
    let mut ticks = tokio::time::interval(shared.config.sweep());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut first = true;
    let mut told = Told::default();
    loop {
        ticks.tick().await;
        let started = Instant::now();
        match sweep(&shared, &link, first, &mut told).await {
            Ok(()) => {
                first = false;
                Metrics::count(&shared.metrics.sweeps, "ok");
            }
            Err(status) => {
                Metrics::count(&shared.metrics.sweeps, "unavailable");
                tracing::warn!("sweep ended early: {}", status.message());
                // The first one stands in for everything missed while nobody watched.
                if first {
                    ticks.reset_after(Duration::from_secs(2).min(shared.config.sweep()));
                }
            }
        }
        shared
            .metrics
            .sweep_seconds
            .set(started.elapsed().as_secs_f64());
    }
}

/// What lifecycles have been told and looked at since: telling it again at every sweep would fill
/// their histories for as long as a roll or somebody else's management lasts.
#[derive(Default)]
struct Told(HashMap<(String, &'static str), String>);

impl Told {
    /// Whether this is news. `None`: there is nothing to tell now.
    fn is_new(&mut self, process: &Neighbour, what: &'static str, mark: Option<String>) -> bool {
        let key = (process.uid.clone(), what);
        let Some(mark) = mark else {
            self.0.remove(&key);
            return false;
        };
        self.0.insert(key, mark.clone()) != Some(mark)
    }

    fn forget_gone(&mut self, processes: &[Neighbour]) {
        let there: BTreeSet<&str> = processes
            .iter()
            .map(|process| process.uid.as_str())
            .collect();
        self.0.retain(|(uid, _), _| there.contains(uid.as_str()));
    }
}

async fn sweep(shared: &Shared, link: &Link, first: bool, told: &mut Told) -> Result<(), Status> {
    let running = running_lifecycles(shared, link).await?;
    let processes = shared.cache.processes();
    told.forget_gone(&processes);
    for process in &processes {
        let id = process.key().lifecycle().to_string();
        let age = jiff::Timestamp::now().duration_since(process.created);
        let young = age.unsigned_abs() < YOUNG && !first;
        match running.get(&id) {
            None if !young => report(shared, process, "no lifecycle runs"),
            None => {}
            Some(seen) => {
                let present = present(shared, process);
                // An empty digest means that the lifecycle has not settled yet.
                let differs = !seen.is_empty() && *seen != present;
                let mark = differs.then(|| format!("{seen} {present}"));
                if told.is_new(process, "changed unseen", mark) {
                    report(shared, process, "changed unseen");
                }
            }
        }
    }
    for namespace in processes
        .iter()
        .filter(|process| !process.temporal_namespace.is_empty())
        .map(|process| process.temporal_namespace.as_str())
        .collect::<BTreeSet<_>>()
    {
        target(shared, link, namespace, &processes, told).await?;
    }
    Ok(())
}

fn report(shared: &Shared, process: &Neighbour, what: &str) {
    Metrics::count_kind(&shared.metrics.sweep_findings, what);
    tracing::info!(
        process = process.name,
        namespace = process.namespace,
        "sweep: {what}"
    );
    shared
        .signaler
        .send_again(&process.key(), Changed::new(ChangeKind::Sweep, what));
}

/// Digest of what the watcher sees now.
fn present(shared: &Shared, process: &Neighbour) -> String {
    let marks = shared
        .cache
        .workloads_of(&process.namespace, &process.name, &process.uid)
        .into_iter()
        .map(|workload| DeploymentMark {
            name: workload.name,
            uid: workload.uid,
            generation: workload.generation,
            available: workload.available,
            any_ready: workload.ready_replicas > 0,
        })
        .collect();
    digest(
        process.generation,
        process.deleting,
        &process.request,
        marks,
    )
}

/// Ids of open lifecycles, with the digest of what they last saw.
async fn running_lifecycles(
    shared: &Shared,
    link: &Link,
) -> Result<HashMap<String, String>, Status> {
    let mut found = HashMap::new();
    let mut next_page_token = Vec::new();
    loop {
        let request = ListWorkflowExecutionsRequest {
            namespace: shared.config.temporal_namespace.clone(),
            page_size: 1000,
            next_page_token,
            query: format!("WorkflowType = '{TYPE_LIFECYCLE}' AND ExecutionStatus = 'Running'"),
            ..Default::default()
        };
        let mut connection = link.connection.clone();
        let page =
            WorkflowService::list_workflow_executions(&mut connection, request.into_request())
                .await?
                .into_inner();
        for info in page.executions {
            let digest = info
                .memo
                .as_ref()
                .and_then(|memo| memo.fields.get(MEMO_DIGEST))
                .and_then(|payload| String::from_json_payload(payload).ok())
                .unwrap_or_default();
            if let Some(execution) = info.execution {
                found.insert(execution.workflow_id, digest);
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        next_page_token = page.next_page_token;
    }
}

/// Compares the routing of one Temporal namespace with what its Processes say about it.
async fn target(
    shared: &Shared,
    link: &Link,
    namespace: &str,
    processes: &[Neighbour],
    told: &mut Told,
) -> Result<(), Status> {
    let here = processes
        .iter()
        .filter(|process| process.temporal_namespace == namespace);
    let missing = Reason::NamespaceNotFound.to_string();
    let routed = match routing(link, namespace).await {
        Ok(routed) => routed,
        Err(status) if status.code() == Code::NotFound => {
            for process in here.filter(|process| process.stalled.as_ref() != Some(&missing)) {
                report(shared, process, "Temporal namespace is gone");
            }
            return Ok(());
        }
        // Not ours to look at; the Process says so itself.
        Err(status) if status.code() == Code::PermissionDenied => return Ok(()),
        Err(status) => return Err(status),
    };
    let elsewhere = Reason::DeploymentOwnedElsewhere.to_string();
    for process in here {
        let name = process.key().worker_deployment();
        let present = routed.get(&name).cloned().flatten();
        let owned_elsewhere = process.stalled.as_ref() == Some(&elsewhere);
        let manager = if owned_elsewhere {
            Some(manager(link, namespace, &name).await?)
        } else {
            None
        };
        let other_manager = told.is_new(process, "Worker Deployment may be free", manager);
        if process.stalled.as_ref() == Some(&missing) {
            report(shared, process, "Temporal namespace is there");
        } else if owned_elsewhere {
            if other_manager {
                report(shared, process, "Worker Deployment may be free");
            }
        } else if process.current.is_some() && process.current != present && !process.deleting {
            report(shared, process, "routing changed");
        }
    }
    Ok(())
}

/// Who manages a Worker Deployment; empty when nobody does.
async fn manager(link: &Link, namespace: &str, deployment: &str) -> Result<String, Status> {
    let request = DescribeWorkerDeploymentRequest {
        namespace: namespace.to_owned(),
        deployment_name: deployment.to_owned(),
        ..Default::default()
    };
    let mut connection = link.connection.clone();
    let answer =
        WorkflowService::describe_worker_deployment(&mut connection, request.into_request()).await;
    match answer {
        Ok(found) => Ok(found
            .into_inner()
            .worker_deployment_info
            .map(|info| info.manager_identity)
            .unwrap_or_default()),
        Err(status) if status.code() == Code::NotFound => Ok(String::new()),
        Err(status) => Err(status),
    }
}

/// Current build id of every Worker Deployment in a Temporal namespace.
async fn routing(link: &Link, namespace: &str) -> Result<BTreeMap<String, Option<String>>, Status> {
    let mut found = BTreeMap::new();
    let mut next_page_token = Vec::new();
    loop {
        let request = ListWorkerDeploymentsRequest {
            namespace: namespace.to_owned(),
            page_size: 1000,
            next_page_token,
            ..Default::default()
        };
        let mut connection = link.connection.clone();
        let page =
            WorkflowService::list_worker_deployments(&mut connection, request.into_request())
                .await?
                .into_inner();
        for deployment in page.worker_deployments {
            let current = deployment
                .routing_config
                .and_then(|routing| routing.current_deployment_version)
                .map(|version| version.build_id);
            found.insert(deployment.name, current);
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        next_page_token = page.next_page_token;
    }
}
