//! Workflows of the operator whose workflow tasks fail again and again.
//!
//! What such a workflow looks after stands still, and it cannot say so itself: the server's index does. When its
//! history does not fit the code, as after the operator was set back to an earlier release, no new try will pass. A
//! lifecycle is then replaced by another run, which goes on from what there is, and so is a drain, by its lifecycle.

use std::collections::BTreeMap;

use process_operator_activities::cache::Neighbour;
use process_operator_activities::events::Note;
use process_operator_crds::names::WorkflowId;
use process_operator_workflows::contract::EventType;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest};
use temporalio_common::protos::coresdk::FromJsonPayloadExt;
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;
use temporalio_common::protos::temporal::api::workflowservice::v1::TerminateWorkflowExecutionRequest;

use super::{Round, Told, report};
use crate::watcher::transitions;

/// Search attribute that the server keeps of workflows whose tasks have failed several times in a row.
const PROBLEMS: &str = "TemporalReportedProblems";
/// How it names a history that the code does not replay.
const MISFIT: &str = "cause=WorkflowTaskFailedCauseNonDeterministicError";
/// So many sweeps in a row must find the same: while the operator is being replaced, pods of two releases take turns.
const PATIENCE: u32 = 5;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    id: WorkflowId,
    run_id: String,
    /// What the server says of it.
    problems: Vec<String>,
}

impl Stuck {
    /// `None` for a workflow that is well.
    pub(super) fn of(info: &WorkflowExecutionInfo, id: &WorkflowId) -> Option<Self> {
        let fields = &info.search_attributes.as_ref()?.indexed_fields;
        let problems = Vec::<String>::from_json_payload(fields.get(PROBLEMS)?).ok()?;
        (!problems.is_empty()).then(|| Self {
            id: id.clone(),
            run_id: info
                .execution
                .as_ref()
                .map(|execution| execution.run_id.clone())
                .unwrap_or_default(),
            problems,
        })
    }

    /// No new try will pass.
    fn does_not_fit(&self) -> bool {
        self.problems.iter().any(|problem| problem == MISFIT)
    }

    /// What comes after it loses nothing, too. A rollout that is terminated has failed: that is left to a person.
    fn is_to_be_replaced(&self) -> bool {
        self.does_not_fit() && !matches!(self.id, WorkflowId::Rollout { .. })
    }

    fn why(&self) -> &'static str {
        if self.does_not_fit() {
            "its history does not fit this release of the operator"
        } else {
            "its code fails, or takes too long"
        }
    }
}

/// How many sweeps in a row have found a run so, by its id.
pub(super) type Sightings = BTreeMap<String, u32>;

/// Tells of each once, and replaces those that nothing else helps.
pub(super) async fn look(
    round: &Round<'_>,
    stuck: &[Stuck],
    processes: &[Neighbour],
    told: &mut Told,
) {
    round
        .shared
        .metrics
        .stuck_workflows
        .set(i64::try_from(stuck.len()).unwrap_or(i64::MAX));
    let before = std::mem::take(&mut told.stuck);
    for one in stuck {
        let times = before.get(&one.run_id).copied().unwrap_or_default() + 1;
        told.stuck.insert(one.run_id.clone(), times);
        let key = one.id.process();
        let Some(process) = processes.iter().find(|process| process.key() == *key) else {
            continue;
        };
        if times == 1 {
            tracing::warn!(
                process = process.name,
                namespace = process.namespace,
                workflow = %one.id,
                run = one.run_id,
                problems = ?one.problems,
                "workflow tasks fail"
            );
            let text = format!("workflow tasks of {} fail: {}", one.id, one.why());
            tell(round, process, one, "WorkflowTasksFail", text);
        }
        if times >= PATIENCE && one.is_to_be_replaced() && terminate(round, one).await {
            let text = format!(
                "{} was terminated, {}: another run goes on from what there is",
                one.id,
                one.why()
            );
            tell(round, process, one, "WorkflowReplaced", text);
            report(round.shared, process, "a history does not fit");
        }
    }
}

fn tell(round: &Round<'_>, process: &Neighbour, stuck: &Stuck, reason: &str, text: String) {
    let id = format!("{}/{reason}/{}", process.uid, stuck.run_id);
    let note = Note::new(id, process.key(), EventType::Warning, reason, text);
    transitions::record(round.shared, note);
}

/// Ends this very run. Whether it did: another replica may have been first. What is refused holds up nothing else, and
/// is tried with the next sweep.
async fn terminate(round: &Round<'_>, stuck: &Stuck) -> bool {
    let request = TerminateWorkflowExecutionRequest {
        namespace: round.shared.config.temporal_namespace.clone(),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: stuck.id.to_string(),
            run_id: stuck.run_id.clone(),
        }),
        reason: format!("{}: another run goes on from what there is", stuck.why()),
        identity: round.shared.config.instance.clone(),
        ..Default::default()
    };
    let mut connection = round.link.connection.clone();
    match WorkflowService::terminate_workflow_execution(&mut connection, request.into_request())
        .await
    {
        Ok(_) => true,
        Err(status) => {
            if status.code() != Code::NotFound {
                tracing::warn!(workflow = %stuck.id, "not terminated: {}", status.message());
            }
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use process_operator_crds::names::BuildId;
    use process_operator_workflows::contract::ProcessKey;
    use temporalio_common::protos::coresdk::AsJsonPayloadExt;
    use temporalio_common::protos::temporal::api::common::v1::SearchAttributes;

    use super::*;

    fn info(problems: Option<&[&str]>) -> WorkflowExecutionInfo {
        let payload = problems.map(|problems| problems.as_json_payload().expect("it is JSON"));
        WorkflowExecutionInfo {
            search_attributes: Some(SearchAttributes {
                indexed_fields: payload
                    .map(|payload| (PROBLEMS.to_owned(), payload))
                    .into_iter()
                    .collect(),
            }),
            ..WorkflowExecutionInfo::default()
        }
    }

    #[test]
    fn what_no_new_try_helps_is_replaced_unless_it_is_a_rollout() {
        let key = ProcessKey {
            namespace: "sales".into(),
            name: "l2o".into(),
            uid: "uid".into(),
        };
        let build_id = BuildId::from_observed("v1");
        let lifecycle = key.lifecycle();
        let failed: &[&str] = &["category=WorkflowTaskFailed", MISFIT];
        let slow: &[&str] = &["category=WorkflowTaskTimedOut", "cause=StartToClose"];
        assert_eq!(Stuck::of(&info(None), &lifecycle), None);
        assert_eq!(Stuck::of(&info(Some(&[])), &lifecycle), None);
        for (problems, id, replaced) in [
            (failed, lifecycle.clone(), true),
            (failed, key.drain(&build_id, 1), true),
            (failed, key.rollout(&build_id, 1), false),
            (slow, lifecycle, false),
        ] {
            let stuck = Stuck::of(&info(Some(problems)), &id).expect("it is stuck");
            assert_eq!(stuck.is_to_be_replaced(), replaced, "{id} {problems:?}");
        }
    }
}
