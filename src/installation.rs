//! Which installation of the operator this is, and whether another one works in its Temporal namespace.
//!
//! Two installations there would take each other's work: one would look for the Processes of the other in
//! its own cluster, or with rights that it does not have. The pollers of a task queue tell who they are, so
//! nothing has to be written anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use process_operator_activities::build::hash;
use process_operator_workflows::contract::{QUEUE_MAIN, QUEUE_WAITS};
use temporalio_client::Connection;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{IntoRequest, Status};
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueType;
use temporalio_common::protos::temporal::api::taskqueue::v1::{PollerInfo, TaskQueue};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeTaskQueueRequest;

use crate::config::Config;
use crate::health::{Part, Readiness};
use crate::metrics::Metrics;

/// Between the name of a replica and its installation, see [`Config::identity`].
const OF: &str = "@process-operator/";
/// A poll takes up to a minute; the server remembers pollers for longer than they poll.
const POLLS: SignedDuration = SignedDuration::from_secs(70);
/// Where it is looked. The server tells who polls the first partition of a queue, which workflow pollers leave
/// for the sticky queue of their replica; those of the long waits are enough for all partitions.
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

/// Other installations among those who poll.
fn among(own: &Installation, pollers: &[PollerInfo], now: Timestamp) -> BTreeSet<Installation> {
    let recent = |poller: &&PollerInfo| {
        let seen = poller.last_access_time.as_ref();
        let seen = seen.and_then(|seen| Timestamp::new(seen.seconds, 0).ok());
        seen.is_some_and(|seen| now.duration_since(seen) < POLLS)
    };
    let pollers = pollers.iter().filter(recent);
    pollers
        .filter_map(|poller| Installation::of(&poller.identity))
        .filter(|found| found != own)
        .collect()
}

/// Other installations that work in a Temporal namespace.
pub(crate) async fn others(
    connection: &Connection,
    temporal_namespace: &str,
    own: &Installation,
) -> Result<BTreeSet<Installation>, Status> {
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
        let mut connection = connection.clone();
        let answer = WorkflowService::describe_task_queue(&mut connection, request.into_request());
        let pollers = answer.await?.into_inner().pollers;
        found.extend(among(own, &pollers, Timestamp::now()));
    }
    Ok(found)
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

    fn poller(identity: &str, seconds_ago: i64) -> PollerInfo {
        let seconds = 1_000 - seconds_ago;
        PollerInfo {
            identity: identity.to_owned(),
            last_access_time: Some(prost_wkt_types::Timestamp { seconds, nanos: 0 }),
            ..PollerInfo::default()
        }
    }

    #[test]
    fn replicas_of_one_installation_know_each_other() {
        let one = installation(&["--watch-namespace", "b,a"], "c1");
        let two = installation(&["--watch-namespace", "a", "--watch-namespace", "b"], "c1");
        assert_eq!(one, two);
        assert_eq!(Installation::of(&identity(&one)), Some(two));
        assert_eq!(Installation::of("operator-0@process-operator"), None);
    }

    #[test]
    fn others_are_those_who_poll_now_and_are_not_of_this_one() {
        let own = installation(&[], "c1");
        let elsewhere = installation(&[], "c2");
        let beside = installation(&["--namespace", "other"], "c1");
        let changed = installation(&["--watch-namespace", "a"], "c1");
        assert!(own.is_foreign(&elsewhere) && own.is_foreign(&beside));
        assert!(!own.is_foreign(&changed), "it may be this one, upgraded");
        let pollers = [
            poller(&identity(&own), 1),
            poller(&identity(&elsewhere), 1),
            poller(&identity(&beside), 90),
            poller(&identity(&changed), 60),
            poller("operator-0@process-operator", 1),
        ];
        let now = Timestamp::from_second(1_000).unwrap();
        let found = among(&own, &pollers, now);
        assert_eq!(found, [elsewhere, changed].into());
    }
}
