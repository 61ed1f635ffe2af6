//! What waits on the task queue of a Process, and who polls it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::names::{self, ProcessKey};
use process_operator_crds::spec::Versioning;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion;
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueType;
use temporalio_common::protos::temporal::api::taskqueue::v1::{PollerInfo, TaskQueueStats};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeWorkerDeploymentVersionRequest;

use super::{call, timestamp, unless_gone, versions};
use crate::context::Context;
use crate::error::Result;

/// A poll takes up to a minute; the server remembers pollers for longer than they poll.
const POLLS: SignedDuration = SignedDuration::from_secs(70);

/// The two kinds of tasks that workers of a Process take.
const KINDS: [(TaskQueueType, &str); 2] = [
    (TaskQueueType::Workflow, "workflow"),
    (TaskQueueType::Activity, "activity"),
];

/// Which task queues are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The Process.
    pub key: ProcessKey,
    /// `spec.temporal.namespace`.
    pub temporal_namespace: String,
    /// `spec.temporal.taskQueue`.
    pub task_queue: String,
    /// `spec.rollout.versioning`.
    pub versioning: Versioning,
    /// Role and build id of its versions; of the first ones when there are many.
    pub versions: Vec<(&'static str, String)>,
}

/// One kind of tasks on one task queue, for one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// `workflow` or `activity`.
    pub kind: &'static str,
    /// `current`, `ramping`, `draining`, or `none` as long as no version takes workflows.
    pub role: &'static str,
    /// Empty where tasks are not told apart by version.
    pub build_id: String,
    /// Its name.
    pub task_queue: String,
    /// Tasks that wait, as the server estimates.
    pub backlog: i64,
    /// How long the oldest of them has waited.
    pub age: Duration,
    /// Tasks a second that came, in the last half minute.
    pub added: f64,
    /// Tasks a second that were handed out.
    pub dispatched: f64,
    /// Workers that poll.
    pub pollers: usize,
}

impl Side {
    /// Nothing waits and nothing moves.
    pub fn idle(&self) -> bool {
        self.backlog == 0 && self.added <= 0.0 && self.dispatched <= 0.0
    }

    fn with(mut self, stats: Option<&TaskQueueStats>) -> Self {
        let Some(stats) = stats else { return self };
        self.backlog = stats.approximate_backlog_count.max(0);
        self.age = stats
            .approximate_backlog_age
            .filter(|_| self.backlog > 0)
            .and_then(|age| Duration::try_from(age).ok())
            .unwrap_or_default();
        self.added = stats.tasks_add_rate.into();
        self.dispatched = stats.tasks_dispatch_rate.into();
        self
    }
}

/// Asks. Two reads for each task queue, and one for each version that Temporal tells apart; they wait
/// behind what changes something.
pub async fn look(context: &Context, question: &Question) -> Result<Vec<Side>> {
    let current = question.versions.iter().any(|(role, _)| *role == "current");
    match question.versioning {
        Versioning::WorkerVersioning if current => by_version(context, question).await,
        Versioning::TaskQueuePerVersion if !question.versions.is_empty() => {
            let mut sides = Vec::new();
            for (role, build_id) in &question.versions {
                let queue = names::task_queue(question.versioning, &question.task_queue, build_id);
                sides.extend(whole(context, question, &queue, (role, build_id)).await?);
            }
            Ok(sides)
        }
        _ => {
            let role = if current { "current" } else { "none" };
            whole(context, question, &question.task_queue, (role, "")).await
        }
    }
}

/// A task queue whose tasks are for whoever polls it.
async fn whole(
    context: &Context,
    question: &Question,
    queue: &str,
    (role, build_id): (&'static str, &str),
) -> Result<Vec<Side>> {
    let mut sides = Vec::new();
    for (side, kind) in KINDS {
        let found =
            versions::queue_with_stats(context, &question.temporal_namespace, queue, side).await?;
        let side = Side {
            kind,
            role,
            build_id: build_id.to_owned(),
            task_queue: queue.to_owned(),
            pollers: found.pollers.iter().filter(|it| polls(it)).count(),
            ..Side::default()
        };
        sides.push(side.with(found.stats.as_ref()));
    }
    Ok(sides)
}

/// A task queue that versions share.
async fn by_version(context: &Context, question: &Question) -> Result<Vec<Side>> {
    let queue = &question.task_queue;
    let mut pollers = Vec::new();
    for (side, kind) in KINDS {
        let found =
            versions::queue_with_stats(context, &question.temporal_namespace, queue, side).await?;
        pollers.push((kind, found.pollers));
    }
    let mut sides = Vec::new();
    for (role, build_id) in &question.versions {
        context.poll_turn(&question.temporal_namespace).await;
        let request = DescribeWorkerDeploymentVersionRequest {
            namespace: question.temporal_namespace.clone(),
            deployment_version: Some(WorkerDeploymentVersion {
                deployment_name: question.key.worker_deployment(),
                build_id: build_id.clone(),
            }),
            report_task_queue_stats: true,
            ..Default::default()
        };
        let mut connection = context.connection.clone();
        let answer = call(
            "read backlog of a version",
            WorkflowService::describe_worker_deployment_version(
                &mut connection,
                request.into_request(),
            ),
        );
        let queues = unless_gone(answer.await)?
            .map(|found| found.version_task_queues)
            .unwrap_or_default();
        for ((side, kind), (_, pollers)) in KINDS.iter().zip(&pollers) {
            let found = queues
                .iter()
                .find(|found| found.r#type() == *side && found.name == *queue);
            let of_version = |poller: &&PollerInfo| {
                let options = poller.deployment_options.as_ref();
                options.is_some_and(|options| options.build_id == *build_id)
            };
            let side = Side {
                kind,
                role,
                build_id: build_id.clone(),
                task_queue: queue.clone(),
                pollers: pollers
                    .iter()
                    .filter(of_version)
                    .filter(|it| polls(it))
                    .count(),
                ..Side::default()
            };
            sides.push(side.with(found.and_then(|found| found.stats.as_ref())));
        }
    }
    Ok(sides)
}

fn polls(poller: &PollerInfo) -> bool {
    let last = poller.last_access_time.as_ref().map(timestamp);
    last.is_some_and(|last| Timestamp::now().duration_since(last) < POLLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_what_is_gone_is_not_told() {
        let stats = |count| TaskQueueStats {
            approximate_backlog_count: count,
            approximate_backlog_age: Some(prost_wkt_types::Duration {
                seconds: 7,
                nanos: 0,
            }),
            ..Default::default()
        };
        let side = |count| Side::default().with(Some(&stats(count)));
        assert_eq!(side(3).age, Duration::from_secs(7));
        assert_eq!(side(0).age, Duration::ZERO);
        assert!(side(0).idle() && !side(1).idle());
    }
}
