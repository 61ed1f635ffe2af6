//! Which installation of the operator this is, and whether another one works in its Temporal namespace.
//!
//! Two installations there would take each other's work: one would look for the Processes of the other in
//! its own cluster, or with rights that it does not have. Workers tell the server who they are, with their
//! heartbeats and, where the server keeps no list of these, with their polls; so nothing has to be written
//! anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use process_operator_activities::build::hash;
use process_operator_workflows::contract::{QUEUE_MAIN, QUEUE_WAITS};
use temporalio_client::Connection;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest, Status};
use temporalio_common::protos::temporal::api::enums::v1::{TaskQueueType, WorkerStatus};
use temporalio_common::protos::temporal::api::taskqueue::v1::{PollerInfo, TaskQueue};
use temporalio_common::protos::temporal::api::worker::v1::WorkerInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeTaskQueueRequest, ListWorkersRequest,
};

use crate::config::Config;
use crate::health::{Part, Readiness};
use crate::metrics::Metrics;

/// Between the name of a replica and its installation, see [`Config::identity`].
const OF: &str = "@process-operator/";
/// A poll takes up to a minute; the server remembers pollers for longer than they poll.
const POLLS: SignedDuration = SignedDuration::from_secs(70);
/// A worker says that it is there once a minute.
const BEATS: SignedDuration = SignedDuration::from_secs(90);
/// Where is looked for pollers. The server tells who polls the first partition of a queue, which workflow
/// pollers leave for the sticky queue of their replica; those of the long waits are enough for all partitions.
const QUEUES: [(&str, TaskQueueType); 2] = [
    (QUEUE_WAITS, TaskQueueType::Activity),
    (QUEUE_MAIN, TaskQueueType::Workflow),
];
/// Between two looks while another installation is there.
const AGAIN: Duration = Duration::from_secs(5);

/// All replicas that share their work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Installation {
    /// Hash of the cluster's uid.
    cluster: String,
    /// The operator's Kubernetes namespace.
    namespace: String,
    /// Hash of the namespaces that are watched; `all` for all.
    watched: String,
}

impl Installation {
    pub(crate) fn new(config: &Config, cluster_uid: &str) -> Self {
        let watched: BTreeSet<&str> = config.watch_namespaces.iter().map(String::as_str).collect();
        let watched: Vec<&str> = watched.into_iter().collect();
        let short = |text: &str| hash::prefix(text.as_bytes(), 4);
        Self {
            cluster: short(cluster_uid),
            namespace: config.namespace.clone(),
            watched: if watched.is_empty() {
                "all".to_owned()
            } else {
                short(&watched.join(","))
            },
        }
    }

    /// Identity of a replica's workers: its own, and the installation.
    pub(crate) fn identity(&self, config: &Config) -> String {
        format!("{}/{self}", config.identity())
    }

    /// `None` for workers that do not say, such as those of an earlier release.
    fn of(identity: &str) -> Option<Self> {
        let (_, text) = identity.rsplit_once(OF)?;
        let mut parts = text.split('/').map(str::to_owned);
        let found = Self {
            cluster: parts.next()?,
            namespace: parts.next()?,
            watched: parts.next()?,
        };
        parts.next().is_none().then_some(found)
    }

    /// Its replicas cannot be those of this one after a change of its flags.
    fn is_foreign(&self, other: &Self) -> bool {
        self.cluster != other.cluster || self.namespace != other.namespace
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.watched)
    }
}

/// Time since something was seen, if it ever was.
fn ago(now: Timestamp, seen: Option<&prost_wkt_types::Timestamp>) -> Option<SignedDuration> {
    let seen = Timestamp::new(seen?.seconds, 0).ok()?;
    Some(now.duration_since(seen))
}

/// Identities of workers that are at work.
fn beating(workers: &[WorkerInfo], now: Timestamp) -> BTreeSet<String> {
    let beats = workers
        .iter()
        .filter_map(|worker| worker.worker_heartbeat.as_ref());
    beats
        .filter(|beat| beat.status() == WorkerStatus::Running)
        .filter(|beat| ago(now, beat.heartbeat_time.as_ref()).is_some_and(|ago| ago < BEATS))
        .map(|beat| beat.worker_identity.clone())
        .collect()
}

/// Identities of those who poll.
fn polling(pollers: &[PollerInfo], now: Timestamp) -> BTreeSet<String> {
    pollers
        .iter()
        .filter(|poller| ago(now, poller.last_access_time.as_ref()).is_some_and(|ago| ago < POLLS))
        .map(|poller| poller.identity.clone())
        .collect()
}

/// Other installations among these identities.
fn among(own: &Installation, identities: &BTreeSet<String>) -> BTreeSet<Installation> {
    identities
        .iter()
        .filter_map(|identity| Installation::of(identity))
        .filter(|found| found != own)
        .collect()
}

/// Other installations that work in a Temporal namespace.
pub(crate) async fn others(
    connection: &Connection,
    temporal_namespace: &str,
    own: &Installation,
) -> Result<BTreeSet<Installation>, Status> {
    let now = Timestamp::now();
    let request = ListWorkersRequest {
        namespace: temporal_namespace.to_owned(),
        page_size: 1000,
        query: format!("TaskQueue = '{QUEUE_MAIN}'"),
        ..Default::default()
    };
    let mut client = connection.clone();
    match WorkflowService::list_workers(&mut client, request.into_request()).await {
        Ok(answer) => {
            #[allow(
                deprecated,
                reason = "the other list does not say when a worker was last heard"
            )]
            let workers = answer.into_inner().workers_info;
            // Empty too where the server keeps no such list.
            if !workers.is_empty() {
                return Ok(among(own, &beating(&workers, now)));
            }
        }
        Err(status) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => {}
        Err(status) => return Err(status),
    }
    let mut found = BTreeSet::new();
    for (queue, kind) in QUEUES {
        let request = DescribeTaskQueueRequest {
            namespace: temporal_namespace.to_owned(),
            task_queue: Some(TaskQueue {
                name: queue.to_owned(),
                ..Default::default()
            }),
            task_queue_type: kind.into(),
            ..Default::default()
        };
        let answer = WorkflowService::describe_task_queue(&mut client, request.into_request());
        found.extend(polling(&answer.await?.into_inner().pollers, now));
    }
    Ok(among(own, &found))
}

/// For people: who they are, and what to do.
pub(crate) fn told(temporal_namespace: &str, others: &BTreeSet<Installation>) -> String {
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    format!(
        "another installation of the operator works in Temporal namespace {temporal_namespace}: {} \
         (cluster/namespace/what it watches); give each one a namespace of its own with \
         --temporal-namespace",
        names.join(", ")
    )
}

/// Waits as long as another installation is at work there: two would harm each other's Processes. A server
/// that does not say who polls is trusted.
pub(crate) async fn alone(
    connection: &Connection,
    temporal_namespace: &str,
    own: &Installation,
    (readiness, metrics): (&Readiness, &Metrics),
) {
    let mut said = String::new();
    loop {
        let mut others = match others(connection, temporal_namespace, own).await {
            Ok(others) => others,
            Err(status) => {
                tracing::warn!(
                    "cannot see who else works in Temporal namespace {temporal_namespace}: {}",
                    status.message()
                );
                return;
            }
        };
        others.retain(|other| own.is_foreign(other));
        metrics.others(others.len());
        if others.is_empty() {
            return;
        }
        let why = told(temporal_namespace, &others);
        if why != said {
            tracing::error!("{why}; waiting until it is gone");
            said.clone_from(&why);
        }
        readiness.down(Part::Workers, why);
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use temporalio_common::protos::temporal::api::worker::v1::WorkerHeartbeat;

    use super::*;
    use crate::config::{Cli, Command};

    fn config(args: &[&str]) -> Config {
        let all = ["process-operator", "run"].iter().chain(args);
        match Cli::parse_from(all).command {
            Command::Run(config) => config,
            Command::Probe(_) => unreachable!(),
        }
    }

    fn installation(args: &[&str], cluster: &str) -> Installation {
        Installation::new(&config(args), cluster)
    }

    /// Of its first replica.
    fn identity(of: &Installation) -> String {
        of.identity(&config(&["--instance", "operator-0"]))
    }

    fn at(seconds: i64) -> prost_wkt_types::Timestamp {
        prost_wkt_types::Timestamp { seconds, nanos: 0 }
    }

    const NOW: i64 = 1_000;

    #[test]
    fn replicas_of_one_installation_know_each_other() {
        let one = installation(&["--watch-namespace", "b,a"], "c1");
        let two = installation(&["--watch-namespaces", "a,b"], "c1");
        assert_eq!(one, two);
        assert_eq!(Installation::of(&identity(&one)), Some(two));
        assert_eq!(Installation::of("operator-0@process-operator"), None);
    }

    #[test]
    fn others_are_of_another_cluster_or_namespace() {
        let own = installation(&[], "c1");
        let elsewhere = installation(&[], "c2");
        let beside = installation(&["--namespace", "other"], "c1");
        let changed = installation(&["--watch-namespace", "a"], "c1");
        assert!(own.is_foreign(&elsewhere) && own.is_foreign(&beside));
        assert!(!own.is_foreign(&changed), "it may be this one, upgraded");
        let all = [&own, &elsewhere, &beside, &changed].map(identity);
        let of_earlier = "operator-0@process-operator".to_owned();
        let all = all.into_iter().chain([of_earlier]).collect();
        assert_eq!(among(&own, &all), [elsewhere, beside, changed].into());
    }

    #[test]
    fn only_those_count_that_are_at_work_now() {
        let now = Timestamp::from_second(NOW).unwrap();
        let poller = |identity: &str, ago: i64| PollerInfo {
            identity: identity.to_owned(),
            last_access_time: Some(at(NOW - ago)),
            ..PollerInfo::default()
        };
        let pollers = [poller("here", 60), poller("gone", 80)];
        assert_eq!(polling(&pollers, now), ["here".to_owned()].into());
        let worker = |identity: &str, status: WorkerStatus, ago: i64| WorkerInfo {
            worker_heartbeat: Some(WorkerHeartbeat {
                worker_identity: identity.to_owned(),
                status: status.into(),
                heartbeat_time: Some(at(NOW - ago)),
                ..WorkerHeartbeat::default()
            }),
        };
        let workers = [
            worker("here", WorkerStatus::Running, 60),
            worker("stopped", WorkerStatus::ShuttingDown, 1),
            worker("killed", WorkerStatus::Running, 100),
        ];
        assert_eq!(beating(&workers, now), ["here".to_owned()].into());
    }
}
