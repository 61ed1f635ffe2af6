//! Who manages a Worker Deployment: the server lets nobody else change it. These calls count like any other, not like
//! changes of routing, and each comes after a read that has had its turn.

use kube::ResourceExt as _;
use process_operator_workflows::contract::ProcessKey;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    SetWorkerDeploymentManagerRequest, set_worker_deployment_manager_request::NewManagerIdentity,
};

use super::{call, describe, foreign_manager};
use crate::context::Context;
use crate::error::{Result, within};

/// Takes the Worker Deployment over from nobody or from a predecessor.
pub(crate) async fn claim(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    token: Vec<u8>,
) -> Result<Vec<u8>> {
    let identity = context.manager_identity(&key.uid);
    let request = SetWorkerDeploymentManagerRequest {
        namespace: namespace.to_owned(),
        deployment_name: key.worker_deployment(),
        conflict_token: token,
        identity: identity.clone(),
        new_manager_identity: Some(NewManagerIdentity::ManagerIdentity(identity)),
    };
    let mut connection = context.connection.clone();
    let response = call(
        "claim Worker Deployment",
        WorkflowService::set_worker_deployment_manager(&mut connection, request.into_request()),
    )
    .await?;
    Ok(response.conflict_token)
}

/// Takes the Worker Deployment over from a predecessor of the same name, as long as the Process is
/// there: until then the server refuses every change, and without a rollout nothing else claims it.
pub(crate) async fn inherit(context: &Context, namespace: &str, key: &ProcessKey) -> Result<()> {
    let Some((info, token)) = describe(context, namespace, &key.worker_deployment()).await? else {
        return Ok(());
    };
    let manager = info.manager_identity.as_str();
    if manager.is_empty()
        || manager == context.manager_identity(&key.uid)
        || foreign_manager(context, manager).is_some()
    {
        return Ok(());
    }
    let processes = context.processes(&key.namespace);
    let live = within(async { Ok(processes.get_metadata_opt(&key.name).await?) }).await?;
    // A predecessor that is slow must not take it back.
    if live.is_some_and(|live| live.uid().as_deref() == Some(key.uid.as_str())) {
        claim(context, namespace, key, token).await?;
    }
    Ok(())
}
