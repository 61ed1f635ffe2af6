//! What somebody looks at for a while: logs that go on, a tree in a terminal, the Temporal UI in a browser.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_harness::{Cli, Scene, lifecycle_id, said, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::support::{SOON, at_step, current, open_steps, program, scratch};

#[tokio::test(flavor = "multi_thread")]
async fn logs_go_on_with_pods_that_come_later() -> Result<()> {
    let (scene, _) = Scene::settled("clilogs").await?;
    let env = &scene.env;
    let pod = env.pods("l2o").await?.first().context("a pod")?.name_any();
    let mut logs = Cli::admin(env).start(&["logs", "l2o", "-f"])?;
    let mut lines = BufReader::new(logs.stdout.take().context("a pipe")?).lines();
    let mut next = async || -> Result<String> {
        let line = tokio::time::timeout(SOON, lines.next_line()).await;
        line.context("nothing is written")??.context("it has ended")
    };
    let line = next().await?;
    ensure!(line.starts_with(&format!("[{pod}] ")), "{line}");
    env.api::<Pod>()
        .delete(&pod, &DeleteParams::default())
        .await?;
    // What the old one writes at its end, then what the one in its place does.
    let later = loop {
        let line = next().await?;
        if !line.starts_with(&format!("[{pod}] ")) {
            break line;
        }
    };
    let now = env.pods("l2o").await?;
    let new = now
        .iter()
        .map(kube::ResourceExt::name_any)
        .find(|it| *it != pod);
    let new = new.context("a pod in its place")?;
    ensure!(later.starts_with(&format!("[{new}] ")), "{later}");
    ensure!(logs.try_wait()?.is_none(), "it goes on until it is stopped");
    logs.kill().await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_opened_on_the_page_of_the_workflow() -> Result<()> {
    let (scene, process) = Scene::settled("cliopen").await?;
    let env = &scene.env;
    let dir = scratch(env)?;
    // What desktops open addresses with.
    let (opener, visited) = (dir.join("xdg-open"), dir.join("visited"));
    let script = format!("#!/bin/sh\nprintf '%s' \"$1\" > '{}'\n", visited.display());
    program(&opener, &script)?;
    let ui = env.testbed.state().ui_url.clone().context("a UI")?;
    let args = ["open", "l2o", "--ui", &ui, "--browser"];
    let cli = Cli::admin(env);
    let mut command = cli.command(&args);
    command.env("PATH", format!("{}:/usr/bin:/bin", dir.display()));
    let shown = said(command).await?.ended(0)?.out;
    let url = until("a browser is opened", SOON, async || {
        let url = std::fs::read_to_string(&visited)?;
        ensure!(!url.is_empty(), "not written yet");
        Ok::<_, anyhow::Error>(url)
    })
    .await?;
    ensure!(shown.trim_end() == url, "{shown} and {url}");
    let id = lifecycle_id(&process).replace('/', "%2F");
    let page = format!("{ui}/namespaces/{}/workflows/{id}/", env.control);
    ensure!(url.starts_with(&page), "{url}");

    // Where there is none the address is printed all the same.
    let mut command = cli.command(&args);
    command.env("PATH", dir.join("nothing"));
    let said = said(command).await?.ended(2)?;
    said.shows(&[&page])?;
    said.complains(&["no browser could be opened"])?;
    std::fs::remove_dir_all(dir)?;
    scene.finish().await
}

/// In a terminal, which util-linux's `script` makes, the tree is drawn in its own place.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_terminal_the_tree_is_drawn_over_the_one_before() -> Result<()> {
    let (scene, process) = Scene::settled("cliterm").await?;
    let env = &scene.env;
    let v1 = current(&process);
    let words = format!(
        "stty cols 160 rows 50; exec '{}' get l2o -w -n {}",
        Cli::binary().display(),
        env.namespace
    );
    let mut terminal = tokio::process::Command::new("script")
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &words,
            "/dev/null",
        ])
        .env("KUBECONFIG", env.testbed.kubeconfig())
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("script cannot be run")?;
    let mut output = terminal.stdout.take().context("a pipe")?;
    let mut seen = String::new();
    let mut shows = async |part: &str| -> Result<String> {
        let mut buffer = [0; 4096];
        while !seen.contains(part) {
            let read = tokio::time::timeout(SOON, output.read(&mut buffer)).await;
            let read = read.with_context(|| format!("no {part:?} in\n{seen}"))??;
            ensure!(read > 0, "it has ended before {part:?}:\n{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        Ok(std::mem::take(&mut seen))
    };
    let first = shows("Last actions").await?;
    ensure!(first.contains(&v1) && first.contains("Current"), "{first}");
    env.patch("l2o", &open_steps("v2", &[25])).await?;
    at_step(env, 1).await?;
    let later = shows("Ramping 25 %").await?;
    // Up to where it began, and everything below is cleared.
    ensure!(later.contains("A\r\u{1b}[J"), "{later:?}");
    ensure!(
        later.contains("\u{1b}[3"),
        "colours are for terminals: {later:?}"
    );
    // As Ctrl-C does.
    drop(terminal.stdin.take());
    terminal.kill().await?;
    scene.finish().await
}
