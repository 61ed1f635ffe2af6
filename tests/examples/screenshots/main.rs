//! Pictures of the Temporal UI for the documentation, all of one real run: a version that drains, a canary
//! beside it, their lifecycle, and the form by which somebody ends the drain. `cargo xtask screenshots`
//! starts it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{
    Env, Operator, OperatorOptions, SOON, Tab, TemporalUi, is_current, lifecycle_id, manifest,
    until,
};
use serde_json::json;

/// Kubernetes namespace of the Process, and Temporal namespace of its workers.
const NAMESPACE: &str = "shop";
/// Temporal namespace of the operator's workflows.
const CONTROL: &str = "process-operator-pictures";
/// Larger ones make a page of documentation slow.
const MOST_BYTES: u64 = 200_000;
/// Scrolls past the head of the page.
const TO_EVENTS: &str =
    "document.querySelector('[data-testid=input-and-result]')?.scrollIntoView()";
/// What all of them show, as far as they show anything below it.
const HEIGHT: u32 = 940;

#[tokio::main]
async fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    match run(dir).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(dir: Option<PathBuf>) -> Result<()> {
    let dir = dir.context("the directory of the pictures is the only argument")?;
    std::fs::create_dir_all(&dir)?;
    let env = Env::named(NAMESPACE, NAMESPACE, CONTROL)
        .await
        .with_context(|| format!("Namespace {NAMESPACE} is for the pictures alone"))?;
    let operator = Operator::start(&env, OperatorOptions::default()).await?;
    let taken = tokio::select! {
        taken = take(&env, &dir) => taken,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by Ctrl-C")),
    };
    if taken.is_err() {
        eprintln!("The operator's log is {}.", operator.log.display());
    }
    let cleared = clear(env).await;
    taken.and(cleared)
}

/// Removes what was made, so that the next pictures show nothing of these.
async fn clear(env: Env) -> Result<()> {
    for info in env
        .temporal
        .list(&env.apps, "ExecutionStatus = 'Running'")
        .await?
    {
        let id = info.execution.unwrap_or_default().workflow_id;
        // It may have ended since.
        let _ = env.temporal.terminate(&env.apps, &id).await;
    }
    let cleared = env.clear().await;
    env.remove().await.and(cleared)
}

/// Takes the pictures and says which.
struct Album<'a> {
    ui: TemporalUi,
    dir: &'a Path,
    begun: Instant,
    taken: usize,
}

/// How many there are to be.
const PICTURES: usize = 6;

impl Album<'_> {
    /// A picture of the page, once it shows all of these.
    async fn take(&mut self, name: &str, parts: &[&str]) -> Result<()> {
        let text = self.ui.shows(parts).await?;
        ensure!(
            !text.contains("No workers polling"),
            "{name}: the page says that no operator works"
        );
        self.ui.browser.picture(&self.dir.join(name)).await?;
        self.told(name)
    }

    /// A picture of what a workflow says of itself.
    async fn take_workflow(&mut self, name: &str, id: &str, parts: &[&str]) -> Result<()> {
        self.ui.workflow(CONTROL, id, Tab::UserMetadata).await?;
        self.take(name, parts).await
    }

    /// A picture of the form for a signal.
    async fn take_form(&mut self, name: &str) -> Result<()> {
        self.ui.picture_of_form(&self.dir.join(name)).await?;
        self.told(name)
    }

    fn told(&mut self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        let bytes = std::fs::metadata(&path)?.len();
        ensure!(
            bytes < MOST_BYTES,
            "{name} has {bytes} bytes: more than {MOST_BYTES}"
        );
        self.taken += 1;
        println!(
            "{:8.1} s  {} of {PICTURES}: {} ({} kB)",
            self.begun.elapsed().as_secs_f32(),
            self.taken,
            path.display(),
            bytes / 1000
        );
        Ok(())
    }
}

async fn take(env: &Env, dir: &Path) -> Result<()> {
    let process = scene(env).await?;
    let uid = process.metadata.uid.clone().unwrap_or_default();
    let lifecycle = lifecycle_id(&process);
    let rollout = only(env, &format!("rollout/{NAMESPACE}/l2o/{uid}/v3-")).await?;
    let drain = only(env, &format!("drain/{NAMESPACE}/l2o/{uid}/v1-")).await?;
    let mut album = Album {
        ui: TemporalUi::start(&env.testbed, HEIGHT).await?,
        dir,
        begun: Instant::now(),
        taken: 0,
    };

    let query = format!(
        "ProcessKubernetesNamespace = '{NAMESPACE}' AND ProcessName = 'l2o' AND ExecutionStatus = 'Running'"
    );
    album.ui.list(CONTROL, &query).await?;
    album
        .take(
            "workflows.png",
            &["process/shop/l2o/", "rollout/shop/l2o/", "drain/shop/l2o/"],
        )
        .await?;
    album
        .take_workflow(
            "lifecycle.png",
            &lifecycle,
            &["draining 0 % 1 of 1", "target 25 % 1 of 1"],
        )
        .await?;
    album
        .take_workflow(
            "canary.png",
            &rollout,
            &["▶ 1 of 3", "25 % of new workflows go to v3-"],
        )
        .await?;
    album
        .take_workflow(
            "drain.png",
            &drain,
            &["pinned to it: 12", "they are cancelled"],
        )
        .await?;

    // The form is on the same page.
    let order = r#"{"action": "Terminate", "actor": "ada", "reason": "incident 7"}"#;
    album.ui.fill_signal("forceCancelDrain", order).await?;
    album.take_form("signal.png").await?;
    album.ui.send_signal().await?;
    // What the picture shows is also what happens.
    env.wait_crowd("order", "Terminated", 12, SOON).await?;
    env.temporal.wait_closed(CONTROL, &drain, SOON).await?;
    album.ui.workflow(CONTROL, &drain, Tab::Timeline).await?;
    let last = "remove record and Deployment of v1-";
    album.ui.shows(&["COMPLETED", last]).await?;
    album.ui.browser.run(TO_EVENTS).await?;
    album
        .take("timeline.png", &["Terminate what is pinned to v1-", last])
        .await
}

/// v1 drains with twelve open workflows and a deadline, v2 serves, v3 takes a quarter.
async fn scene(env: &Env) -> Result<Process> {
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["drain"] = json!({ "timeoutSeconds": 1_209_600, "onTimeout": "Cancel" });
    env.apply(&process).await?;
    env.wait_settled("l2o", "v1").await?;
    env.open_crowd("l2o-tq", "order", 12, false).await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_process("l2o", "v1 drains", SOON, |process| {
        let mut draining = process.status.iter().flat_map(|status| &status.draining);
        is_current(process, "v2") && draining.any(|version| version.open_workflows == Some(12))
    })
    .await?;
    let mut change = process_operator_harness::version("v3", &[]);
    change["spec"]["rollout"] = json!({ "strategy": "Canary", "steps": [
        { "weight": 25, "pause": { "durationSeconds": 1800 } },
        { "weight": 50, "pause": { "durationSeconds": 3600 } },
        { "weight": 75, "pause": {} },
    ]});
    env.patch("l2o", &change).await?;
    env.wait_process("l2o", "the first step", SOON, |process| {
        let status = process.status.as_ref();
        let rollout = status.and_then(|status| status.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.step == 1 && rollout.stage == "Pausing")
    })
    .await
}

/// The only workflow whose id begins so.
async fn only(env: &Env, prefix: &str) -> Result<String> {
    until(prefix, SOON, async || {
        let ids = env.workflows(prefix).await?;
        ids.into_iter().next().context("not there")
    })
    .await
}
