//! What tests look at beside the Process itself: Events, pods, workflows about a Process.

use anyhow::Result;
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
