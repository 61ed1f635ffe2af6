//! Ends executions, or moves them to another version: what drains and deletions do when their time
//! is up, or when somebody says so. Calls for each execution and no batch: the server runs only one
//! batch at a time in a namespace, and that one may be somebody else's.

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use process_operator_crds::ErrorCategory;
use prost_wkt_types::FieldMask;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution;
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion;
use temporalio_common::protos::temporal::api::workflow::v1::versioning_override::{
    Override, PinnedOverride, PinnedOverrideBehavior,
};
use temporalio_common::protos::temporal::api::workflow::v1::{
    VersioningOverride, WorkflowExecutionInfo, WorkflowExecutionOptions,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
    UpdateWorkflowExecutionOptionsRequest,
};

use super::visibility::{count, page};
use super::{call, chain, timestamp, unless_gone};
use crate::build::hash;
use crate::context::Context;
use crate::error::{Fault, Result};

/// Executions listed with one call.
const PAGE: i32 = 200;
/// Ids kept as a sample.
const SAMPLE: usize = 10;
/// Executions acted on side by side.
const AT_ONCE: usize = 4;
/// The index may show a run so long after it was started.
const BEHIND: SignedDuration = SignedDuration::from_secs(10);
/// Halvings of the time in which the oldest execution is looked for: ten years to a second.
const HALVINGS: u32 = 29;

/// What is done to an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndAction {
    /// It is asked to end. Its code may take its time, or not listen.
    Cancel,
    /// It ends now, without a word to its code.
    Terminate,
    /// It is pinned to another version of the same Worker Deployment and goes on there.
    MoveTo {
        /// Worker Deployment, as the server names it.
        deployment: String,
        /// Build id of that version.
        build_id: String,
    },
}

/// What one pass over executions has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Executions that the action was asked for and accepted, those that had been asked to cancel
    /// before included.
    pub(crate) acted: u64,
    /// Workflow ids of some of them, at most 10.
    pub(crate) sample: Vec<String>,
    /// Executions that match the query after the pass.
    pub(crate) left: u64,
    /// Executions that had ended when their turn came, and whose next run was not met either.
    pub(crate) missed: u64,
    /// Executions that refused it; others were acted on all the same.
    pub(crate) refused: u64,
    /// Why the first of those refused.
    pub(crate) why: String,
}

/// Executions that match a query, in a few words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// How many there are.
    pub(crate) open: u64,
    /// Workflow ids of some of them, at most 10.
    pub(crate) sample: Vec<String>,
    /// When the oldest was started, to a second where there are many.
    pub(crate) oldest: Option<Timestamp>,
}

/// Looks at executions that match a query: one call unless there are many.
pub(crate) async fn survey(context: &Context, namespace: &str, query: &str) -> Result<Survey> {
    let (listed, next) = page(context, namespace, query, PAGE, Vec::new()).await?;
    let sample = listed
        .iter()
        .filter_map(|info| info.execution.as_ref())
        .map(|execution| execution.workflow_id.clone())
        .take(SAMPLE)
        .collect();
    if next.is_empty() {
        return Ok(Survey {
            open: u64::try_from(listed.len()).unwrap_or(u64::MAX),
            sample,
            oldest: earliest(&listed),
        });
    }
    Ok(Survey {
        open: count(context, namespace, query).await?,
        sample,
        oldest: oldest(context, namespace, query).await?,
    })
}

/// When the oldest execution that matches a query was started; `None` when there is none. To a
/// second where there are many: the server's index cannot sort.
pub(crate) async fn oldest(
    context: &Context,
    namespace: &str,
    query: &str,
) -> Result<Option<Timestamp>> {
    let (listed, next) = page(context, namespace, query, PAGE, Vec::new()).await?;
    if next.is_empty() {
        return Ok(earliest(&listed));
    }
    let mut late = Timestamp::now();
    let mut early = late
        .checked_sub(SignedDuration::from_hours(24 * 3653))
        .unwrap_or(Timestamp::UNIX_EPOCH);
    for _ in 0..HALVINGS {
        let half = late.duration_since(early) / 2;
        let middle = early.checked_add(half).unwrap_or(late);
        let until = format!("{query} AND StartTime <= '{middle}'");
        let (listed, next) = page(context, namespace, &until, PAGE, Vec::new()).await?;
        if listed.is_empty() {
            early = middle;
        } else if next.is_empty() {
            return Ok(earliest(&listed));
        } else {
            late = middle;
        }
    }
    Ok(Some(late))
}

fn earliest(listed: &[WorkflowExecutionInfo]) -> Option<Timestamp> {
    listed
        .iter()
        .filter_map(|info| info.start_time.as_ref())
        .map(timestamp)
        .min()
}

/// Those of a query that a pass which began then may not have seen.
pub(crate) fn started_since(query: &str, began: Timestamp) -> String {
    let since = began.checked_sub(BEHIND).unwrap_or(began);
    format!("{query} AND StartTime > '{since}'")
}

/// Does something to all executions that match a query: one pass. What has ended meanwhile counts
/// as done, and asking again for what was asked for before changes nothing.
///
/// # Errors
///
/// When Temporal cannot be asked. An execution that refuses does not keep others from theirs.
pub(crate) async fn end_executions(
    context: &Context,
    namespace: &str,
    query: &str,
    action: EndAction,
    reason: &str,
    identity: &str,
) -> Result<Ended> {
    let mut ended = Ended::default();
    let mut token = Vec::new();
    loop {
        let (listed, next) = page(context, namespace, query, PAGE, token).await?;
        let executions = listed.into_iter().filter_map(|info| info.execution);
        let mut acts = futures::stream::iter(executions)
            .map(|execution| {
                let order = Order {
                    namespace,
                    action: &action,
                    reason,
                    identity,
                };
                async move {
                    let id = execution.workflow_id.clone();
                    (id, order.pursue(context, execution).await)
                }
            })
            .buffered(AT_ONCE);
        while let Some((id, answer)) = acts.next().await {
            match answer {
                Ok(true) => {
                    ended.acted += 1;
                    if ended.sample.len() < SAMPLE {
                        ended.sample.push(id);
                    }
                }
                Ok(false) => ended.missed += 1,
                Err(fault) if is_its_own(&fault) => {
                    ended.refused += 1;
                    if ended.why.is_empty() {
                        ended.why = format!("{id}: {fault}");
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        drop(acts);
        if next.is_empty() {
            break;
        }
        token = next;
    }
    ended.left = count(context, namespace, query).await?;
    Ok(ended)
}

/// A fault of one execution, not of the server or of our rights.
fn is_its_own(fault: &Fault) -> bool {
    matches!(
        fault.category,
        ErrorCategory::Conflict | ErrorCategory::InvalidSpec | ErrorCategory::Internal
    )
}

/// One action, the same for all executions.
pub(crate) struct Order<'a> {
    /// Temporal namespace.
    pub(crate) namespace: &'a str,
    /// What is done.
    pub(crate) action: &'a EndAction,
    /// Why, for people.
    pub(crate) reason: &'a str,
    /// On whose behalf.
    pub(crate) identity: &'a str,
}

impl Order<'_> {
    /// The same for what goes on in another run when its turn comes.
    async fn pursue(&self, context: &Context, execution: WorkflowExecution) -> Result<bool> {
        if self.give(context, execution.clone()).await? {
            return Ok(true);
        }
        match chain::successor(context, self.namespace, &execution).await? {
            Some(next) => self.give(context, next).await,
            None => Ok(false),
        }
    }

    /// `false` when it has ended already.
    pub(crate) async fn give(
        &self,
        context: &Context,
        execution: WorkflowExecution,
    ) -> Result<bool> {
        context.action_turn(self.namespace).await;
        let answer = match self.action {
            EndAction::Cancel => self.cancel(context, execution).await,
            EndAction::Terminate => self.terminate(context, execution).await,
            EndAction::MoveTo {
                deployment,
                build_id,
            } => self.move_to(context, execution, deployment, build_id).await,
        };
        Ok(unless_gone(answer)?.is_some())
    }

    async fn cancel(&self, context: &Context, execution: WorkflowExecution) -> Result<()> {
        // One id for each run: asked for again, it is the same request to the server.
        let about = format!("cancel\n{}", execution.run_id);
        let request = RequestCancelWorkflowExecutionRequest {
            namespace: self.namespace.to_owned(),
            workflow_execution: Some(execution),
            identity: self.identity.to_owned(),
            request_id: hash::prefix(about.as_bytes(), 16),
            reason: self.reason.to_owned(),
            ..Default::default()
        };
        let mut connection = context.connection.clone();
        call(
            "cancel an execution",
            WorkflowService::request_cancel_workflow_execution(
                &mut connection,
                request.into_request(),
            ),
        )
        .await?;
        Ok(())
    }

    async fn terminate(&self, context: &Context, execution: WorkflowExecution) -> Result<()> {
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.namespace.to_owned(),
            workflow_execution: Some(execution),
            identity: self.identity.to_owned(),
            reason: self.reason.to_owned(),
            ..Default::default()
        };
        let mut connection = context.connection.clone();
        call(
            "terminate an execution",
            WorkflowService::terminate_workflow_execution(&mut connection, request.into_request()),
        )
        .await?;
        Ok(())
    }

    async fn move_to(
        &self,
        context: &Context,
        execution: WorkflowExecution,
        deployment: &str,
        build_id: &str,
    ) -> Result<()> {
        let pinned = PinnedOverride {
            // The server refuses an override without it.
            behavior: PinnedOverrideBehavior::Pinned.into(),
            version: Some(WorkerDeploymentVersion {
                deployment_name: deployment.to_owned(),
                build_id: build_id.to_owned(),
            }),
        };
        let request = UpdateWorkflowExecutionOptionsRequest {
            namespace: self.namespace.to_owned(),
            workflow_execution: Some(execution),
            workflow_execution_options: Some(WorkflowExecutionOptions {
                versioning_override: Some(VersioningOverride {
                    r#override: Some(Override::Pinned(pinned)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["versioning_override".to_owned()],
            }),
            identity: self.identity.to_owned(),
        };
        let mut connection = context.connection.clone();
        call(
            "move an execution",
            WorkflowService::update_workflow_execution_options(
                &mut connection,
                request.into_request(),
            ),
        )
        .await?;
        Ok(())
    }
}
