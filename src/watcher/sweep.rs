//! The sweep: what Kubernetes cannot tell.
//!
//! A lifecycle terminated by hand, a change missed while no operator ran, routing changed by
//! somebody else, a status that others wrote into, a Temporal namespace that came or went. Its cost is a few calls per Temporal
//! namespace, not per Process, and it only reports: lifecycles look for themselves.

mod children;
mod stuck;
mod targets;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use process_operator_activities::cache::Neighbour;
use process_operator_crds::names::WorkflowId;
use process_operator_workflows::contract::{
    ChangeKind, Changed, MEMO_DIGEST, TYPE_LIFECYCLE, TYPES_CHILDREN,
};
use process_operator_workflows::plan::{DeploymentMark, cron_job_mark, digest};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{IntoRequest, Status};
use temporalio_common::protos::coresdk::FromJsonPayloadExt;
use temporalio_common::protos::temporal::api::workflowservice::v1::ListWorkflowExecutionsRequest;

use super::{Link, Shared, again};
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
        let round = Round {
            shared: &shared,
            link: &link,
            first,
        };
        match sweep(&round, &mut told).await {
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
struct Told {
    findings: HashMap<(String, &'static str), String>,
    /// What children of a Process were missing at the last sweep, by its uid.
    missing: HashMap<String, String>,
    /// Lifecycles without a Process.
    bereaved: BTreeSet<String>,
    stuck: stuck::Sightings,
}

impl Told {
    /// Whether this is news. `None`: there is nothing to tell now.
    fn is_new(&mut self, process: &Neighbour, what: &'static str, mark: Option<String>) -> bool {
        let key = (process.uid.clone(), what);
        let Some(mark) = mark else {
            self.findings.remove(&key);
            return false;
        };
        self.findings.insert(key, mark.clone()) != Some(mark)
    }

    /// Nothing was told after all.
    fn take_back(&mut self, process: &Neighbour, what: &'static str) {
        self.findings.remove(&(process.uid.clone(), what));
    }

    fn forget_gone(&mut self, processes: &[Neighbour]) {
        let there: BTreeSet<&str> = processes
            .iter()
            .map(|process| process.uid.as_str())
            .collect();
        self.findings
            .retain(|(uid, _), _| there.contains(uid.as_str()));
        self.missing.retain(|uid, _| there.contains(uid.as_str()));
    }
}

/// One round.
struct Round<'a> {
    shared: &'a Shared,
    link: &'a Link,
    /// The lists are new, and stand in for everything missed while nobody watched.
    first: bool,
}

impl Round<'_> {
    /// The Process as it is now; `None` when it is gone or cannot be read. What the watcher has
    /// seen may be out of date, and what only seems to differ would seem so at every sweep.
    async fn fresh(&self, process: &Neighbour) -> Option<Neighbour> {
        if self.first {
            return Some(process.clone());
        }
        again::look(self.shared, process)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(
                    process = process.name,
                    namespace = process.namespace,
                    "sweep: cannot be read: {error}"
                );
                None
            })
    }

    /// Reports what is found on a Process, if a fresh look finds it too.
    async fn confirm(
        &self,
        process: &Neighbour,
        finding: impl Fn(&Neighbour) -> Option<&'static str>,
    ) {
        if finding(process).is_none() {
            return;
        }
        if let Some(fresh) = self.fresh(process).await
            && let Some(what) = finding(&fresh)
        {
            report(self.shared, &fresh, what);
        }
    }

    /// Compares what a lifecycle last saw with what there is.
    async fn compare(&self, process: &Neighbour, seen: &str, told: &mut Told) {
        const WHAT: &str = "changed unseen";
        let mark = |process: &Neighbour| {
            let present = present(self.shared, process);
            // An empty digest means that the lifecycle has not settled yet.
            (!seen.is_empty() && seen != present).then(|| format!("{seen} {present}"))
        };
        if !told.is_new(process, WHAT, mark(process)) {
            return;
        }
        let mark = self.fresh(process).await.and_then(|fresh| mark(&fresh));
        if mark.is_none() {
            told.take_back(process, WHAT);
        } else {
            told.is_new(process, WHAT, mark);
            report(self.shared, process, WHAT);
        }
    }

    /// A status that others have written into says what is not so until somebody looks: told once for
    /// each such write, so that who writes again and again is answered once a sweep.
    fn rewritten(&self, process: &Neighbour, told: &mut Told) {
        const WHAT: &str = "status written by others";
        let mark = self.shared.cache.foreign_status(&process.uid);
        if told.is_new(process, WHAT, mark) {
            report(self.shared, process, WHAT);
        }
    }

    /// Deployments of an earlier release lack the owner that keeps them through a foreground deletion.
    fn unheld(&self, process: &Neighbour, told: &mut Told) {
        const WHAT: &str = "owned as by an earlier release";
        let cache = &self.shared.cache;
        let unheld = cache
            .workloads_of(&process.namespace, &process.name, &process.uid)
            .into_iter()
            .find(|workload| !workload.held && !workload.deleting);
        let mark = unheld.filter(|_| !process.deleting).map(|it| it.uid);
        if told.is_new(process, WHAT, mark) {
            report(self.shared, process, WHAT);
        }
    }
}

async fn sweep(round: &Round<'_>, told: &mut Told) -> Result<(), Status> {
    let Running {
        lifecycles: running,
        children,
        stuck,
    } = running(round).await?;
    let processes = round.shared.cache.processes();
    told.forget_gone(&processes);
    stuck::look(round, &stuck, &processes, told).await;
    bereaved(round, &running, &processes, told);
    for process in &processes {
        let id = process.key().lifecycle().to_string();
        let age = jiff::Timestamp::now().duration_since(process.created);
        let young = age.unsigned_abs() < YOUNG && !round.first;
        match running.get(&id) {
            Some(seen) => {
                round.compare(process, seen, told).await;
                round.unheld(process, told);
                round.rewritten(process, told);
                children::compare(round, process, &children, told);
            }
            None if young => {}
            None => round.confirm(process, unattended).await,
        }
    }
    for namespace in processes
        .iter()
        .filter(|process| !process.temporal_namespace.is_empty())
        .map(|process| process.temporal_namespace.as_str())
        .collect::<BTreeSet<_>>()
    {
        targets::compare(round, namespace, &processes, told).await?;
    }
    Ok(())
}

/// What is found where no lifecycle runs. One that somebody else still holds after we have let it go needs none: it would
/// end at once, with each sweep anew.
fn unattended(process: &Neighbour) -> Option<&'static str> {
    let let_go = process.deleting && !process.finalizer;
    (!let_go).then_some("no lifecycle runs")
}

/// Lifecycles whose Process has gone while nobody could tell them, such as with Temporal away: told
/// once, they clean up and end. Those of Processes that are not watched here are left alone.
fn bereaved(
    round: &Round<'_>,
    running: &HashMap<String, String>,
    processes: &[Neighbour],
    told: &mut Told,
) {
    let there: BTreeSet<&str> = processes
        .iter()
        .map(|process| process.uid.as_str())
        .collect();
    let scope = &round.shared.config.watch_namespaces;
    for id in running.keys() {
        let Ok(WorkflowId::Lifecycle(key)) = id.parse() else {
            continue;
        };
        let watched = scope.is_empty() || scope.contains(&key.namespace);
        if !watched || there.contains(key.uid.as_str()) || !told.bereaved.insert(id.clone()) {
            continue;
        }
        Metrics::count_kind(&round.shared.metrics.sweep_findings, "Process is gone");
        let changed = Changed::new(ChangeKind::Sweep, "the Process is gone");
        round.shared.signaler.send_if_running(&key, changed);
    }
    told.bereaved.retain(|id| running.contains_key(id));
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
    let route = shared.cache.route(&process.namespace, &process.name);
    let route = route.filter(|_| !process.versioning.is_default());
    let jobs = shared.cache.jobs_of(&process.namespace, &process.uid);
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
        .chain(route.map(|mark| DeploymentMark {
            name: mark,
            ..DeploymentMark::default()
        }))
        .chain(jobs.into_iter().map(|job| DeploymentMark {
            name: cron_job_mark(&job.name),
            uid: job.uid,
            generation: job.generation,
            ..DeploymentMark::default()
        }))
        .collect();
    digest(
        process.generation,
        process.deleting,
        &process.request,
        marks,
    )
}

/// What is open of the operator's own.
#[derive(Default)]
struct Running {
    /// Ids of lifecycles, with the digest of what they last saw.
    lifecycles: HashMap<String, String>,
    children: Vec<WorkflowId>,
    /// Those of them whose workflow tasks fail.
    stuck: Vec<stuck::Stuck>,
}

async fn running(round: &Round<'_>) -> Result<Running, Status> {
    let mut found = Running::default();
    let mut next_page_token = Vec::new();
    let [one, other] = TYPES_CHILDREN;
    let types = format!("'{TYPE_LIFECYCLE}', '{one}', '{other}'");
    loop {
        let request = ListWorkflowExecutionsRequest {
            namespace: round.shared.config.temporal_namespace.clone(),
            page_size: 1000,
            next_page_token,
            query: format!("WorkflowType IN ({types}) AND ExecutionStatus = 'Running'"),
            ..Default::default()
        };
        let mut connection = round.link.connection.clone();
        let page =
            WorkflowService::list_workflow_executions(&mut connection, request.into_request())
                .await?
                .into_inner();
        for info in page.executions {
            let execution = info.execution.as_ref();
            let id = execution.map(|execution| execution.workflow_id.clone());
            let id = id.and_then(|id| id.parse().ok().map(|parsed| (id, parsed)));
            let stuck = id.as_ref().and_then(|(_, id)| stuck::Stuck::of(&info, id));
            found.stuck.extend(stuck);
            match id {
                Some((id, WorkflowId::Lifecycle(_))) => {
                    let digest = info
                        .memo
                        .as_ref()
                        .and_then(|memo| memo.fields.get(MEMO_DIGEST))
                        .and_then(|payload| String::from_json_payload(payload).ok())
                        .unwrap_or_default();
                    found.lifecycles.insert(id, digest);
                }
                Some((_, child)) => found.children.push(child),
                None => {}
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        next_page_token = page.next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_needs_no_lifecycle() {
        for (deleting, finalizer, needs) in [
            // New: the lifecycle is to give it its finalizer.
            (false, false, true),
            (false, true, true),
            (true, true, true),
            (true, false, false),
        ] {
            let process = Neighbour {
                deleting,
                finalizer,
                ..Neighbour::default()
            };
            let found = unattended(&process).is_some();
            assert_eq!(found, needs, "{deleting} {finalizer}");
        }
    }
}
