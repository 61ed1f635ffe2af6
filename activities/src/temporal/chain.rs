//! The run in which an execution goes on. The server's index is too slow for those that go on in a new run every second:
//! whatever run it names has ended by the time that it is asked something.

use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowExecutionStatus;
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionInfo;

use super::executions::describe;
use crate::context::Context;
use crate::error::Result;

/// The open run of the same chain, if there is one on the same version and task queue.
pub(crate) async fn successor(
    context: &Context,
    namespace: &str,
    ended: &WorkflowExecution,
) -> Result<Option<WorkflowExecution>> {
    let id = &ended.workflow_id;
    let (old, new) = tokio::try_join!(
        describe(context, namespace, id, &ended.run_id),
        describe(context, namespace, id, ""),
    )?;
    let old = old.and_then(|seen| seen.workflow_execution_info);
    let new = new.and_then(|seen| seen.workflow_execution_info);
    Ok(old
        .zip(new)
        .filter(|(old, new)| goes_on_in(old, new))
        .and_then(|(_, new)| new.execution))
}

fn goes_on_in(old: &WorkflowExecutionInfo, new: &WorkflowExecutionInfo) -> bool {
    new.status() == WorkflowExecutionStatus::Running
        && new.execution != old.execution
        && !old.first_run_id.is_empty()
        && new.first_run_id == old.first_run_id
        && new.task_queue == old.task_queue
        && version(new) == version(old)
}

fn version(info: &WorkflowExecutionInfo) -> Option<&WorkerDeploymentVersion> {
    info.versioning_info.as_ref()?.deployment_version.as_ref()
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionVersioningInfo;

    use super::*;

    fn run(id: &str, status: WorkflowExecutionStatus) -> WorkflowExecutionInfo {
        WorkflowExecutionInfo {
            execution: Some(WorkflowExecution {
                workflow_id: "w".into(),
                run_id: id.into(),
            }),
            status: status.into(),
            first_run_id: "first".into(),
            task_queue: "q".into(),
            versioning_info: Some(WorkflowExecutionVersioningInfo {
                deployment_version: Some(WorkerDeploymentVersion {
                    deployment_name: "shop/l2o".into(),
                    build_id: "v1".into(),
                }),
                ..WorkflowExecutionVersioningInfo::default()
            }),
            ..WorkflowExecutionInfo::default()
        }
    }

    #[test]
    fn only_an_open_run_of_the_same_chain_and_version_is_the_one_it_goes_on_in() {
        let old = run("1", WorkflowExecutionStatus::ContinuedAsNew);
        let next = run("2", WorkflowExecutionStatus::Running);
        assert!(goes_on_in(&old, &next));
        assert!(!goes_on_in(&next, &next), "it is the same run");
        let closed = run("2", WorkflowExecutionStatus::Completed);
        assert!(!goes_on_in(&old, &closed));
        let mut other = next.clone();
        other.first_run_id = "another".into();
        assert!(!goes_on_in(&old, &other), "its id is used again");
        let mut moved = next.clone();
        moved.task_queue = "elsewhere".into();
        assert!(!goes_on_in(&old, &moved));
        let mut upgraded = next;
        upgraded.versioning_info = None;
        assert!(!goes_on_in(&old, &upgraded));
    }
}
