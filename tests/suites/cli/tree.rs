//! The tree of a real canary and a real drain, and what hangs on it: list, history, open, logs.

use anyhow::{Context as _, Result, ensure};
use process_operator_crds::Process;
use process_operator_harness::{Cli, Env, Scene, condition, lifecycle_id, manifest};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{SOON, at_step, current, open_steps};

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_and_a_drain_are_drawn_as_they_happen() -> Result<()> {
    let scene = Scene::new("clitree").await?;
    let env = &scene.env;
    let cli = Cli::admin(env);
    let mut process = manifest(env, "l2o", "v1");
    process["spec"]["drain"] = json!({ "timeoutSeconds": 86400, "onTimeout": "Cancel" });
    env.apply(&process).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    let v1 = current(&process);
    let said = cli.run(&["get", "l2o"]).await?.ended(0)?;
    said.shows(&[
        &format!("{}/l2o  ✔ Settled  {v1} is current", env.namespace),
        "localhost/process-example-worker:v1",
        &format!("l2o-tq in Temporal namespace {}", env.apps),
        &format!("└─ {v1}"),
        "✔ Current",
        "   └─ deployment/l2o-",
        "      └─ pod/l2o-",
        "✔ Running",
        "VersionCurrent",
    ])?;
    ensure!(!said.out.contains('\u{1b}'), "colours on a pipe");

    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    let mut watch = cli.start(&["get", "l2o", "-w"])?;
    env.patch("l2o", &open_steps("v2", &[25])).await?;
    let process = at_step(env, 1).await?;
    let target = process
        .status
        .as_ref()
        .and_then(|status| status.target_version.clone());
    let v2 = target.context("a target")?.build_id;
    let said = cli.run(&["get", "l2o", "-o", "wide"]).await?.ended(0)?;
    said.shows(&[
        &format!("◐ Waiting  {v2} takes 25 % of new workflows until it is promoted"),
        "step 1 of 1  █████░░░░░░░░░░░░░░░ 25 %",
        "◐ Ramping 25 %",
        "takes 75 % of new workflows",
        &lifecycle_id(&process),
    ])?;
    let said = cli.run(&["get", "l2o", "-o", "json"]).await?.ended(0)?;
    let tree: Value = serde_json::from_str(&said.out)?;
    ensure!(tree["versions"][0]["state"]["Ramping"] == 25, "{tree:#}");
    ensure!(tree["versions"][0]["pods"][0]["ready"] == true, "{tree:#}");
    let said = cli.run(&["list"]).await?.ended(0)?;
    said.shows(&["NAME", "l2o", "Waiting", &v1, &v2, "25 %"])?;
    let said = cli.run(&["list", "-A", "-o", "wide"]).await?.ended(0)?;
    said.shows(&[&env.namespace, "NAMESPACE"])?;

    cli.run(&["promote", "l2o"]).await?.ended(0)?;
    env.wait_process("l2o", "v1 drains", SOON, |process| {
        let status = process.status.as_ref();
        status.is_some_and(|status| {
            status
                .draining
                .first()
                .is_some_and(|drain| drain.open_workflows == Some(1))
                && current(process) == v2
                && condition(process, "Reconciling").0 == "False"
        })
    })
    .await?;
    let said = cli.run(&["get", "l2o"]).await?.ended(0)?;
    said.shows(&[
        "1 old version drains",
        "◐ Draining",
        "1 open workflow, the oldest",
        "; Cancel in 23h59m",
    ])?;
    let said = cli.run(&["drain", "l2o"]).await?.ended(0)?;
    said.shows(&[&v1, "1 open workflow"])?;

    beside_the_tree(env, &cli, &process, (&v1, &v2)).await?;
    env.temporal.finish_waiting(&env.apps, "long").await?;
    env.wait_settled("l2o", "v2").await?;
    cli.run(&["get", "l2o"])
        .await?
        .ended(0)?
        .shows(&["· Kept"])?;
    // On a pipe each change is a line, in its order.
    let lines = BufReader::new(watch.stdout.take().context("a pipe")?).lines();
    in_order(
        lines,
        &["weight 25 %", "drains, 1 open workflow", "✔ Settled"],
    )
    .await?;
    watch.kill().await?;
    scene.finish().await
}

/// Logs, history and the Temporal UI, while v1 drains.
async fn beside_the_tree(
    env: &Env,
    cli: &Cli,
    process: &Process,
    (v1, v2): (&str, &str),
) -> Result<()> {
    let said = cli
        .run(&["logs", "l2o", "--version", "v1", "--tail", "5"])
        .await?
        .ended(0)?;
    ensure!(
        !said.out.is_empty() && said.out.lines().count() <= 5,
        "{}",
        said.out
    );
    ensure!(!said.out.contains(v2), "only of v1: {}", said.out);
    let said = cli
        .run(&["logs", "l2o", "--version", "v7"])
        .await?
        .ended(2)?;
    said.complains(&["no version v7 has pods", v1, v2])?;
    let said = cli.run(&["history", "l2o"]).await?.ended(0)?;
    said.shows(&["WHAT", "PromoteRequested", "DrainStarted"])?;
    let said = cli
        .run(&["open", "l2o", "--ui", "http://ui.example/"])
        .await?
        .ended(0)?;
    let id = lifecycle_id(process).replace('/', "%2F");
    said.shows(&[&format!(
        "http://ui.example/namespaces/{}/workflows/{id}/",
        env.control
    )])?;
    Ok(())
}

/// Lines with these parts come in this order.
async fn in_order(
    mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    parts: &[&str],
) -> Result<()> {
    let mut seen = String::new();
    for part in parts {
        loop {
            let line = tokio::time::timeout(SOON, lines.next_line()).await;
            let line = line.with_context(|| format!("no {part:?} after\n{seen}"))??;
            let line = line.with_context(|| format!("ended before {part:?}:\n{seen}"))?;
            seen.extend([line.as_str(), "\n"]);
            if line.contains(part) {
                break;
            }
        }
    }
    Ok(())
}
