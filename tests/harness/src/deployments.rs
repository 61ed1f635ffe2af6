//! Worker Deployments as another client sees and changes them.

use anyhow::Result;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{Code, IntoRequest};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentInfo;
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueType;
use temporalio_common::protos::temporal::api::taskqueue::v1::{TaskQueue, TaskQueueVersioningInfo};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    CreateWorkerDeploymentRequest, DeleteWorkerDeploymentRequest, DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest, SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentManagerRequest, SetWorkerDeploymentRampingVersionRequest,
    set_worker_deployment_manager_request::NewManagerIdentity,
};

use crate::temporal::Temporal;

impl Temporal {
    /// A Worker Deployment; `None` when the server has no record of it.
    pub async fn worker_deployment(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<WorkerDeploymentInfo>> {
        let request = DescribeWorkerDeploymentRequest {
            namespace: namespace.to_owned(),
            deployment_name: name.to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        match WorkflowService::describe_worker_deployment(&mut connection, request.into_request())
            .await
        {
            Ok(response) => Ok(response.into_inner().worker_deployment_info),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The share of new workflows that a task queue gives to the version that ramps; `None` when none does.
    pub async fn ramping_percent(&self, namespace: &str, queue: &str) -> Result<Option<f32>> {
        let request = DescribeTaskQueueRequest {
            namespace: namespace.to_owned(),
            task_queue: Some(TaskQueue {
                name: queue.to_owned(),
                ..Default::default()
            }),
            task_queue_type: TaskQueueType::Workflow.into(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        let found = WorkflowService::describe_task_queue(&mut connection, request.into_request())
            .await?
            .into_inner();
        let ramps = |known: TaskQueueVersioningInfo| {
            let ramping = known.ramping_deployment_version.is_some();
            ramping.then_some(known.ramping_version_percentage)
        };
        Ok(found.versioning_info.and_then(ramps))
    }

    /// Makes somebody the manager of a Worker Deployment, as another client does; `None` releases it.
    pub async fn set_manager(
        &self,
        namespace: &str,
        deployment: &str,
        manager: Option<&str>,
    ) -> Result<()> {
        let request = SetWorkerDeploymentManagerRequest {
            namespace: namespace.to_owned(),
            deployment_name: deployment.to_owned(),
            identity: "tests".to_owned(),
            new_manager_identity: Some(NewManagerIdentity::ManagerIdentity(
                manager.unwrap_or_default().to_owned(),
            )),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::set_worker_deployment_manager(&mut connection, request.into_request())
            .await?;
        Ok(())
    }

    /// Routes a Worker Deployment to a version, as another client does that acts as `identity`.
    pub async fn set_current(
        &self,
        namespace: &str,
        deployment: &str,
        build_id: &str,
        identity: &str,
    ) -> Result<()> {
        let request = SetWorkerDeploymentCurrentVersionRequest {
            namespace: namespace.to_owned(),
            deployment_name: deployment.to_owned(),
            build_id: build_id.to_owned(),
            identity: identity.to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::set_worker_deployment_current_version(
            &mut connection,
            request.into_request(),
        )
        .await?;
        Ok(())
    }

    /// Gives a version a share of new executions, as another client does that acts as `identity`.
    pub async fn set_ramp(
        &self,
        namespace: &str,
        deployment: &str,
        build_id: &str,
        percentage: f32,
        identity: &str,
    ) -> Result<()> {
        let request = SetWorkerDeploymentRampingVersionRequest {
            namespace: namespace.to_owned(),
            deployment_name: deployment.to_owned(),
            build_id: build_id.to_owned(),
            percentage,
            identity: identity.to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::set_worker_deployment_ramping_version(
            &mut connection,
            request.into_request(),
        )
        .await?;
        Ok(())
    }

    /// Registers a Worker Deployment.
    pub async fn create_deployment(&self, namespace: &str, deployment: &str) -> Result<()> {
        let request = CreateWorkerDeploymentRequest {
            namespace: namespace.to_owned(),
            deployment_name: deployment.to_owned(),
            identity: "tests".to_owned(),
            request_id: deployment.to_owned(),
        };
        let mut connection = self.connection.clone();
        WorkflowService::create_worker_deployment(&mut connection, request.into_request()).await?;
        Ok(())
    }

    /// Registers Worker Deployments `filler/0`, `filler/1` and so on.
    pub async fn fill_deployments(&self, namespace: &str, count: u32) -> Result<()> {
        for n in 0..count {
            self.create_deployment(namespace, &format!("filler/{n}"))
                .await?;
        }
        Ok(())
    }

    /// Deletes the record of a Worker Deployment.
    pub async fn delete_deployment(&self, namespace: &str, deployment: &str) -> Result<()> {
        let request = DeleteWorkerDeploymentRequest {
            namespace: namespace.to_owned(),
            deployment_name: deployment.to_owned(),
            identity: "tests".to_owned(),
            ..Default::default()
        };
        let mut connection = self.connection.clone();
        WorkflowService::delete_worker_deployment(&mut connection, request.into_request()).await?;
        Ok(())
    }
}
