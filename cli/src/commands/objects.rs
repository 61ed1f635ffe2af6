//! Reads the objects of a Process. What the caller may not read is left out and said.

use anyhow::Result;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::ListParams;
use process_operator_crds::{Process, names};
use serde::de::DeserializeOwned;

use crate::cluster::{Cluster, explain, forbidden};
use crate::model::Objects;

/// Label selector of everything that is made for a Process.
pub(crate) fn selector(name: &str) -> String {
    format!("{}={name}", names::label::PROCESS)
}

/// A Process with what is made for it.
pub(crate) async fn read(cluster: &Cluster, name: &str) -> Result<Objects> {
    let process = cluster.process(name).await?;
    of(cluster, process).await
}

/// What is made for a Process.
pub(crate) async fn of(cluster: &Cluster, process: Process) -> Result<Objects> {
    let name = process.metadata.name.clone().unwrap_or_default();
    let (deployments, pods, revisions) = tokio::try_join!(
        owned::<Deployment>(cluster, &name, "deployments"),
        owned::<Pod>(cluster, &name, "pods"),
        owned::<ControllerRevision>(cluster, &name, "controllerrevisions"),
    )?;
    let unseen = [
        deployments.is_none().then_some("deployments"),
        pods.is_none().then_some("pods"),
        revisions.is_none().then_some("controllerrevisions"),
    ];
    Ok(Objects {
        process,
        deployments: deployments.unwrap_or_default(),
        pods: pods.unwrap_or_default(),
        revisions: revisions.unwrap_or_default(),
        unseen: unseen.into_iter().flatten().map(str::to_owned).collect(),
    })
}

/// Objects that are made for a Process; `None` when the caller may not list the kind.
pub(crate) async fn owned<K>(cluster: &Cluster, name: &str, kind: &str) -> Result<Option<Vec<K>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    labelled(cluster, &selector(name), kind).await
}

/// Pods of the runs of cron jobs of a Process, which do not have the label of the pods of its workers.
pub(crate) async fn runs(cluster: &Cluster, name: &str) -> Result<Vec<Pod>> {
    let of_jobs = format!(
        "{},{}={name}",
        names::label::CRON_JOB,
        names::label::APP_PART_OF
    );
    Ok(labelled(cluster, &of_jobs, "pods")
        .await?
        .unwrap_or_default())
}

async fn labelled<K>(cluster: &Cluster, labels: &str, kind: &str) -> Result<Option<Vec<K>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let params = ListParams::default().labels(labels);
    match cluster.api::<K>().list(&params).await {
        Ok(list) => Ok(Some(list.items)),
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(explain(&kind, &error)),
    }
}
