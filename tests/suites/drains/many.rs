//! Many drains that wait at the same time.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_harness::{Env, Scene, manifest, until};

use crate::support::SOON;

const PROCESSES: usize = 5;
/// The server takes in about one version a second. A complete run stays below the hundred that it takes
/// for one Worker Deployment.
fn each() -> usize {
    if std::env::var("FAULTS").is_ok_and(|value| value == "complete") {
        60
    } else {
        8
    }
}
/// Versions are taken in one after the other.
const LONG: Duration = Duration::from_secs(1200);
/// A roll alone takes one to four seconds. As long as any part of it waited behind drains it would not
/// end at all: they wait for days.
const UNDISTURBED: Duration = Duration::from_secs(30);

/// A version that only the server knows, held by a workflow that nobody takes.
async fn hold(env: &Env, name: &str, n: usize) -> Result<()> {
    let deployment = format!("{}/{name}", env.namespace);
    let (queue, build_id) = (format!("{name}-tq"), format!("old-{n}"));
    let version = (deployment.as_str(), build_id.as_str());
    let id = format!("{name}-{n}");
    until(&format!("{id} is started"), LONG, async || {
        env.temporal
            .poll_once(&env.apps, &queue, &deployment, &build_id)
            .await?;
        // Refused as long as the server has not taken the version in.
        let started = env.temporal.start_pinned(&env.apps, &queue, &id, version);
        started.await
    })
    .await
}

fn held(process: &Process) -> usize {
    let draining = process.status.iter().flat_map(|status| &status.draining);
    draining.filter(|it| it.open_workflows == Some(1)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_drains_do_not_delay_a_new_process() -> Result<()> {
    let scene = Scene::new("many").await?;
    let env = &scene.env;
    let names: Vec<String> = (0..PROCESSES).map(|n| format!("p{n}")).collect();
    for name in &names {
        env.apply(&manifest(env, name, "v1")).await?;
    }
    for name in &names {
        env.wait_settled(name, "v1").await?;
    }
    let all = names
        .iter()
        .flat_map(|name| (0..each()).map(move |n| (name, n)));
    futures::stream::iter(all)
        .map(|(name, n)| hold(env, name, n))
        .buffer_unordered(30)
        .try_collect::<Vec<()>>()
        .await?;
    until("all of them drain", LONG, async || {
        let all = env.api::<Process>().list(&ListParams::default()).await?;
        let held: usize = all.iter().map(held).sum();
        ensure!(held == PROCESSES * each(), "{held}");
        let open = "WorkflowType = 'ProcessDrain' AND ExecutionStatus = 'Running'";
        let open = env.temporal.list(&env.control, open).await?.len();
        ensure!(open == PROCESSES * each(), "{open} workflows");
        Ok(())
    })
    .await?;

    env.apply(&manifest(env, "new", "v1")).await?;
    env.wait_process("new", "it is Ready", UNDISTURBED, |process| {
        process_operator_harness::is_current(process, "v1")
    })
    .await?;
    env.wait_settled("new", "v1").await?;
    // One of them ends beside all the others.
    env.temporal.terminate(&env.apps, "p0-0").await?;
    env.wait_process("p0", "one drain less", SOON, |process| {
        held(process) == each() - 1
    })
    .await?;
    scene.finish().await
}
