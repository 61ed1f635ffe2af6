//! Starts a workflow by the name of its type, waits for it and prints the outcome as JSON.
//!
//! ```text
//! TEMPORAL_ADDRESS=localhost:7233 TEMPORAL_NAMESPACE=default TASK_QUEUE=orders \
//!   cargo run -p process-example-worker --example start -- Quick order-17 '{"fail":false}'
//! ```
//!
//! Arguments: workflow type, workflow id, input as JSON (may be left out), `--no-wait`.
//! Exits with 1 when the run does not complete.

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};
use std::process::ExitCode;
use temporalio_client::{
    Client, ClientOptions, UntypedWorkflow, WorkflowGetResultOptions, WorkflowStartOptions,
    envconfig::LoadClientConfigProfileOptions,
};
use temporalio_common::data_converters::{PayloadConverter, RawValue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let wait = !arguments.iter().any(|argument| argument == "--no-wait");
    arguments.retain(|argument| argument != "--no-wait");
    let (workflow_type, workflow_id, input) = match arguments.as_slice() {
        [workflow_type, id] => (workflow_type, id, None),
        [workflow_type, id, input] => (workflow_type, id, Some(input)),
        _ => bail!("usage: start WORKFLOW_TYPE WORKFLOW_ID [INPUT_AS_JSON] [--no-wait]"),
    };
    let input = match input {
        None => RawValue::new(vec![]),
        Some(text) => {
            let value: Value = serde_json::from_str(text).context("the input is not JSON")?;
            RawValue::from_value(&value, &PayloadConverter::default())
        }
    };
    let task_queue = std::env::var("TASK_QUEUE").context("TASK_QUEUE is not set")?;

    let (connection, client) =
        ClientOptions::load_from_config(LoadClientConfigProfileOptions::default())
            .map_err(|error| anyhow!("the Temporal connection settings are wrong: {error}"))?;
    let client = Client::connect(connection, client).await?;
    let handle = client
        .start_workflow(
            UntypedWorkflow::new(workflow_type),
            input,
            WorkflowStartOptions::new(task_queue, workflow_id).build(),
        )
        .await?;
    let mut outcome = json!({ "workflowId": workflow_id, "runId": handle.run_id() });
    let mut code = ExitCode::SUCCESS;
    if wait {
        match handle.get_result(WorkflowGetResultOptions::default()).await {
            Ok(raw) => {
                outcome["result"] = raw.payloads.first().map_or(Value::Null, |payload| {
                    serde_json::from_slice(&payload.data).unwrap_or(Value::Null)
                });
            }
            Err(problem) => {
                outcome["error"] = json!(problem.to_string());
                code = ExitCode::FAILURE;
            }
        }
    }
    println!("{outcome}");
    Ok(code)
}
