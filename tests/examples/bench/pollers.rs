//! Pollers that stand in for worker pods: with `replicas: 0` no pod runs, and a version becomes
//! Current only when somebody polls.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use process_operator_crds::Process;
use process_operator_harness::Env;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentOptions;
use temporalio_common::protos::temporal::api::enums::v1::WorkerVersioningMode;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::PollWorkflowTaskQueueRequest;
use tokio::task::JoinSet;

use crate::shown::Shown;

/// For a version to be wanted at all.
const PATIENCE: Duration = Duration::from_secs(900);

pub(crate) struct Pollers {
    tasks: JoinSet<()>,
}

/// Between what is waited for and the pollers, as the peer was measured: that Processes were made is over by then.
const CALM: Duration = Duration::from_secs(10);

impl Pollers {
    /// The same once all versions are wanted and nothing happens any more.
    pub(crate) async fn start_in_calm(env: &Env, count: usize, tag: &str) -> Result<Self> {
        let wanted = |process: &Process| {
            let status = process.status.as_ref();
            let target = status.and_then(|status| status.target_version.as_ref());
            target.is_some_and(|target| target.build_id.starts_with(&format!("{tag}-")))
        };
        let all_wanted = |all: &BTreeMap<String, Process>| {
            let wanted = all.values().filter(|process| wanted(process));
            (wanted.count() >= count).then_some(())
        };
        let shown = Shown::watch(env);
        shown.wait("all targets", PATIENCE, all_wanted).await?;
        tokio::time::sleep(CALM).await;
        Ok(Self::start(env, count, tag))
    }

    /// One versioned workflow poller for each Process `p<n>`, taking the build id of the tag from the
    /// status.
    pub(crate) fn start(env: &Env, count: usize, tag: &str) -> Self {
        let mut tasks = JoinSet::new();
        let shown = Shown::watch(env);
        for n in 0..count {
            let name = format!("p{n}");
            let shown = shown.clone();
            let mut connection = env.temporal.connection.clone();
            let (apps, namespace) = (env.apps.clone(), env.namespace.clone());
            let tag = format!("{tag}-");
            tasks.spawn(async move {
                let target = |all: &BTreeMap<String, Process>| {
                    let status = all.get(&name)?.status.as_ref()?;
                    let build_id = &status.target_version.as_ref()?.build_id;
                    build_id.starts_with(&tag).then(|| build_id.clone())
                };
                let Ok(build_id) = shown.wait("a target", PATIENCE, target).await else {
                    return;
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
                        tokio::time::sleep(Duration::from_secs(1)).await;
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
