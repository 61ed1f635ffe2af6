//! What tests look at beside the Process itself: Events, pods, workflows about a Process.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;

use crate::env::Env;

/// Workflow id of the lifecycle of a Process.
pub fn lifecycle_id(process: &Process) -> String {
    format!(
        "process/{}/{}/{}",
        process.namespace().unwrap_or_default(),
        process.name_any(),
        process.uid().unwrap_or_default()
    )
}

/// What a program makes of its input.
fn fed(program: &mut Command, input: &str) -> Result<String> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

impl Env {
    /// Reason and note of all Events about one Process, the oldest first.
    pub async fn events(&self, process: &Process) -> Result<Vec<(String, String)>> {
        let mut events = self
            .api::<Event>()
            .list(&ListParams::default())
            .await?
            .items;
        events.retain(|event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|about| about.uid == process.metadata.uid)
        });
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let text = |part: Option<String>| part.unwrap_or_default();
        Ok(events
            .into_iter()
            .map(|event| (text(event.reason), text(event.note)))
            .collect())
    }

    /// What kstatus makes of a Process: `InProgress`, `Current`, `Failed` or `Terminating`, and why.
    pub fn kstatus(&self, process: &Process) -> Result<(String, String)> {
        let mut program = self.testbed.kstatus()?;
        let text = fed(&mut program, &serde_json::to_string(process)?)?;
        let (status, why) = text.trim_end().split_once('\t').unwrap_or((&text, ""));
        Ok((status.to_owned(), why.to_owned()))
    }

    /// Pods of the versions of a Process.
    pub async fn pods(&self, process: &str) -> Result<Vec<Pod>> {
        let params = ListParams::default().labels(&format!("ameide.io/process={process}"));
        Ok(self.api::<Pod>().list(&params).await?.items)
    }

    /// Ids of all workflows, open or closed, whose id begins so.
    pub async fn workflows(&self, prefix: &str) -> Result<Vec<String>> {
        let query = format!("WorkflowId STARTS_WITH '{prefix}'");
        let found = self.temporal.list(&self.control, &query).await?;
        Ok(found
            .into_iter()
            .filter_map(|info| Some(info.execution?.workflow_id))
            .collect())
    }
}
