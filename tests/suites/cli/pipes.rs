//! What shells and terminals do with the output.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Cli, Env, manifest, said};
use tokio::process::Command;

/// As `kubectl process list | head -0`.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_nobody_reads_ends_quietly() -> Result<()> {
    let env = Env::new("clipipes").await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let cli = Cli::admin(&env);
    for args in [
        &["list"][..],
        &["get", "l2o"],
        &["get", "l2o", "--watch"],
        &["completion", "bash"],
        &["get", "--help"],
    ] {
        let mut child = cli.start(args)?;
        drop(child.stdout.take());
        let output = tokio::time::timeout(crate::support::SOON, child.wait_with_output()).await;
        let output = output.with_context(|| format!("{args:?} goes on"))??;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(0) && err.is_empty(),
            "{args:?}: {:?} {err}",
            output.status
        );
    }
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_that_want_them() -> Result<()> {
    let env = Env::new("clicolour").await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    // `script` gives the command a terminal.
    let on_terminal = |args: &str, no_colour: bool| {
        let line = format!("{} {args} -n {}", Cli::binary().display(), env.namespace);
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("KUBECONFIG", env.testbed.kubeconfig())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        if no_colour {
            command.env("NO_COLOR", "1");
        }
        said(command)
    };
    let coloured = on_terminal("get l2o", false).await?.ended(0)?;
    ensure!(coloured.out.contains("\u{1b}[33m"), "{:?}", coloured.out);
    let plain = on_terminal("get l2o", true).await?.ended(0)?;
    ensure!(!plain.out.contains('\u{1b}'), "{:?}", plain.out);
    let piped = Cli::admin(&env).run(&["get", "l2o"]).await?.ended(0)?;
    ensure!(!piped.out.contains('\u{1b}'), "{:?}", piped.out);
    // There it is redrawn in place until the Process is gone.
    let redrawn = on_terminal("get l2o --watch", false);
    let gone = async {
        process_operator_harness::until("it is drawn", crate::support::SOON, async || {
            let age = env
                .api::<process_operator_crds::Process>()
                .get("l2o")
                .await?;
            let age = age.metadata.creation_timestamp.context("a time")?;
            let age = jiff::Timestamp::now().duration_since(age.0).as_secs();
            ensure!(age > 5, "{age} s");
            Ok(())
        })
        .await?;
        env.kubectl(&["delete", "process", "l2o"], "")?;
        anyhow::Ok(())
    };
    let (redrawn, gone) = tokio::join!(redrawn, gone);
    gone?;
    let redrawn = redrawn?.ended(0)?;
    ensure!(redrawn.out.contains("A\r\u{1b}[J"), "{:?}", redrawn.out);
    ensure!(
        redrawn.out.contains("process l2o is gone"),
        "{:?}",
        redrawn.out
    );
    env.remove().await
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_are_given_completions() -> Result<()> {
    let env = Env::new("clishells").await?;
    for shell in ["bash", "zsh", "fish"] {
        let said = Cli::admin(&env)
            .run(&["completion", shell])
            .await?
            .ended(0)?;
        said.shows(&["promote", "force"])?;
    }
    env.remove().await
}
