//! `logs`: what the workers of one version write.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, ResourceExt as _};
use process_operator_crds::Process;
use process_operator_crds::names::{BuildId, label, selector};
use tokio::sync::mpsc;

use super::objects;
use crate::args::LogsArgs;
use crate::cluster::{Cluster, explain};
use crate::exit::unasked;
use crate::out::write;

/// Container of the worker.
const CONTAINER: &str = "worker";
/// Lines that wait to be printed.
const QUEUE: usize = 256;

pub(crate) async fn run(cluster: &Cluster, args: &LogsArgs) -> Result<()> {
    let process = cluster.process(&args.name).await?;
    let build_id = version(cluster, args, &process).await?;
    let labels = selector(&args.name, &BuildId::from_observed(&build_id));
    let params = LogParams {
        container: Some(CONTAINER.into()),
        follow: args.follow,
        tail_lines: args.tail,
        since_seconds: args
            .since
            .map(|since| i64::try_from(since.as_secs()))
            .transpose()?,
        ..LogParams::default()
    };
    let api = cluster.api::<Pod>();
    if args.follow {
        return follow(&api, &labels, params).await;
    }
    let pods = api.list(&ListParams::default().labels(&labels)).await;
    let pods = pods.map_err(|error| explain(&"pods", &error))?.items;
    if pods.is_empty() {
        return Err(unasked(format!("version {build_id} has no pods")));
    }
    let many = pods.len() > 1;
    for pod in pods.iter().filter(|pod| began(pod)) {
        let name = pod.name_any();
        let lines = api.log_stream(&name, &params).await;
        let lines = lines.map_err(|error| explain(&format!("logs of pod {name}"), &error))?;
        let mut lines = lines.lines();
        while let Some(line) = lines.try_next().await? {
            print(&name, &line, many)?;
        }
    }
    Ok(())
}

/// The build id that is meant.
async fn version(cluster: &Cluster, args: &LogsArgs, process: &Process) -> Result<String> {
    let Some(wanted) = &args.version else {
        let status = process.status.as_ref();
        let current = status.and_then(|status| status.current_version.as_ref());
        return current
            .map(|current| current.build_id.clone())
            .ok_or_else(|| unasked("no version is current yet: name one with --version"));
    };
    let pods = objects::owned::<Pod>(cluster, &args.name, "pods").await?;
    let pods = pods.ok_or_else(|| unasked("you have no right to list pods"))?;
    let known: BTreeSet<&String> = pods
        .iter()
        .filter_map(|pod| pod.labels().get(label::BUILD_ID))
        .collect();
    let fitting: Vec<&&String> = known.iter().filter(|id| id.starts_with(wanted)).collect();
    match fitting[..] {
        [one] => Ok((*one).clone()),
        _ if known.contains(wanted) => Ok(wanted.clone()),
        [] => Err(unasked(format!(
            "no version {wanted} has pods; these have: {}",
            names(known.iter())
        ))),
        _ => Err(unasked(format!(
            "{wanted} may be any of {}",
            names(fitting.into_iter())
        ))),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a &'a String>) -> String {
    let names: Vec<&str> = names.map(|name| name.as_str()).collect();
    names.join(", ")
}

/// Prints what is written from now on, by pods that come later too.
async fn follow(api: &Api<Pod>, labels: &str, params: LogParams) -> Result<()> {
    let mut pods = std::pin::pin!(
        watcher(api.clone(), Config::default().labels(labels))
            .default_backoff()
            .applied_objects()
    );
    let (sender, mut lines) = mpsc::channel::<(String, String)>(QUEUE);
    let mut read = BTreeSet::new();
    loop {
        tokio::select! {
            pod = pods.next() => {
                let Some(Ok(pod)) = pod else { continue };
                // A container that was restarted begins another log.
                let run = (pod.name_any(), restarts(&pod));
                if began(&pod) && read.insert(run) {
                    let reader = copy(api.clone(), pod.name_any(), params.clone(), sender.clone());
                    tokio::spawn(reader);
                }
            }
            Some((pod, line)) = lines.recv() => print(&pod, &line, true)?,
        }
    }
}

/// Reads one log to its end.
async fn copy(api: Api<Pod>, pod: String, params: LogParams, to: mpsc::Sender<(String, String)>) {
    let Ok(lines) = api.log_stream(&pod, &params).await else {
        return;
    };
    let mut lines = lines.lines();
    while let Ok(Some(line)) = lines.try_next().await {
        if to.send((pod.clone(), line)).await.is_err() {
            return;
        }
    }
}

/// Whether the container has ever run: otherwise there is no log.
fn began(pod: &Pod) -> bool {
    worker(pod).is_some_and(|worker| {
        let state = worker.state.as_ref();
        worker.restart_count > 0
            || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    })
}

fn restarts(pod: &Pod) -> i32 {
    worker(pod).map_or(0, |worker| worker.restart_count)
}

fn worker(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::ContainerStatus> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers
        .iter()
        .find(|container| container.name == CONTAINER)
}

fn print(pod: &str, line: &str, many: bool) -> Result<()> {
    if many {
        return write(&format!("[{pod}] {line}\n"));
    }
    write(&format!("{line}\n"))
}
