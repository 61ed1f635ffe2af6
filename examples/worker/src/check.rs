//! `process-example-worker check`: a job beside the workers, which looks whether what was promised about
//! running workflows is kept, and ends.

use crate::{config::Config, serve::connection_options};
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use std::time::Duration;
use temporalio_client::{Client, WorkflowCountOptions};
use tracing::info;

/// A workflow may be open for so long, unless `SLA_SECONDS` says otherwise.
const PROMISED: u64 = 86_400;

/// Counts open workflows of the task queue, and fails when one has been open for longer than promised.
pub async fn check(config: &Config) -> anyhow::Result<()> {
    let promised = match std::env::var("SLA_SECONDS") {
        Ok(text) => text.parse().context("SLA_SECONDS must be a number")?,
        Err(_) => PROMISED,
    };
    let (connection, client) = connection_options(config)?;
    let client = Client::connect(connection, client).await?;
    let open = format!(
        "TaskQueue = '{}' AND ExecutionStatus = 'Running'",
        config.task_queue
    );
    let began = Timestamp::now() - Duration::from_secs(promised);
    let late = format!("{open} AND StartTime < '{began}'");
    let open = client.count_workflows(open, WorkflowCountOptions::default());
    let late = client.count_workflows(late, WorkflowCountOptions::default());
    let (open, late) = (open.await?.count(), late.await?.count());
    info!(
        job = std::env::var("PROCESS_CRON_JOB").unwrap_or_default(),
        purpose = std::env::var("PROCESS_CRON_JOB_PURPOSE").unwrap_or_default(),
        task_queue = config.task_queue,
        open,
        late,
        "checked"
    );
    if late > 0 {
        bail!("{late} workflows have been open for longer than {promised} s");
    }
    Ok(())
}
