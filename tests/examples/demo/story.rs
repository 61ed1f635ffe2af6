//! The story, line by line.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_harness::{is_settled, until};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentInfo;
use temporalio_common::protos::temporal::api::enums::v1::WorkerDeploymentVersionStatus;
use tokio::task::JoinSet;

use crate::stage::{NAMESPACE, Stage, label};

/// For what takes a moment.
const SHORT: Duration = Duration::from_mins(1);
/// For pods, whose image may have to be fetched.
const PODS: Duration = Duration::from_mins(3);
/// A server with default settings looks every three minutes whether a version is drained, and keeps
/// the record of one until it has not seen its pollers for five.
const SERVER: Duration = Duration::from_mins(15);
/// How many workflows are started on each version.
const ORDERS: usize = 5;
/// The workflow that is open while the image changes.
const LONG: &str = "contract-1";

/// Prints each line when it has come true.
struct Teller {
    started: Instant,
    colours: bool,
}

impl Teller {
    fn print(&self, what: &str, text: impl Display) {
        let seconds = self.started.elapsed().as_secs_f32();
        if self.colours {
            println!("  \x1b[2m{seconds:6.1} s\x1b[0m  \x1b[1m{what:<16}\x1b[0m  {text}");
        } else {
            println!("  {seconds:6.1} s  {what:<16}  {text}");
        }
    }

    /// Looks until it is true. What goes wrong names the line.
    async fn line<T>(
        &self,
        what: &str,
        within: Duration,
        look: impl AsyncFnMut() -> Result<(T, String)>,
    ) -> Result<T> {
        match until(&format!("\"{what}\" did not come true"), within, look).await {
            Ok((found, text)) => {
                self.print(what, text);
                Ok(found)
            }
            Err(error) => {
                self.print("FAILED", what);
                Err(error)
            }
        }
    }
}

/// One version of the Process.
struct Version {
    build_id: String,
    deployment: String,
}

pub(crate) async fn tell(stage: &Stage) -> Result<()> {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let teller = Teller {
        started: Instant::now(),
        colours,
    };
    // A demo that was cut off may have left it open.
    let _ = stage
        .temporal
        .terminate(stage.temporal_namespace(), LONG)
        .await;

    let process = stage
        .apply()
        .await
        .context("\"applied\" did not come true")?;
    teller.print(
        "applied",
        format!(
            "Process {NAMESPACE}/{}, image {}",
            stage.name,
            stage.image("v1")
        ),
    );
    let v1 = roll(stage, &teller, &process, "v1", &[]).await?;
    answered(stage, &teller, &v1, "v1", 1).await?;
    teller
        .line("long-lived", SHORT, async || {
            let (space, queue) = (stage.temporal_namespace(), stage.queue());
            stage.temporal.start_waiting(space, queue, LONG).await?;
            Ok((
                (),
                format!(
                    "workflow {LONG} is open on {} and waits for a signal",
                    v1.build_id
                ),
            ))
        })
        .await?;

    stage
        .set_image(&stage.image("v2"))
        .await
        .context("\"image changed\" did not come true")?;
    teller.print("image changed", stage.image("v2"));
    let v2 = roll(stage, &teller, &process, "v2", &[&v1.deployment]).await?;
    answered(stage, &teller, &v2, "v2", ORDERS + 1).await?;
    teller
        .line("still on v1", SHORT, async || {
            let open = open_on(stage, LONG, &v1.build_id).await?;
            ensure!(open, "{LONG} is not open on {}", v1.build_id);
            let pods = ready(&deployment(stage, &v1.deployment).await?);
            ensure!(pods.0 > 0, "v1 has no ready pod");
            Ok((
                (),
                format!(
                    "{LONG} is open on {}, whose {} pod keeps running",
                    v1.build_id, pods.0
                ),
            ))
        })
        .await?;

    let finished = stage
        .temporal
        .finish_waiting(stage.temporal_namespace(), LONG)
        .await;
    teller
        .line("finished on v1", SHORT, async || {
            let end = finished
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error:#}"))?;
            ensure!(
                end.started_on == v1.build_id && end.completed_on == v1.build_id,
                "started on {}, completed on {}",
                end.started_on,
                end.completed_on
            );
            Ok((
                (),
                format!("{LONG} started and completed on {}", end.completed_on),
            ))
        })
        .await?;
    retired(stage, &teller, &v1, &v2).await?;
    summary(stage).await
}

/// A version comes up and takes over.
async fn roll(
    stage: &Stage,
    teller: &Teller,
    process: &Process,
    tag: &str,
    others: &[&str],
) -> Result<Version> {
    let deployment = teller
        .line("Deployment", SHORT, async || {
            let params = ListParams::default().labels(&label(process));
            let all = stage.api::<Deployment>().list(&params).await?;
            let mut names = all.items.into_iter().map(|found| found.name_any());
            let new = names.find(|name| !others.contains(&name.as_str()));
            let new = new.context("the operator has not made it")?;
            Ok((new.clone(), new))
        })
        .await?;
    teller
        .line("pods ready", PODS, async || {
            let (ready, wanted) = ready(&self::deployment(stage, &deployment).await?);
            ensure!(ready == wanted && ready > 0, "{ready} of {wanted}");
            Ok(((), format!("{ready} of {wanted}")))
        })
        .await?;
    let build_id = teller
        .line(&format!("{tag} is Current"), SHORT, async || {
            let status = stage.processes().get_status(&stage.name).await?.status;
            let current = status
                .and_then(|status| status.current_version)
                .context("no version is")?;
            let build_id = current.build_id;
            ensure!(build_id.starts_with(&format!("{tag}-")), "{build_id} is");
            // What the operator says, Temporal has to say too.
            let routed = worker_deployment(stage)
                .await?
                .and_then(|info| info.routing_config);
            let routed = routed.and_then(|config| config.current_deployment_version);
            let routed = routed.map(|version| version.build_id).unwrap_or_default();
            ensure!(routed == build_id, "Temporal routes to {routed:?}");
            let text = format!("Temporal sends new workflows to {build_id}");
            Ok((build_id, text))
        })
        .await?;
    Ok(Version {
        build_id,
        deployment,
    })
}

/// Workflows started now are answered by this version, all of them.
async fn answered(
    stage: &Stage,
    teller: &Teller,
    version: &Version,
    tag: &str,
    first: usize,
) -> Result<()> {
    teller
        .line(&format!("answered by {tag}"), SHORT, async || {
            let mut runs = JoinSet::new();
            for n in first..first + ORDERS {
                let temporal = stage.temporal.clone();
                let (space, queue) = (
                    stage.temporal_namespace().to_owned(),
                    stage.queue().to_owned(),
                );
                runs.spawn(
                    async move { temporal.quick(&space, &queue, &format!("order-{n}")).await },
                );
            }
            let mut pods = BTreeSet::new();
            while let Some(answer) = runs.join_next().await {
                let answer = answer??;
                ensure!(
                    answer.build_id == version.build_id,
                    "one by {}",
                    answer.build_id
                );
                pods.insert(answer.pod);
            }
            let pods: Vec<String> = pods.into_iter().collect();
            Ok((
                (),
                format!(
                    "{ORDERS} of {ORDERS} new workflows, by pod {}",
                    pods.join(", ")
                ),
            ))
        })
        .await
}

/// The superseded version goes once nothing needs it.
async fn retired(stage: &Stage, teller: &Teller, v1: &Version, v2: &Version) -> Result<()> {
    let record = async || -> Result<Option<WorkerDeploymentVersionStatus>> {
        let info = worker_deployment(stage).await?.unwrap_or_default();
        let of_v1 = info.version_summaries.into_iter().find(|summary| {
            let version = summary.deployment_version.as_ref();
            version.is_some_and(|version| version.build_id == v1.build_id)
        });
        Ok(of_v1.map(|summary| summary.status()))
    };
    teller
        .line("v1 is drained", SERVER, async || {
            let seen = record().await?;
            let drained = seen.is_none_or(|seen| seen == WorkerDeploymentVersionStatus::Drained);
            ensure!(drained, "{seen:?}");
            Ok((
                (),
                "Temporal says that no open workflow is pinned to it".to_owned(),
            ))
        })
        .await?;
    teller
        .line("v1 is gone", SERVER, async || {
            let left = stage.api::<Deployment>().get_opt(&v1.deployment).await?;
            ensure!(left.is_none(), "Deployment {} is there", v1.deployment);
            let params =
                ListParams::default().labels(&format!("ameide.io/build-id={}", v1.build_id));
            let pods = stage.api::<Pod>().list(&params).await?.items.len();
            ensure!(pods == 0, "{pods} pods");
            ensure!(record().await?.is_none(), "Temporal has a record of it");
            Ok((
                (),
                "its Deployment, its pods and its record in Temporal are removed".to_owned(),
            ))
        })
        .await?;
    teller
        .line("settled", SHORT, async || {
            let process = stage.processes().get_status(&stage.name).await?;
            ensure!(
                is_settled(&process, "v2"),
                "{:?}",
                process.status.map(|status| status.conditions)
            );
            Ok(((), format!("{} serves, nothing is left to do", v2.build_id)))
        })
        .await
}

/// What a person sees, and where.
async fn summary(stage: &Stage) -> Result<()> {
    let output = stage
        .testbed
        .kubectl()
        .args(["-n", NAMESPACE, "get", "processes"])
        .output()?;
    println!("\n  $ kubectl -n {NAMESPACE} get processes");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("  {}", line.trim_end());
    }
    let status = stage.processes().get_status(&stage.name).await?.status;
    let workflow = status
        .and_then(|status| status.workflow)
        .context("status names no workflow")?;
    let path = format!(
        "/namespaces/{}/workflows/{}/{}/history",
        workflow.namespace,
        workflow.id.replace('/', "%2F"),
        workflow.run_id.unwrap_or_default()
    );
    match &stage.testbed.state().ui_url {
        Some(url) => {
            println!(
                "\n  Temporal UI  {url}/namespaces/{}/workflows",
                workflow.namespace
            );
            println!("  lifecycle    {url}{path}");
        }
        None => println!("\n  lifecycle    {path} in your Temporal UI"),
    }
    Ok(())
}

async fn deployment(stage: &Stage, name: &str) -> Result<Deployment> {
    Ok(stage.api::<Deployment>().get(name).await?)
}

/// Ready and wanted pods.
fn ready(deployment: &Deployment) -> (i32, i32) {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.as_ref();
    (
        status.and_then(|status| status.ready_replicas).unwrap_or(0),
        wanted,
    )
}

async fn worker_deployment(stage: &Stage) -> Result<Option<WorkerDeploymentInfo>> {
    let name = format!("{NAMESPACE}/{}", stage.name);
    stage
        .temporal
        .worker_deployment(stage.temporal_namespace(), &name)
        .await
}

/// A workflow is open and belongs to a version, as Temporal says.
async fn open_on(stage: &Stage, id: &str, build_id: &str) -> Result<bool> {
    let query = format!(
        "WorkflowId = '{id}' AND ExecutionStatus = 'Running' AND \
         TemporalWorkerDeploymentVersion = '{NAMESPACE}/{}:{build_id}'",
        stage.name
    );
    Ok(!stage
        .temporal
        .list(stage.temporal_namespace(), &query)
        .await?
        .is_empty())
}
