//! What people ask a lifecycle for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use serde_json::{Value, json};
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::UpdateWorkflowExecutionLifecycleStage;
use temporalio_common::protos::temporal::api::update::v1::{
    Input, Meta, Request, WaitPolicy, outcome,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::UpdateWorkflowExecutionRequest;

use crate::env::Env;
use crate::look::lifecycle_id;
use crate::temporal::json_payload;

/// Longest time until an update is answered.
const LONGEST: Duration = Duration::from_secs(180);

impl Env {
    /// Asks by update and waits for the answer: `Ok` with it, or `Err` with why it was refused.
    pub async fn ask(
        &self,
        process: &Process,
        verb: &str,
        args: &Value,
    ) -> Result<std::result::Result<String, String>> {
        let mut request = UpdateWorkflowExecutionRequest {
            namespace: self.control.clone(),
            workflow_execution: Some(WorkflowExecution {
                workflow_id: lifecycle_id(process),
                run_id: String::new(),
            }),
            wait_policy: Some(WaitPolicy {
                lifecycle_stage: UpdateWorkflowExecutionLifecycleStage::Completed.into(),
            }),
            request: Some(Request {
                meta: Some(Meta {
                    identity: "tests".into(),
                    update_id: format!("{verb}-{}", jiff::Timestamp::now().as_nanosecond()),
                }),
                input: Some(Input {
                    name: verb.into(),
                    args: Some(Payloads {
                        payloads: vec![json_payload(args)],
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut connection = self.temporal.connection.clone();
        let until = Instant::now() + LONGEST;
        let outcome = loop {
            let call = request.clone().into_request();
            let answer = WorkflowService::update_workflow_execution(&mut connection, call)
                .await?
                .into_inner();
            if let Some(outcome) = answer.outcome.and_then(|outcome| outcome.value) {
                break outcome;
            }
            // The server waits for some seconds only. The same id asks for the same answer, of the same run.
            ensure!(Instant::now() < until, "the update has no outcome");
            let given_to = answer.update_ref.and_then(|it| it.workflow_execution);
            request.workflow_execution = given_to.or(request.workflow_execution);
        };
        Ok(match outcome {
            outcome::Value::Success(payloads) => {
                let payload = payloads.payloads.first().context("an empty answer")?;
                let answer: Value = serde_json::from_slice(&payload.data)?;
                Ok(answer["message"].as_str().unwrap_or_default().to_owned())
            }
            outcome::Value::Failure(failure) => {
                let mut failure = &failure;
                while let Some(cause) = failure.cause.as_deref() {
                    failure = cause;
                }
                Err(failure.message.clone())
            }
        })
    }

    /// Asks by update for what must be granted.
    pub async fn grant(&self, process: &Process, verb: &str) -> Result<String> {
        self.grant_with(process, verb, &json!({})).await
    }

    /// The same with arguments.
    pub async fn grant_with(&self, process: &Process, verb: &str, args: &Value) -> Result<String> {
        let mut args = args.clone();
        args["actor"] = "ada@example.com".into();
        args["reason"] = "a test".into();
        let answer = self.ask(process, verb, &args).await?;
        answer.map_err(|why| anyhow::anyhow!("{verb} was refused: {why}"))
    }

    /// Asks by update for what must be refused; why it was.
    pub async fn refusal(&self, process: &Process, verb: &str) -> Result<String> {
        match self.ask(process, verb, &json!({})).await? {
            Ok(answer) => anyhow::bail!("{verb} was granted: {answer}"),
            Err(why) => Ok(why),
        }
    }

    /// Asks by annotation, as `kubectl annotate` does.
    pub async fn annotate(&self, process: &Process, id: &str, verb: &str) -> Result<Process> {
        self.annotate_with(process, id, verb, &json!({})).await
    }

    /// The same with arguments.
    pub async fn annotate_with(
        &self,
        process: &Process,
        id: &str,
        verb: &str,
        args: &Value,
    ) -> Result<Process> {
        let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5);
        let mut request = args.clone();
        request["id"] = id.into();
        request["verb"] = verb.into();
        request["uid"] = json!(process.metadata.uid);
        request["expiresAt"] = expires.to_string().into();
        request["actor"] = "ada@example.com".into();
        request["reason"] = "a test".into();
        let name = process.metadata.name.clone().unwrap_or_default();
        self.patch(
            &name,
            &json!({ "metadata": { "annotations": { "ameide.io/request": request.to_string() } } }),
        )
        .await
    }
}
