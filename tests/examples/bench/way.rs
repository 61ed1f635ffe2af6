//! Where the time goes between a POST, its Deployment and its Current version: what the API server's audit log and the
//! histories of the operator's workflows say of each creation. All clocks are those of this host.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditMark, Entry};
use process_operator_harness::Env;
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;

use crate::gauge::percentile;

/// When the POST of a Process was sent and when the watch event of its Deployment arrived.
pub(crate) struct Ends {
    pub(crate) name: String,
    pub(crate) sent: Timestamp,
    pub(crate) arrived: Timestamp,
}

/// Marks on the way, in the order in which they are passed.
const MARKS: [&str; 10] = [
    "API server has the POST",
    "POST answered",
    "lifecycle started",
    "first workflow task handed out",
    "finalizer begun",
    "finalizer answered",
    "ControllerRevision answered",
    "apply of the Deployment begun",
    "apply of the Deployment answered",
    "watch event at the client",
];

/// Prints for each mark when it was passed after the POST was sent: the median over all Processes.
pub(crate) async fn print(env: &Env, mark: AuditMark, ends: &[Ends]) -> Result<()> {
    let entries = env.audit.since(mark)?;
    let mut passed: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut asked = BTreeMap::<String, usize>::new();
    for end in ends {
        let process = env.api::<Process>().get(&end.name).await?;
        let uid = process.uid().unwrap_or_default();
        let id = format!("process/{}/{}/{uid}", env.namespace, end.name);
        let history = env.temporal.history(&env.control, &id).await?;
        let at = |wanted: EventType| times(&history, wanted).first().copied();
        let of_it = of(&entries, env, end);
        for entry in of_it.iter().filter(|entry| !is_post(entry)) {
            *asked.entry(request(entry)).or_default() += 1;
        }
        let marks = [
            times_of_requests(&of_it).context("requests of the operator")?,
            vec![
                (MARKS[2], at(EventType::WorkflowExecutionStarted)),
                (MARKS[3], at(EventType::WorkflowTaskStarted)),
                (MARKS[9], Some(end.arrived)),
            ],
        ];
        for (what, time) in marks.into_iter().flatten() {
            if let Some(time) = time {
                let millis = time.duration_since(end.sent).as_secs_f64() * 1000.0;
                passed.entry(what).or_default().push(millis);
            }
        }
    }
    print_passed(ends.len(), MARKS.into_iter(), &mut passed);
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let each = |count: usize| count as f64 / ends.len().max(1) as f64;
    let asked: Vec<String> = asked
        .into_iter()
        .map(|(what, count)| format!("{what} {:.1}", each(count)))
        .collect();
    println!(
        "  requests for each until its Deployment was seen: {}",
        asked.join(", ")
    );
    Ok(())
}

/// When events of this type were written.
fn times(history: &[HistoryEvent], wanted: EventType) -> Vec<Timestamp> {
    let events = history.iter().filter(|event| event.event_type() == wanted);
    let times = events.filter_map(|event| event.event_time);
    times
        .filter_map(|time| Timestamp::new(time.seconds, time.nanos).ok())
        .collect()
}

fn print_passed(
    count: usize,
    marks: impl Iterator<Item = &'static str>,
    passed: &mut BTreeMap<&str, Vec<f64>>,
) {
    println!("  passed after the POST was sent, median of {count}:");
    for what in marks {
        if let Some(millis) = passed.get_mut(what) {
            println!("  {:>6.1} ms  {what}", percentile(millis, 0.5));
        }
    }
}

/// One creation with pods.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) sent: Timestamp,
    /// A watch showed a ready pod.
    pub(crate) ready: Timestamp,
    /// A watch showed the version as Current in the status.
    pub(crate) current: Timestamp,
}

/// Marks on the way from the Deployment to Current, in their order.
const SERVED: [&str; 10] = [
    "lifecycle started",
    "its first task completed: Deployment and status written",
    "rollout started",
    "wait-serving started",
    "pod ready at the client",
    "wait-serving completed: the version polls",
    "set-current started",
    "set-current completed: the task queue knows it",
    "lifecycle's last task completed",
    "Current at the client",
];

/// The same for what comes after the Deployment.
pub(crate) async fn print_served(env: &Env, all: &[Served]) -> Result<()> {
    let mut passed: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for one in all {
        let process = env.api::<Process>().get(&one.name).await?;
        let uid = process.uid().unwrap_or_default();
        let of = format!("{}/{}/{uid}", env.namespace, one.name);
        let lifecycle = format!("process/{of}");
        let lifecycle = env.temporal.history(&env.control, &lifecycle).await?;
        let children = env
            .temporal
            .list(&env.control, "WorkflowType = 'ProcessRollout'");
        let children = children.await?.into_iter();
        let mut ids = children.filter_map(|info| Some(info.execution?.workflow_id));
        let rollout = ids
            .find(|id| id.contains(&of))
            .context("no rollout of this Process")?;
        let rollout = env.temporal.history(&env.control, &rollout).await?;
        let begun = times(&rollout, EventType::ActivityTaskStarted);
        let done = times(&rollout, EventType::ActivityTaskCompleted);
        let tasks = times(&lifecycle, EventType::WorkflowTaskCompleted);
        let started = |history: &[HistoryEvent]| {
            times(history, EventType::WorkflowExecutionStarted)
                .first()
                .copied()
        };
        let marks = [
            started(&lifecycle),
            tasks.first().copied(),
            started(&rollout),
            begun.first().copied(),
            Some(one.ready),
            done.first().copied(),
            begun.get(1).copied(),
            done.get(1).copied(),
            tasks.last().copied(),
            Some(one.current),
        ];
        for (what, time) in SERVED.into_iter().zip(marks) {
            if let Some(time) = time {
                let millis = time.duration_since(one.sent).as_secs_f64() * 1000.0;
                passed.entry(what).or_default().push(millis);
            }
        }
    }
    print_passed(all.len(), SERVED.into_iter(), &mut passed);
    Ok(())
}

/// What was asked about a Process and what is made for it, until its Deployment was seen.
fn of<'a>(entries: &'a [Entry], env: &Env, end: &Ends) -> Vec<&'a Entry> {
    let chosen = format!("process%3D{}&", end.name);
    let about = |entry: &&Entry| {
        let Some(object) = &entry.object_ref else {
            return false;
        };
        let named = object.name == end.name || object.name.starts_with(&format!("{}-", end.name));
        // A list names the Process in its selector; a POST may name its object in its body, and then the time tells.
        let unnamed = object.name.is_empty()
            && (entry.verb != "list" || format!("{}&", entry.request_uri).contains(&chosen));
        let in_time = entry.request_received_timestamp >= end.sent
            && entry.request_received_timestamp <= end.arrived;
        object.namespace == env.namespace && in_time && (named || unnamed)
    };
    let mut found: Vec<&Entry> = entries.iter().filter(about).collect();
    found.sort_by_key(|entry| entry.request_received_timestamp);
    found
}

fn request(entry: &Entry) -> String {
    let object = entry.object_ref.clone().unwrap_or_default();
    let resource = if object.subresource.is_empty() {
        object.resource
    } else {
        format!("{}/{}", object.resource, object.subresource)
    };
    format!("{} {resource}", entry.verb)
}

fn is_post(entry: &Entry) -> bool {
    request(entry) == "create processes"
}

fn times_of_requests(entries: &[&Entry]) -> Option<Vec<(&'static str, Option<Timestamp>)>> {
    let begun = |entry: Option<&&Entry>| entry.map(|entry| entry.request_received_timestamp);
    let post = entries.iter().find(|entry| is_post(entry))?;
    let by_operator = || entries.iter().filter(|entry| !is_post(entry));
    let first = |what: &str| by_operator().find(|entry| request(entry) == what);
    let write = |resource: &str| {
        by_operator().find(|entry| {
            entry.is_mutating()
                && entry
                    .object_ref
                    .as_ref()
                    .is_some_and(|object| object.resource == resource)
        })
    };
    let answered = |entry: Option<&&Entry>| entry.map(|entry| entry.stage_timestamp);
    let applied = write("deployments");
    let finalizer = first("patch processes");
    Some(vec![
        (MARKS[0], Some(post.request_received_timestamp)),
        (MARKS[1], Some(post.stage_timestamp)),
        (MARKS[4], begun(finalizer)),
        (MARKS[5], answered(finalizer)),
        (MARKS[6], answered(write("controllerrevisions"))),
        (MARKS[7], begun(applied)),
        (MARKS[8], answered(applied)),
    ])
}
