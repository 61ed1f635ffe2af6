//! Many Processes at once. Those without pods are settled as far as they can be when their one Deployment is
//! that of the spec: nobody polls, so none becomes Current.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_harness::{Env, manifest, until};
use serde_json::{Value, json};

use crate::world::SOON;

/// Requests of a test side by side.
const AT_ONCE: usize = 8;

/// As many as two cores carry beside other tests, or what `FAULTS=complete` asks for.
pub(crate) fn how_many(by_default: usize, complete: usize) -> usize {
    if process_operator_harness::complete() {
        complete
    } else {
        by_default
    }
}

/// Until so many are done.
pub(crate) fn soon(count: usize) -> Duration {
    SOON + Duration::from_secs(u64::try_from(count).unwrap_or_default())
}

/// `<prefix><n>`.
pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

pub(crate) fn without_pods(env: &Env, name: &str) -> Value {
    let mut wanted = manifest(env, name, "v1");
    wanted["spec"]["replicas"] = json!(0);
    wanted
}

/// Creates those without pods.
pub(crate) async fn create(env: &Env, names: &[String]) -> Result<()> {
    futures::stream::iter(names)
        .map(|name| async move {
            env.apply(&without_pods(env, name)).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Gives them another image.
pub(crate) async fn set_tags(env: &Env, names: &[String], tag: &str) -> Result<()> {
    futures::stream::iter(names)
        .map(|name| async move {
            env.set_tag(name, tag).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Waits until each has one Deployment, that of its tag, and its status is about the present spec.
pub(crate) async fn deployed(
    env: &Env,
    names: &[String],
    tag: &str,
    within: Duration,
) -> Result<()> {
    let build = format!("{tag}-");
    until(&format!("all have {tag} deployed"), within, async || {
        let all = ListParams::default();
        let processes = env.api::<Process>().list(&all).await?;
        let deployments = env.api::<Deployment>().list(&all).await?;
        let settled = |name: &String| {
            let process = processes.iter().find(|it| it.name_any() == *name);
            let told = process.is_some_and(|process| targets(process, &build));
            let label = |it: &Deployment, key: &str| it.labels().get(key).cloned();
            let own: Vec<_> = deployments
                .iter()
                .filter(|it| label(it, "ameide.io/process").as_ref() == Some(name))
                .filter_map(|it| label(it, "ameide.io/build-id"))
                .collect();
            told && own.len() == 1 && own[0].starts_with(&build)
        };
        let late: Vec<_> = names.iter().filter(|name| !settled(name)).collect();
        ensure!(late.is_empty(), "{} are late: {late:?}", late.len());
        Ok(())
    })
    .await
}

fn targets(process: &Process, build: &str) -> bool {
    let Some(status) = &process.status else {
        return false;
    };
    let target = status.target_version.as_ref();
    status.observed_generation == process.metadata.generation
        && target.is_some_and(|target| target.build_id.starts_with(build))
}
