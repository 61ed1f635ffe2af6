//! The commands by which README installs the operator.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Env, manifest};

use crate::later;
use crate::support::{Release, helm, home, output, root};

/// The block of README that is marked with `sh install`.
fn commands() -> Result<String> {
    let text = std::fs::read_to_string(root().join("README.md"))?;
    let (_, rest) = text
        .split_once("```sh install\n")
        .context("README has no block `sh install`")?;
    Ok(rest.split_once("```").context("the block ends")?.0.into())
}

/// The same for namespaces and names of the test's own: everything else is shared with other tests.
fn own(commands: &str, release: &Release, definition: &str) -> Result<String> {
    let mut lines = Vec::new();
    for line in commands.lines() {
        let mut line = line.replace(
            "--namespace process-operator",
            &format!("--namespace {}", release.namespace),
        );
        if line.starts_with("helm install process-operator-crds ") {
            line = line.replacen("process-operator-crds", definition, 1);
            // `kubectl apply` was there before.
            line.push_str(" --take-ownership --force-conflicts --namespace default");
        } else if line.starts_with("helm install process-operator ") {
            line = format!("{line} --values {}", release.values.display());
        }
        ensure!(
            !line.contains("--all"),
            "other tests have Processes: {line}"
        );
        lines.push(line);
    }
    Ok(lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn its_commands_install_an_operator_that_works() -> Result<()> {
    let env = Env::new("helm-readme").await?;
    let release = Release::new(&env, "process-operator")?;
    let definition = format!("crds-{}", std::process::id());
    let bin = home().join("bin");
    std::fs::create_dir_all(&bin)?;
    let program = env.testbed.helm(&home())?;
    if !bin.join("helm").exists() {
        symlink(program.get_program(), bin.join("helm"))?;
    }
    let script = own(&commands()?, &release, &definition)?;
    let mut bash = Command::new("bash");
    for (name, value) in program.get_envs() {
        bash.env(name, value.unwrap_or_default());
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    output(
        bash.args(["-euxo", "pipefail", "-c", &script])
            .env("PATH", path)
            .current_dir(root()),
    )?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    later::definition(&env, &definition).await?;
    later::operator(&env, &release, &process).await?;
    release.remove(&env)?;

    // The definition stays, and with it everybody's Processes.
    helm(&["uninstall", &definition, "--namespace", "default", "--wait"])?;
    env.kubectl(&["get", "crd", "processes.ameide.io"], "")?;
    env.apply(&manifest(&env, "later", "v1")).await?;
    env.remove().await
}
