//! Changes of routing. They run on a task queue of their own: the server allows about one a second
//! per Temporal namespace.

use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{ProcessKey, SetCurrentInput};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    SetWorkerDeploymentCurrentVersionRequest, SetWorkerDeploymentManagerRequest,
    set_worker_deployment_manager_request::NewManagerIdentity,
};

use super::{call, describe, foreign_manager};
use crate::context::Context;
use crate::error::{Fault, Result};

/// Claims the Worker Deployment and makes a version Current. Repeating it changes nothing.
pub(crate) async fn set_current(context: &Context, input: &SetCurrentInput) -> Result<()> {
    let deployment = input.key.worker_deployment();
    let Some((info, token)) = describe(context, &input.temporal_namespace, &deployment).await?
    else {
        return Err(Fault::new(
            ErrorCategory::Unavailable,
            format!("the server has no record of Worker Deployment {deployment} yet"),
        ));
    };
    let identity = context.manager_identity(&input.key.uid);
    if let Some(manager) = foreign_manager(context, &info.manager_identity) {
        return Err(Fault::new(
            ErrorCategory::DeploymentOwnedElsewhere,
            format!("Worker Deployment {deployment} is managed by {manager:?}"),
        ));
    }
    let token = if info.manager_identity == identity {
        token
    } else {
        claim(context, &input.temporal_namespace, &input.key, token).await?
    };
    let current = info
        .routing_config
        .and_then(|routing| routing.current_deployment_version)
        .map(|version| version.build_id);
    if current.as_deref() == Some(input.build_id.as_str()) {
        return Ok(());
    }
    set(
        context,
        &input.temporal_namespace,
        &input.key,
        &input.build_id,
        token,
    )
    .await
}

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

/// Routes to a build id; empty means to unversioned workers, that is to nobody.
pub(crate) async fn set(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
    token: Vec<u8>,
) -> Result<()> {
    let request = SetWorkerDeploymentCurrentVersionRequest {
        namespace: namespace.to_owned(),
        deployment_name: key.worker_deployment(),
        build_id: build_id.to_owned(),
        conflict_token: token,
        identity: context.manager_identity(&key.uid),
        ..Default::default()
    };
    let mut connection = context.connection.clone();
    call(
        "set current version",
        WorkflowService::set_worker_deployment_current_version(
            &mut connection,
            request.into_request(),
        ),
    )
    .await?;
    Ok(())
}
