//! Workflows that a Process which goes still runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use process_operator_workflows::contract::{ProcessKey, open_on};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryRequest;

use super::policy::{EndAction, Order};
use super::{call, unless_gone, visibility};
use crate::context::Context;
use crate::error::Result;

/// Runs that are asked whether a worker ever took them, each time.
const UNTAKEN: i32 = 50;
/// Processes asked about in one question.
const TOGETHER: usize = 50;

/// Whose workflows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Whose {
    /// Task queue of the Process, and those of its versions where each has its own.
    pub(crate) queues: Vec<String>,
    /// Its Worker Deployment, whose versions may serve other queues too.
    pub(crate) deployment: String,
}

impl Whose {
    pub(crate) fn new(key: &ProcessKey, queue: &str, more: &[String]) -> Self {
        let own = std::iter::once(queue.to_owned());
        Self {
            queues: own.chain(more.iter().cloned()).collect(),
            deployment: key.worker_deployment(),
        }
    }

    /// Everything that is open, whatever its versioning behaviour.
    pub(crate) fn query(&self) -> String {
        query(std::slice::from_ref(self))
    }
}

fn query(whose: &[Whose]) -> String {
    let queues: Vec<&str> = whose
        .iter()
        .flat_map(|it| &it.queues)
        .map(String::as_str)
        .collect();
    let deployments: Vec<&str> = whose.iter().map(|it| it.deployment.as_str()).collect();
    open_on(&queues, &deployments)
}

/// Questions about one Temporal namespace. Most Processes that are deleted run nothing: one count
/// over many of them says so for all.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: Mutex<BTreeMap<Whose, Option<u64>>>,
    turn: tokio::sync::Mutex<()>,
}

impl Questions {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Whose, Option<u64>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is open, together with all others who wait to know.
    async fn count<F: Future<Output = Result<u64>>>(
        &self,
        whose: &Whose,
        count: impl Fn(String) -> F,
    ) -> Result<u64> {
        self.lock().insert(whose.clone(), None);
        let _asked = Asked(self, whose);
        let _turn = self.turn.lock().await;
        if let Some(Some(answer)) = self.lock().remove(whose) {
            return Ok(answer);
        }
        let mut together = vec![whose.clone()];
        {
            let others = self.lock();
            let unanswered = others.iter().filter(|(_, answer)| answer.is_none());
            together.extend(unanswered.map(|(other, _)| other.clone()).take(TOGETHER));
        }
        let all = count(query(&together)).await?;
        if all == 0 {
            let mut waiting = self.lock();
            for other in &together {
                if let Some(answer) = waiting.get_mut(other) {
                    *answer = Some(0);
                }
            }
            return Ok(0);
        }
        if together.len() == 1 {
            return Ok(all);
        }
        count(whose.query()).await
    }
}

/// A question that nobody waits for any more is not asked.
struct Asked<'a>(&'a Questions, &'a Whose);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(self.1);
    }
}

/// Counts what is open.
pub(crate) async fn count(context: &Context, namespace: &str, whose: &Whose) -> Result<u64> {
    let questions = context.questions_of(namespace);
    questions
        .count(whose, |query| async move {
            visibility::count(context, namespace, &query).await
        })
        .await
}

/// Terminates what no worker ever took and what therefore cannot be cancelled. How many.
pub(crate) async fn terminate_untaken(
    context: &Context,
    namespace: &str,
    whose: &Whose,
    (reason, identity): (&str, &str),
    started_before: Timestamp,
) -> Result<u64> {
    let query = format!(
        "{} AND TemporalWorkerDeploymentVersion IS NULL AND StartTime < '{started_before}'",
        whose.query()
    );
    let reason = format!("{reason}; no worker ever took it");
    let order = Order {
        namespace,
        action: &EndAction::Terminate,
        reason: &reason,
        identity,
    };
    let mut terminated = 0;
    for run in visibility::some(context, namespace, &query, UNTAKEN).await? {
        if untaken(context, namespace, &run).await? {
            terminated += u64::from(order.give(context, run).await?);
        }
    }
    Ok(terminated)
}

/// Its first workflow task was never started.
async fn untaken(context: &Context, namespace: &str, run: &WorkflowExecution) -> Result<bool> {
    let request = GetWorkflowExecutionHistoryRequest {
        namespace: namespace.to_owned(),
        execution: Some(run.clone()),
        maximum_page_size: 20,
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let answer = call(
        "look at a workflow",
        WorkflowService::get_workflow_execution_history(&mut connection, request.into_request()),
    )
    .await;
    let events = unless_gone(answer)?
        .and_then(|page| page.history)
        .map(|history| history.events)
        .unwrap_or_default();
    Ok(!events.is_empty()
        && events
            .iter()
            .all(|event| event.event_type() != EventType::WorkflowTaskStarted))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn whose(n: usize) -> Whose {
        Whose {
            queues: vec![format!("q{n}")],
            deployment: format!("sales/p{n}"),
        }
    }

    #[test]
    fn what_is_open_is_found_by_queue_and_by_deployment() {
        assert_eq!(
            whose(1).query(),
            "(TaskQueue IN ('q1') OR TemporalWorkerDeployment IN ('sales/p1')) AND ExecutionStatus = 'Running'"
        );
    }

    /// Asks for `n` at once; how many counts that took, and what came out.
    async fn ask(n: usize, open: fn(&str) -> u64) -> (usize, Vec<Result<u64>>) {
        let questions = Arc::new(Questions::default());
        let counts = Arc::new(AtomicUsize::new(0));
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..n {
            let (questions, counts) = (questions.clone(), counts.clone());
            asking.spawn(async move {
                let count = |query: String| {
                    counts.fetch_add(1, Ordering::SeqCst);
                    async move {
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        Ok(open(&query))
                    }
                };
                questions.count(&whose(n), count).await
            });
        }
        let answers = asking.join_all().await;
        assert!(questions.lock().is_empty(), "nothing is kept");
        (counts.load(Ordering::SeqCst), answers)
    }

    #[tokio::test]
    async fn a_hundred_that_run_nothing_are_a_few_questions() {
        let (counts, answers) = ask(100, |_| 0).await;
        assert!(answers.iter().all(|answer| *answer == Ok(0)));
        assert!(counts <= 4, "{counts}");
    }

    #[tokio::test]
    async fn each_is_told_its_own_when_one_of_them_runs_something() {
        let (_, answers) = ask(20, |query| u64::from(query.contains("'q7'"))).await;
        let open: u64 = answers.into_iter().flatten().sum();
        assert_eq!(open, 1);
    }
}
