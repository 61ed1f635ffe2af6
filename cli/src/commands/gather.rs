//! `gather`: what a report of a problem needs, as one archive. Secrets are never read; values that may be
//! secret are taken out of everything else.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::{NamespaceResourceScope, Resource as _};
use kube::api::{ListParams, LogParams};
use kube::{Resource, ResourceExt as _};
use process_operator_crds::Process;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tar::{Builder, Header};

use super::objects;
use crate::args::GatherArgs;
use crate::cluster::{Cluster, forbidden, words};
use crate::model::tree;
use crate::render::line::text;
use crate::temporal::Temporal;
use crate::{render, scrub};

/// Logs longer than that are cut.
const LOG_BYTES: i64 = 4 * 1024 * 1024;

pub(crate) async fn run(cluster: &Cluster, args: &GatherArgs) -> Result<()> {
    let objects = objects::read(cluster, &args.name).await?;
    let now = Timestamp::now();
    let path = args.output.clone().unwrap_or_else(|| {
        PathBuf::from(format!(
            "process-{}-{}.tar.gz",
            args.name,
            now.strftime("%Y%m%dT%H%M%SZ")
        ))
    });
    let mut archive = Archive::create(&path, now)?;
    archive.add(
        "tree.txt",
        &text(&render::tree::tree(&tree(&objects), now, true), false),
    )?;
    archive.object("process.yaml", "Process", &objects.process)?;
    kind::<Deployment>(cluster, args, &mut archive, "deployments").await?;
    kind::<ReplicaSet>(cluster, args, &mut archive, "replicasets").await?;
    kind::<Pod>(cluster, args, &mut archive, "pods").await?;
    kind::<ControllerRevision>(cluster, args, &mut archive, "controllerrevisions").await?;
    kind::<ConfigMap>(cluster, args, &mut archive, "configmaps").await?;
    kind::<CronJob>(cluster, args, &mut archive, "cronjobs").await?;
    let runs = objects::runs(cluster, &args.name).await?;
    for pod in &runs {
        archive.object(&format!("pods/{}.yaml", pod.name_any()), "Pod", pod)?;
    }
    events(cluster, &objects.process, &mut archive).await?;
    for pod in objects.pods.iter().chain(&runs) {
        logs(cluster, pod, args.tail, &mut archive).await?;
    }
    histories(args, &objects.process, &mut archive).await?;
    archive.finish()?;
    if path.as_os_str() != "-" {
        eprintln!(
            "{} is written; look into it before you pass it on",
            path.display()
        );
    }
    Ok(())
}

/// A tar.gz that is being written.
struct Archive {
    tar: Builder<GzEncoder<Box<dyn Write>>>,
    time: u64,
    /// What could not be read.
    missing: Vec<String>,
}

impl Archive {
    fn create(path: &PathBuf, now: Timestamp) -> Result<Self> {
        let to: Box<dyn Write> = if path.as_os_str() == "-" {
            Box::new(io::stdout().lock())
        } else {
            Box::new(File::create(path).with_context(|| format!("writing {}", path.display()))?)
        };
        Ok(Self {
            tar: Builder::new(GzEncoder::new(to, Compression::default())),
            time: u64::try_from(now.as_second()).unwrap_or_default(),
            missing: Vec::new(),
        })
    }

    fn add(&mut self, name: &str, content: &str) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        self.tar
            .append_data(&mut header, name, content.as_bytes())?;
        Ok(())
    }

    /// An object without what may be secret.
    fn object<K: Serialize>(&mut self, name: &str, kind: &str, object: &K) -> Result<()> {
        let mut value = serde_json::to_value(object)?;
        if let Some(map) = value.as_object_mut() {
            map.entry("kind").or_insert_with(|| kind.into());
        }
        self.add(name, &serde_yaml_ng::to_string(&scrub::object(value))?)
    }

    fn finish(mut self) -> Result<()> {
        let missing = std::mem::take(&mut self.missing);
        if !missing.is_empty() {
            self.add("missing.txt", &(missing.join("\n") + "\n"))?;
        }
        self.tar.into_inner()?.finish()?.flush()?;
        Ok(())
    }
}

/// The objects of one kind that are made for the Process.
async fn kind<K>(
    cluster: &Cluster,
    args: &GatherArgs,
    archive: &mut Archive,
    plural: &str,
) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + k8s_openapi::Resource
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
{
    let Some(found) = objects::owned::<K>(cluster, &args.name, plural).await? else {
        archive
            .missing
            .push(format!("{plural}: no right to list them"));
        return Ok(());
    };
    for object in found {
        let name = format!("{plural}/{}.yaml", object.name_any());
        archive.object(&name, <K as k8s_openapi::Resource>::KIND, &object)?;
    }
    Ok(())
}

/// Events about the Process and what is made for it, the oldest first.
async fn events(cluster: &Cluster, process: &Process, archive: &mut Archive) -> Result<()> {
    let found = match cluster.api::<Event>().list(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(error) => {
            archive
                .missing
                .push(format!("{}: {}", Event::URL_PATH_SEGMENT, words(&error)));
            return Ok(());
        }
    };
    let name = process.name_any();
    let prefix = format!("{name}-");
    let mut about: Vec<&Event> = found
        .iter()
        .filter(|event| {
            let regarding = event.regarding.as_ref();
            let named = regarding
                .and_then(|it| it.name.as_deref())
                .unwrap_or_default();
            named == name || named.starts_with(&prefix)
        })
        .collect();
    let time = |event: &Event| {
        let last = event.deprecated_last_timestamp.as_ref().map(|at| at.0);
        last.or_else(|| event.event_time.as_ref().map(|at| at.0))
    };
    about.sort_by_key(|event| time(event));
    let told: Vec<Value> = about
        .into_iter()
        .map(|event| {
            let regarding = event.regarding.clone().unwrap_or_default();
            json!({
                "time": time(event).map(|at| at.to_string()),
                "type": event.type_,
                "reason": event.reason,
                "about": format!("{}/{}", regarding.kind.unwrap_or_default(), regarding.name.unwrap_or_default()),
                "note": event.note,
                "by": event.reporting_controller,
            })
        })
        .collect();
    archive.add("events.yaml", &serde_yaml_ng::to_string(&told)?)
}

/// The end of the logs of a pod: of what runs, and of what ran before a restart.
async fn logs(cluster: &Cluster, pod: &Pod, tail: i64, archive: &mut Archive) -> Result<()> {
    let name = pod.name_any();
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    for container in statuses.into_iter().flatten() {
        for previous in [false, true] {
            if previous && container.restart_count == 0 {
                continue;
            }
            let params = LogParams {
                container: Some(container.name.clone()),
                tail_lines: Some(tail),
                limit_bytes: Some(LOG_BYTES),
                previous,
                ..LogParams::default()
            };
            let suffix = if previous { "-previous" } else { "" };
            let file = format!("logs/{name}-{}{suffix}.log", container.name);
            match cluster.api::<Pod>().logs(&name, &params).await {
                Ok(log) => archive.add(&file, &log)?,
                Err(error) if forbidden(&error) => {
                    archive
                        .missing
                        .push(format!("{file}: no right to read logs"));
                }
                Err(error) => archive.missing.push(format!("{file}: {}", words(&error))),
            }
        }
    }
    Ok(())
}

/// The histories of the operator's workflows for the Process, without payloads.
async fn histories(args: &GatherArgs, process: &Process, archive: &mut Archive) -> Result<()> {
    let workflow = process
        .status
        .as_ref()
        .and_then(|status| status.workflow.clone());
    let (Some(connected), Some(workflow)) = (Temporal::connect(&args.temporal).await, workflow)
    else {
        return Ok(());
    };
    let temporal = match connected {
        Ok(temporal) => temporal,
        Err(why) => {
            archive.missing.push(format!("histories: {why}"));
            return Ok(());
        }
    };
    let key = workflow.id.trim_start_matches("process/");
    let query = format!(
        "WorkflowId = '{}' OR WorkflowId STARTS_WITH 'rollout/{key}/' OR WorkflowId STARTS_WITH 'drain/{key}/'",
        workflow.id
    );
    let found = match temporal.list(&workflow.namespace, &query).await {
        Ok(found) => found,
        Err(error) => {
            archive.missing.push(format!("histories: {error:#}"));
            return Ok(());
        }
    };
    for execution in found {
        let file = format!(
            "histories/{}-{}.json",
            execution.workflow_id.replace('/', "_"),
            execution.run_id
        );
        match temporal.history(&workflow.namespace, &execution).await {
            Ok(events) => {
                let told: Vec<Value> = events.iter().map(scrub::event).collect();
                archive.add(&file, &serde_json::to_string_pretty(&told)?)?;
            }
            Err(error) => archive.missing.push(format!("{file}: {error:#}")),
        }
    }
    Ok(())
}
