//! Processes under test.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::Process;
use serde_json::{Value, json};

use crate::env::Env;

/// A minimal Process on image `localhost/process-example-worker:<tag>`.
pub fn manifest(env: &Env, name: &str, tag: &str) -> Value {
    json!({
        "apiVersion": "ameide.io/v1",
        "kind": "Process",
        "metadata": { "name": name, "namespace": env.namespace },
        "spec": {
            "image": format!("localhost/process-example-worker:{tag}"),
            "definitionRef": { "id": "L2O_v3", "tenantId": "t123" },
            "temporal": { "namespace": env.apps, "taskQueue": format!("{name}-tq") },
            "worker": { "terminationGracePeriodSeconds": 5 },
        },
    })
}

/// Status and reason of a condition.
pub fn condition(process: &Process, type_: &str) -> (String, String, String) {
    process
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .find(|condition| condition.type_ == type_)
        .map(|found| {
            (
                found.status.clone(),
                found.reason.clone(),
                found.message.clone(),
            )
        })
        .unwrap_or_default()
}

/// A version with this tag is current, and status is about the present generation.
pub fn is_current(process: &Process, tag: &str) -> bool {
    let Some(status) = &process.status else {
        return false;
    };
    let build = |version: &Option<process_operator_crds::status::VersionStatus>| {
        version
            .as_ref()
            .map(|version| version.build_id.clone())
            .unwrap_or_default()
    };
    status.observed_generation == process.metadata.generation
        && build(&status.current_version).starts_with(&format!("{tag}-"))
        && build(&status.current_version) == build(&status.target_version)
}

/// Current, ready, and nothing under way.
pub fn is_settled(process: &Process, tag: &str) -> bool {
    let is = |type_: &str, status: &str| condition(process, type_).0 == status;
    is_current(process, tag)
        && is("Ready", "True")
        && is("WorkersReady", "True")
        && is("Progressing", "False")
        && is("Reconciling", "False")
        && is("Stalled", "False")
        && is("Degraded", "False")
        && is("Draining", "False")
}

impl Env {
    /// Applies a manifest as a user does.
    pub async fn apply(&self, manifest: &Value) -> Result<Process> {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply("tests").force();
        Ok(self
            .api::<Process>()
            .patch(name, &params, &Patch::Apply(manifest))
            .await?)
    }

    /// Changes the image tag, as `kubectl patch` does.
    pub async fn set_tag(&self, name: &str, tag: &str) -> Result<Process> {
        let image = format!("localhost/process-example-worker:{tag}");
        self.patch(name, &json!({ "spec": { "image": image } }))
            .await
    }

    /// A merge patch of a Process.
    pub async fn patch(&self, name: &str, patch: &Value) -> Result<Process> {
        Ok(self
            .api::<Process>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?)
    }

    /// Watches a Process until it is as wanted.
    pub async fn wait_process(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Process) -> bool,
    ) -> Result<Process> {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut changes = std::pin::pin!(
            watcher(self.api::<Process>(), config)
                .default_backoff()
                .applied_objects()
        );
        let mut last: Option<Process> = None;
        let found = tokio::time::timeout(within, async {
            while let Some(change) = changes.next().await {
                // A watch that the API server ends is begun anew.
                let Ok(process) = change else {
                    continue;
                };
                if wanted(&process) {
                    return Ok(Some(process));
                }
                last = Some(process);
            }
            anyhow::Ok(None)
        })
        .await;
        match found {
            Ok(Ok(Some(process))) => Ok(process),
            Ok(Err(error)) => Err(error),
            _ => anyhow::bail!(
                "{}/{name}: {what}: not within {} s; last status: {}",
                self.namespace,
                within.as_secs(),
                serde_json::to_string_pretty(&last.and_then(|process| process.status))?
            ),
        }
    }

    /// Waits until a version with this tag is current and nothing is under way.
    pub async fn wait_settled(&self, name: &str, tag: &str) -> Result<Process> {
        self.wait_process(name, &format!("settled on {tag}"), crate::SOON, |process| {
            is_settled(process, tag)
        })
        .await
    }

    /// Waits until the Process is gone.
    pub async fn wait_gone(&self, name: &str) -> Result<()> {
        crate::until(&format!("{name} is gone"), crate::SOON, async || {
            ensure!(
                self.api::<Process>().get_opt(name).await?.is_none(),
                "still there"
            );
            Ok(())
        })
        .await
    }

    /// Owned Deployments of a Process.
    pub async fn deployments(&self, process: &str) -> Result<Vec<Deployment>> {
        let params = ListParams::default().labels(&format!("ameide.io/process={process}"));
        Ok(self.api::<Deployment>().list(&params).await?.items)
    }
}
