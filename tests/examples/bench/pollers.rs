//! Pollers that stand in for worker pods: with `replicas: 0` no pod runs, and a version becomes
//! Current only when somebody polls.

use process_operator_harness::Env;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentOptions;
use temporalio_common::protos::temporal::api::enums::v1::WorkerVersioningMode;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::PollWorkflowTaskQueueRequest;
use tokio::task::JoinSet;

pub(crate) struct Pollers {
    tasks: JoinSet<()>,
}

impl Pollers {
    /// One versioned workflow poller for each Process `p<n>`, taking the build id of the tag from the
    /// status.
    pub(crate) fn start(env: &Env, count: usize, tag: &str) -> Self {
        let mut tasks = JoinSet::new();
        for n in 0..count {
            let name = format!("p{n}");
            let api = env.api::<process_operator_crds::Process>();
            let mut connection = env.temporal.connection.clone();
            let (apps, namespace) = (env.apps.clone(), env.namespace.clone());
            let tag = format!("{tag}-");
            tasks.spawn(async move {
                let build_id = loop {
                    let target = api
                        .get(&name)
                        .await
                        .ok()
                        .and_then(|process| process.status)
                        .and_then(|status| status.target_version);
                    if let Some(target) = target.filter(|it| it.build_id.starts_with(&tag)) {
                        break target.build_id;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                };
                loop {
                    let request = PollWorkflowTaskQueueRequest {
                        namespace: apps.clone(),
                        task_queue: Some(TaskQueue {
                            name: format!("{name}-tq"),
                            ..Default::default()
                        }),
                        identity: "bench".to_owned(),
                        deployment_options: Some(WorkerDeploymentOptions {
                            deployment_name: format!("{namespace}/{name}"),
                            build_id: build_id.clone(),
                            worker_versioning_mode: WorkerVersioningMode::Versioned.into(),
                        }),
                        ..Default::default()
                    };
                    if WorkflowService::poll_workflow_task_queue(
                        &mut connection,
                        request.into_request(),
                    )
                    .await
                    .is_err()
                    {
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                }
            });
        }
        Self { tasks }
    }

    /// Ends all of them.
    pub(crate) fn stop(mut self) {
        self.tasks.abort_all();
    }
}
