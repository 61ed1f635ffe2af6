//! What the tests of this suite share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::status::DrainingVersion;
use process_operator_crds::{Process, names};
use process_operator_harness::{Env, is_current, manifest};
use serde_json::{Value, json};

/// Deadline of waits for what takes a moment; two cores carry everything.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// The queue of the workers.
pub(crate) const QUEUE: &str = "l2o-tq";

/// Starts workflows `<prefix>-<n>` that stay open.
pub(crate) async fn open(env: &Env, prefix: &str, count: usize, ignore_cancel: bool) -> Result<()> {
    env.open_crowd(QUEUE, prefix, count, ignore_cancel).await
}

/// Workflows `<prefix>-…` by their status.
pub(crate) async fn count(env: &Env, prefix: &str, status: &str) -> Result<usize> {
    env.count_crowd(prefix, status).await
}

/// Waits until so many have that status.
pub(crate) async fn counted(env: &Env, prefix: &str, status: &str, wanted: usize) -> Result<()> {
    env.wait_crowd(prefix, status, wanted, SOON).await
}

/// A Process on v1 with this `spec.drain`. From now on pods stay as long as something runs on their version.
pub(crate) async fn on_v1(world: &Env, drain: &Value, env: &[(&str, &str)]) -> Result<Process> {
    let mut process = manifest(world, "l2o", "v1");
    process["spec"]["drain"] = drain.clone();
    let env: Vec<Value> = env
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    process["spec"]["worker"]["env"] = env.into();
    world.apply(&process).await?;
    let process = world.wait_settled("l2o", "v1").await?;
    world.guard_versions("l2o");
    Ok(process)
}

/// What status says about the version that drains.
pub(crate) fn draining(process: &Process) -> Option<DrainingVersion> {
    process.status.as_ref()?.draining.first().cloned()
}

/// Rolls to v2 and waits until v1 drains with so many open workflows.
pub(crate) async fn to_v2(env: &Env, open: i64) -> Result<(Process, DrainingVersion)> {
    env.set_tag("l2o", "v2").await?;
    held(env, open).await
}

/// Waits until status shows v1 draining with so many open workflows, with v2 current.
pub(crate) async fn held(env: &Env, open: i64) -> Result<(Process, DrainingVersion)> {
    let process = env
        .wait_process("l2o", &format!("{open} hold v1"), SOON, |process| {
            is_current(process, "v2")
                && draining(process).is_some_and(|it| it.open_workflows == Some(open))
        })
        .await?;
    let version = draining(&process).context("draining")?;
    Ok((process, version))
}

/// Changes `spec.drain`.
pub(crate) async fn set_drain(env: &Env, drain: &Value) -> Result<()> {
    env.patch("l2o", &json!({ "spec": { "drain": drain } }))
        .await?;
    Ok(())
}

/// What status.history tells: what, why and who, oldest first.
pub(crate) fn told(process: &Process) -> Vec<(String, String, String)> {
    let history = process.status.iter().flat_map(|status| &status.history);
    history
        .map(|entry| {
            (
                entry.what.clone(),
                entry.reason.clone().unwrap_or_default(),
                entry.actor.clone().unwrap_or_default(),
            )
        })
        .collect()
}

/// Waits until status.history tells this; why and who.
pub(crate) async fn tells(env: &Env, what: &str) -> Result<(String, String)> {
    let process = env
        .wait_process("l2o", what, SOON, |process| {
            told(process).iter().any(|(told, _, _)| told == what)
        })
        .await?;
    let found = told(&process)
        .into_iter()
        .rfind(|(told, _, _)| told == what);
    let (_, reason, actor) = found.context("told")?;
    Ok((reason, actor))
}

/// Waits until nothing is left of v1 but what a rollback needs.
pub(crate) async fn retired(env: &Env) -> Result<()> {
    tells(env, "VersionRetired").await?;
    let left = env.deployments("l2o").await?;
    ensure!(left.len() == 1, "only v2 has a Deployment: {}", left.len());
    Ok(())
}

/// Id of the only drain of v1.
pub(crate) async fn drain_id(env: &Env, process: &Process) -> Result<String> {
    let uid = process.uid().unwrap_or_default();
    let prefix = format!("drain/{}/l2o/{uid}/v1-", env.namespace);
    let ids = env.workflows(&prefix).await?;
    ids.first().cloned().context("no drain")
}

/// Wanted pods of v1's Deployment; `None` when there is none.
pub(crate) async fn replicas(env: &Env, build_id: &str) -> Result<Option<i32>> {
    let deployments = env.deployments("l2o").await?;
    let found = deployments
        .iter()
        .find(|deployment| deployment.labels().values().any(|value| value == build_id));
    Ok(found.and_then(|deployment| deployment.spec.as_ref()?.replicas))
}

/// When pods were first told to stop, by build id.
pub(crate) struct Stops {
    seen: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    watch: tokio::task::JoinHandle<()>,
}

impl Stops {
    /// Watches the pods of the Process.
    pub(crate) fn watch(env: &Env) -> Self {
        let seen = Arc::<Mutex<BTreeMap<String, Timestamp>>>::default();
        let (pods, into) = (env.api::<Pod>(), seen.clone());
        let watch = tokio::spawn(async move {
            let mut changes = std::pin::pin!(
                watcher(pods, watcher::Config::default())
                    .default_backoff()
                    .touched_objects()
            );
            while let Some(change) = changes.next().await {
                let Ok(pod) = change else { continue };
                let build_id = pod.labels().get(names::label::BUILD_ID).cloned();
                if pod.metadata.deletion_timestamp.is_some()
                    && let (Some(build_id), Ok(mut seen)) = (build_id, into.lock())
                {
                    seen.entry(build_id).or_insert_with(Timestamp::now);
                }
            }
        });
        Self { seen, watch }
    }

    /// When the first pod of the version was told to stop.
    pub(crate) fn of(self, build_id: &str) -> Result<Timestamp> {
        self.watch.abort();
        let seen = self.seen.lock().ok();
        let stopped = seen.and_then(|seen| seen.get(build_id).copied());
        stopped.context("its pods were never told to stop")
    }

    /// No pod of the version was told to stop before the last of its workflows had closed.
    pub(crate) async fn after_the_last(self, env: &Env, build_id: &str, query: &str) -> Result<()> {
        let stopped = self.of(build_id)?;
        let closed = env.temporal.list(&env.apps, query).await?;
        let last = closed
            .iter()
            .map(|info| info.close_time.as_ref().context("still open"))
            .map(|at| at.and_then(|at| Ok(Timestamp::new(at.seconds, at.nanos)?)))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .max()
            .context("no workflows")?;
        ensure!(
            last < stopped,
            "stopped at {stopped}, the last one closed at {last}"
        );
        Ok(())
    }
}
