//! What is asked for, what is answered, and the exit code.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use process_operator_crds::Process;
use process_operator_harness::{Cli, Env, Scene, manifest};

use crate::support::{SOON, at_step, open_steps};

#[tokio::test(flavor = "multi_thread")]
async fn each_verb_is_done_or_refused_and_the_exit_code_tells() -> Result<()> {
    let (scene, _) = Scene::settled("cliverbs").await?;
    let env = &scene.env;
    let cli = Cli::admin(env);
    for verb in [
        &["pause", "l2o"][..],
        &["resume", "l2o"],
        &["promote", "l2o"],
        &["abort", "l2o", "--yes"],
        &["retry", "l2o"],
        &["undo", "l2o", "--yes"],
        &["drain", "l2o", "--force", "--yes"],
    ] {
        let said = cli.run(verb).await?.ended(1)?;
        said.complains(&[" l2o was refused: "])?;
    }
    cli.run(&["drain", "l2o"])
        .await?
        .ended(0)?
        .shows(&["nothing is draining"])?;
    // Nobody is there to be asked.
    for verb in ["abort", "undo", "restart"] {
        let said = cli.run(&[verb, "l2o"]).await?.ended(2)?;
        said.complains(&["Give --yes"])?;
    }
    cli.run(&["pause", "nobody"])
        .await?
        .ended(2)?
        .complains(&["not found"])?;
    cli.run(&["dance", "l2o"])
        .await?
        .ended(2)?
        .complains(&["dance"])?;

    env.patch("l2o", &open_steps("v2", &[20, 60])).await?;
    at_step(env, 1).await?;
    let said = cli
        .run(&["pause", "l2o", "--reason", "lunch"])
        .await?
        .ended(0)?;
    said.shows(&["✔ pause l2o: the share of new workflows stays as it is"])?;
    cli.run(&["get", "l2o"]).await?.ended(0)?.shows(&[
        "◐ Paused",
        "lunch",
        "Last request: pause accepted",
    ])?;
    cli.run(&["promote", "l2o"])
        .await?
        .ended(1)?
        .complains(&["resume it first"])?;
    cli.run(&["resume", "l2o"]).await?.ended(0)?;
    let said = cli.run(&["promote", "l2o", "-o", "json"]).await?.ended(0)?;
    let told: serde_json::Value = serde_json::from_str(&said.out)?;
    ensure!(
        told["result"] == "Accepted" && told["verb"] == "promote",
        "{told}"
    );
    at_step(env, 2).await?;
    cli.run(&["abort", "l2o", "--yes", "--reason", "too slow"])
        .await?
        .ended(0)?;
    cli.run(&["status", "l2o", "--watch", "--timeout", "60s"])
        .await?
        .ended(1)?;
    cli.run(&["get", "l2o"]).await?.ended(0)?.shows(&[
        "✖ Failed",
        "aborted",
        "too slow",
        "Stalled=True",
    ])?;
    cli.run(&["retry", "l2o"]).await?.ended(0)?;
    at_step(env, 1).await?;
    cli.run(&["promote", "l2o", "--full"])
        .await?
        .ended(2)?
        .complains(&["Give --yes"])?;
    cli.run(&["promote", "l2o", "--full", "--yes"])
        .await?
        .ended(0)?;
    env.wait_settled("l2o", "v2").await?;
    cli.run(&["restart", "l2o", "--yes"])
        .await?
        .ended(0)?
        .shows(&["one after the other"])?;
    env.wait_settled("l2o", "v2").await?;

    back_and_an_end_by_force(env, &cli).await?;
    scene.finish().await
}

/// `undo` with a workflow that holds v2, the end of that workflow, and `retry`.
async fn back_and_an_end_by_force(env: &Env, cli: &Cli) -> Result<()> {
    env.temporal
        .start_waiting(&env.apps, "l2o-tq", "long")
        .await?;
    cli.run(&["undo", "l2o", "--yes"]).await?.ended(0)?;
    let process = env
        .wait_process("l2o", "v2 is held", SOON, |process| {
            let status = process.status.as_ref();
            let draining = status.and_then(|status| status.draining.first());
            draining.is_some_and(|drain| drain.open_workflows == Some(1))
        })
        .await?;
    ensure!(
        actors(&process).iter().all(|actor| !actor.is_empty()),
        "{:?}",
        actors(&process)
    );
    let said = cli
        .run(&["drain", "l2o", "--force", "--action", "Terminate", "--yes"])
        .await?
        .ended(0)?;
    said.shows(&["forceCancelDrain l2o: the workflows pinned to it are terminated"])?;
    cli.run(&["retry", "l2o"]).await?.ended(0)?;
    env.wait_settled("l2o", "v2").await?;
    Ok(())
}

/// Who has asked for what is remembered.
fn actors(process: &Process) -> Vec<String> {
    let history = process.status.iter().flat_map(|status| &status.history);
    let asked = history.filter(|entry| entry.what.ends_with("Requested"));
    asked
        .map(|entry| entry.actor.clone().unwrap_or_default())
        .collect()
}

/// What nobody answers is not left behind, to be done at some other time.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_answers_is_withdrawn() -> Result<()> {
    let env = Env::new("clinobody").await?;
    let cli = Cli::admin(&env);
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let said = cli
        .run(&["pause", "l2o", "--timeout", "2s"])
        .await?
        .ended(3)?;
    said.complains(&["no answer within 2 s; the request was withdrawn"])?;
    let process = env.api::<Process>().get("l2o").await?;
    ensure!(
        process.annotations().is_empty(),
        "{:?}",
        process.annotations()
    );
    // Neither is what somebody else asks for overwritten.
    env.annotate(&process, "theirs", "restart").await?;
    let said = cli
        .run(&["pause", "l2o", "--timeout", "2s"])
        .await?
        .ended(3)?;
    said.complains(&["an earlier request has not been answered"])?;
    let process = env.api::<Process>().get("l2o").await?;
    let text = process
        .annotations()
        .get("ameide.io/request")
        .context("an annotation")?;
    ensure!(text.contains("theirs"), "{text}");
    env.remove().await
}
