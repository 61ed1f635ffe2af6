//! What README says is so: its commands are run, or at least exist.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Env, Operator, OperatorOptions};

/// One fenced block of shell commands.
struct Block {
    /// Marked with `run`.
    run: bool,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn blocks() -> Result<Vec<Block>> {
    let text = fs::read_to_string(root().join("README.md"))?;
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    run: info == "sh run",
                    // Those of `sh install` are run by the suite `install`.
                    text: if info.starts_with("sh") && info != "sh install" {
                        String::new()
                    } else {
                        "#".into()
                    },
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    // Blocks of other languages begin with the mark set above.
    blocks.retain(|block| !block.text.starts_with('#'));
    Ok(blocks)
}

/// A program of this build, beside the directory of the tests.
fn program(name: &str) -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let built = tests.ancestors().nth(2).context("no target directory")?;
    let path = built.join(name);
    ensure!(path.is_file(), "{} is not built", path.display());
    Ok(path)
}

/// Every flag of a command line is one that the program's help knows.
fn flags_exist(line: &str, program: &Path, subcommand: &str) -> Result<()> {
    let output = Command::new(program)
        .args([subcommand, "--help"])
        .output()?;
    ensure!(output.status.success(), "{line}: there is no {subcommand}");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for flag in line
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
    {
        ensure!(
            help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
            "{line}: no {flag}"
        );
    }
    Ok(())
}

#[test]
fn commands_of_the_readme_exist() -> Result<()> {
    for block in blocks()?.iter().filter(|block| !block.run) {
        for line in block.text.lines() {
            let is_setting = |word: &&str| !word.starts_with('-') && word.contains('=');
            let words: Vec<&str> = line.split_whitespace().skip_while(is_setting).collect();
            match words.as_slice() {
                ["cargo", "xtask", subcommand, ..] => {
                    flags_exist(line, &program("xtask")?, subcommand)?;
                }
                ["process-operator", subcommand, ..] => {
                    flags_exist(line, &program("process-operator")?, subcommand)?;
                }
                _ => anyhow::bail!("README: nobody knows how to check `{line}`"),
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_readme_work() -> Result<()> {
    let env = Env::new("readme").await?;
    let _operator = Operator::start(&env, OperatorOptions::default()).await?;
    let dir = checkout(&env)?;
    let kubeconfig = dir.join("kubeconfig");
    for block in blocks()?.iter().filter(|block| block.run) {
        let output = Command::new("bash")
            .args(["-euxo", "pipefail", "-c", &block.text])
            .current_dir(&dir)
            .env("KUBECONFIG", &kubeconfig)
            .env(
                "PATH",
                format!("{}:{}", dir.display(), std::env::var("PATH")?),
            )
            .output()?;
        ensure!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::remove_dir_all(dir)?;
    env.remove().await
}

/// The files that the commands name, `kubectl`, and a kubeconfig in the test's namespace.
fn checkout(env: &Env) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(&env.namespace);
    fs::create_dir_all(dir.join("examples"))?;
    for part in ["crds", "deploy"] {
        symlink(fs::canonicalize(root())?.join(part), dir.join(part))?;
    }
    let example = fs::read_to_string(root().join("examples/process.yaml"))?;
    let in_readme = fs::read_to_string(root().join("README.md"))?;
    for line in example
        .lines()
        .filter(|line| line.contains(": ") && !line.starts_with('#'))
    {
        ensure!(
            in_readme.contains(line),
            "README shows another Process: `{line}` is missing"
        );
    }
    // Its Temporal namespace would be shared with every other test.
    let apps = format!("namespace: {}", env.apps);
    for name in ["examples/process.yaml", "examples/canary.yaml"] {
        let example = fs::read_to_string(root().join(name))?;
        fs::write(dir.join(name), example.replace("namespace: default", &apps))?;
    }
    symlink(&env.testbed.state().kubectl, dir.join("kubectl"))?;
    let kubeconfig = dir.join("kubeconfig");
    fs::copy(env.testbed.kubeconfig(), &kubeconfig)?;
    fs::set_permissions(&kubeconfig, fs::Permissions::from_mode(0o600))?;
    let set = Command::new(&env.testbed.state().kubectl)
        .args([
            "config",
            "set-context",
            "--current",
            "--namespace",
            &env.namespace,
        ])
        .env("KUBECONFIG", &kubeconfig)
        .output()?;
    ensure!(
        set.status.success(),
        "{}",
        String::from_utf8_lossy(&set.stderr)
    );
    Ok(dir)
}
