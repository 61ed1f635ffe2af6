//! Changes of routing. Those of rollouts run on a task queue of their own, whose rate the server keeps for all
//! replicas: it allows few of them in a Temporal namespace.

use std::time::Duration;

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{Expected, ProcessKey, SetCurrentInput, SetWeightInput};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentInfo;
use temporalio_common::protos::temporal::api::enums::v1::RoutingConfigUpdateState;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    SetWorkerDeploymentCurrentVersionRequest, SetWorkerDeploymentManagerRequest,
    SetWorkerDeploymentRampingVersionRequest,
    set_worker_deployment_manager_request::NewManagerIdentity,
};

use super::manager::claim;
use super::shares::{Shares, percent, shares};
use super::{call, describe, foreign_manager, versions};
use crate::budget::Change;
use crate::context::Context;
use crate::error::{Fault, Result};
use crate::sent::Sent;
use crate::wait::Pace;

/// What somebody else has made of the routing, if a rollout of `build_id` does not find it as it has
/// left it.
pub(crate) fn disturbed(
    context: &Context,
    info: &WorkerDeploymentInfo,
    build_id: &str,
    expected: &Expected,
) -> Option<Fault> {
    let found = shares(info);
    let manager = foreign_manager(context, &info.manager_identity);
    if manager.is_none() && found.kept(build_id, expected) {
        return None;
    }
    let by = manager.unwrap_or_else(|| info.last_modifier_identity.clone());
    Some(Fault::new(
        ErrorCategory::RoutingChanged,
        format!(
            "routing of Worker Deployment {} was changed by {by:?}: {found}; `resume` takes it back, `abort` \
             gives the rollout up",
            info.name,
        ),
    ))
}

async fn described(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
) -> Result<(WorkerDeploymentInfo, Vec<u8>)> {
    let deployment = key.worker_deployment();
    describe(context, namespace, &deployment)
        .await?
        .ok_or_else(|| unknown(&deployment))
}

fn unknown(deployment: &str) -> Fault {
    Fault::new(
        ErrorCategory::Unavailable,
        format!("the server has no record of Worker Deployment {deployment} yet"),
    )
}

/// Makes sure that we manage the Worker Deployment; the token for the next change.
async fn managed(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    take_over: bool,
    (info, token): (&WorkerDeploymentInfo, Vec<u8>),
) -> Result<Vec<u8>> {
    if info.manager_identity == context.manager_identity(&key.uid) {
        return Ok(token);
    }
    if let Some(manager) = foreign_manager(context, &info.manager_identity)
        && !take_over
    {
        return Err(Fault::new(
            ErrorCategory::DeploymentOwnedElsewhere,
            format!(
                "Worker Deployment {} is managed by {manager:?}",
                key.worker_deployment()
            ),
        ));
    }
    claim(context, namespace, key, token).await
}

/// Claims the Worker Deployment and makes a version Current. Repeating it changes nothing.
pub(crate) async fn set_current(
    context: &Context,
    input: &SetCurrentInput,
    sent: &Sent,
) -> Result<()> {
    let (namespace, key) = (input.temporal_namespace.as_str(), &input.key);
    let how = (Change::Rollout, sent);
    let (info, token) = described(context, namespace, key).await?;
    let found = shares(&info);
    let current = found.current.clone();
    if let Some(expected) = &input.expected
        && current != input.build_id
        && let Some(fault) = disturbed(context, &info, &input.build_id, expected)
    {
        return Err(fault);
    }
    let token = managed(context, namespace, key, input.take_over, (&info, token)).await?;
    if current != input.build_id {
        set(context, namespace, key, &input.build_id, token, how).await?;
    }
    // The server ends a ramp to the version that becomes Current, and no other.
    let ramps = found.ramping != input.build_id;
    let ramp = if ramps { found } else { Shares::default() };
    let wanted = Shares {
        current: input.build_id.clone(),
        ..ramp
    };
    propagated(context, namespace, key, &input.task_queue, &wanted).await
}

/// Sets the share of a version, or takes it back, and waits until all task queues know it. Repeating
/// it changes nothing.
pub(crate) async fn set_weight(
    context: &Context,
    input: &SetWeightInput,
    sent: &Sent,
) -> Result<()> {
    let (namespace, key) = (input.temporal_namespace.as_str(), &input.key);
    let how = (Change::Rollout, sent);
    let deployment = key.worker_deployment();
    let Some((info, token)) = describe(context, namespace, &deployment).await? else {
        if input.percent == 0 {
            // Nothing has a share of what is not there: the Process may be gone.
            return Ok(());
        }
        return Err(unknown(&deployment));
    };
    let found = shares(&info);
    let wanted = percent(input.percent);
    let ours = found.ramping == input.build_id;
    if input.percent == 0 {
        let elsewhere = foreign_manager(context, &info.manager_identity).is_some();
        let back = input
            .back_to
            .as_ref()
            .filter(|back| found.current == input.build_id && **back != input.build_id);
        // Somebody else's routing is not ours to take back.
        if elsewhere || !ours && back.is_none() {
            return Ok(());
        }
        let token = managed(context, namespace, key, false, (&info, token)).await?;
        let wanted = if let Some(back) = back {
            match set(context, namespace, key, back, token, how).await {
                // It has been retired since, so the promotion came to its end: there is no way back to it.
                Err(fault) if fault.category == ErrorCategory::NotFound => return Ok(()),
                done => done?,
            };
            Shares {
                current: back.clone(),
                ..found
            }
        } else {
            ramp(context, namespace, key, ("", 0.0), token, how).await?;
            Shares {
                current: found.current,
                ..Shares::default()
            }
        };
        propagated(context, namespace, key, &input.task_queue, &wanted).await?;
    } else {
        let done = ours && found.is_at(input.percent);
        if let Some(expected) = &input.expected
            && !done
            && let Some(fault) = disturbed(context, &info, &input.build_id, expected)
        {
            return Err(fault);
        }
        let mut token = managed(context, namespace, key, input.take_over, (&info, token)).await?;
        let current = taken_back(&found, input.current.as_deref());
        if let Some(current) = current {
            token = set(context, namespace, key, current, token, how).await?;
        }
        if !done {
            let to = (input.build_id.as_str(), wanted);
            ramp(context, namespace, key, to, token, how).await?;
        }
        let wanted = Shares {
            current: current.unwrap_or(&found.current).to_owned(),
            ramping: input.build_id.clone(),
            percent: wanted,
        };
        propagated(context, namespace, key, &input.task_queue, &wanted).await?;
    }
    Ok(())
}

/// What has to become Current again before a share is given, since somebody has put another version there.
fn taken_back<'a>(found: &Shares, current: Option<&'a str>) -> Option<&'a str> {
    current.filter(|current| found.current != *current)
}

/// Takes back whatever share a version has, unless somebody else manages the Worker Deployment.
pub(crate) async fn unramp(context: &Context, namespace: &str, key: &ProcessKey) -> Result<()> {
    let Some((info, token)) = describe(context, namespace, &key.worker_deployment()).await? else {
        return Ok(());
    };
    let elsewhere = foreign_manager(context, &info.manager_identity).is_some();
    if shares(&info).ramping.is_empty() || elsewhere {
        return Ok(());
    }
    let token = managed(context, namespace, key, false, (&info, token)).await?;
    let how = (Change::Deletion, &Sent::default());
    ramp(context, namespace, key, ("", 0.0), token, how).await
}

/// After so long the Worker Deployment is asked too. The task queue is asked first: the server allows many more reads of
/// it, and its word on a Worker Deployment comes from a workflow of its own, which may answer a second late, and can stay
/// at "in progress" for ever, although every task queue knows the routing (seen with 1.32 after changes in quick succession).
const TOLD: Duration = Duration::from_secs(1);

/// Waits until the task queues know the routing: the server answers a change before that.
async fn propagated(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    task_queue: &str,
    wanted: &Shares,
) -> Result<()> {
    tokio::select! {
        said = said_to_be_known(context, namespace, key) => said,
        known = known_to_queue(context, namespace, task_queue, wanted) => known,
    }
}

async fn said_to_be_known(context: &Context, namespace: &str, key: &ProcessKey) -> Result<()> {
    let mut pace = Pace::new(TOLD, Duration::from_secs(4));
    loop {
        pace.rest().await;
        let (info, _) = described(context, namespace, key).await?;
        if info.routing_config_update_state() != RoutingConfigUpdateState::InProgress {
            return Ok(());
        }
    }
}

async fn known_to_queue(
    context: &Context,
    namespace: &str,
    task_queue: &str,
    wanted: &Shares,
) -> Result<()> {
    let mut pace = Pace::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let known = versions::routing_of_queue(context, namespace, task_queue).await?;
        if known.iter().all(|known| known == wanted) {
            return Ok(());
        }
        pace.rest().await;
    }
}

/// Wakes the server's workflow behind a Worker Deployment, which continues as new after each change
/// and then answers questions only when a second has passed, but a request for a change at once. This
/// one is for a state that it never was in, so it is always refused.
pub(crate) async fn wake(context: &Context, namespace: &str, deployment: &str) {
    let Ok(_slot) = context.hints.try_acquire() else {
        return;
    };
    let identity = context.manager_identity("");
    let request = SetWorkerDeploymentManagerRequest {
        namespace: namespace.to_owned(),
        deployment_name: deployment.to_owned(),
        conflict_token: b"never given".to_vec(),
        identity: identity.clone(),
        new_manager_identity: Some(NewManagerIdentity::ManagerIdentity(identity)),
    };
    // Once, past the client's own retries: this is no more than a hint.
    let mut service = context.connection.workflow_service();
    let _refused = service
        .set_worker_deployment_manager(request.into_request())
        .await;
}

/// Routes to a build id, in its turn; empty means to unversioned workers, that is to nobody. The token for the next
/// change.
pub(crate) async fn set(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
    token: Vec<u8>,
    (what_for, sent): (Change, &Sent),
) -> Result<Vec<u8>> {
    context.change_turn(namespace, what_for).await;
    let request = SetWorkerDeploymentCurrentVersionRequest {
        namespace: namespace.to_owned(),
        deployment_name: key.worker_deployment(),
        build_id: build_id.to_owned(),
        conflict_token: token,
        identity: context.manager_identity(&key.uid),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let change = async move {
        let answer = WorkflowService::set_worker_deployment_current_version(
            &mut connection,
            request.into_request(),
        );
        let answer = call("set current version", answer).await?;
        Ok(answer.conflict_token)
    };
    sent.through(change).await
}

/// Routes a share to a build id, in its turn; an empty one takes any share back.
async fn ramp(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    (build_id, percentage): (&str, f32),
    token: Vec<u8>,
    (what_for, sent): (Change, &Sent),
) -> Result<()> {
    context.change_turn(namespace, what_for).await;
    let request = SetWorkerDeploymentRampingVersionRequest {
        namespace: namespace.to_owned(),
        deployment_name: key.worker_deployment(),
        build_id: build_id.to_owned(),
        percentage,
        conflict_token: token,
        identity: context.manager_identity(&key.uid),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    let change = async move {
        let answer = WorkflowService::set_worker_deployment_ramping_version(
            &mut connection,
            request.into_request(),
        );
        call("set ramping version", answer).await.map(drop)
    };
    sent.through(change).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_is_taken_back_where_that_is_asked_for_and_another_version_is_there() {
        let found = Shares {
            current: "v9".into(),
            ramping: "v2".into(),
            percent: 10.0,
        };
        // From an operator that did not ask for it, or without anybody having decided so.
        assert_eq!(taken_back(&found, None), None);
        assert_eq!(taken_back(&found, Some("v9")), None);
        assert_eq!(taken_back(&found, Some("v1")), Some("v1"));
        // Workers without a version served before.
        assert_eq!(taken_back(&found, Some("")), Some(""));
        assert_eq!(taken_back(&Shares::default(), Some("")), None);
    }
}
