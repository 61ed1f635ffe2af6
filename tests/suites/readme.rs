//! What README and the quick start say is so: their commands are run, or at least exist.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Env, Operator, OperatorOptions};

const README: &str = "README.md";
const QUICK_START: &str = "docs/quickstart.md";

/// One fenced block of shell commands.
struct Block {
    /// What stands after `sh`: `run`, `install`, or nothing.
    mark: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn blocks(document: &str) -> Result<Vec<Block>> {
    let text = fs::read_to_string(root().join(document))?;
    let mut blocks = Vec::new();
    // Blocks of other languages have no mark.
    let mut open: Option<Option<Block>> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let mark = info.strip_prefix("sh");
                open = Some(mark.map(|mark| Block {
                    mark: mark.trim().to_owned(),
                    text: String::new(),
                }));
            }
            (Some(_), Some("")) => blocks.extend(open.take().flatten()),
            (Some(Some(block)), _) => block.text.extend([line, "\n"]),
            _ => {}
        }
    }
    Ok(blocks)
}

/// The blocks with this mark.
fn marked(document: &str, mark: &str) -> Result<Vec<String>> {
    let blocks = blocks(document)?.into_iter();
    let blocks = blocks.filter(|block| block.mark == mark);
    Ok(blocks.map(|block| block.text).collect())
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
fn commands_of_readme_and_quick_start_exist() -> Result<()> {
    for document in [README, QUICK_START] {
        for block in marked(document, "")? {
            for line in block.lines() {
                let is_setting = |word: &&str| !word.starts_with('-') && word.contains('=');
                let words: Vec<&str> = line.split_whitespace().skip_while(is_setting).collect();
                match words.as_slice() {
                    // A unit test of xtask parses those of every page.
                    ["cargo", "xtask", ..] => {}
                    ["process-operator", subcommand, ..] => {
                        flags_exist(line, &program("process-operator")?, subcommand)?;
                    }
                    _ => anyhow::bail!("{document}: nobody knows how to check `{line}`"),
                }
            }
        }
    }
    Ok(())
}

/// The suite `install` runs those of README.
#[test]
fn the_quick_start_installs_as_readme_does() -> Result<()> {
    let commands = marked(QUICK_START, "install")?;
    ensure!(!commands.is_empty() && commands == marked(README, "install")?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_readme_work() -> Result<()> {
    commands_work("readme", README).await
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_quick_start_work() -> Result<()> {
    commands_work("quickstart", QUICK_START).await
}

async fn commands_work(name: &str, document: &str) -> Result<()> {
    let env = Env::new(name).await?;
    let _operator = Operator::start(&env, OperatorOptions::default()).await?;
    let dir = checkout(&env)?;
    let kubeconfig = dir.join("kubeconfig");
    let blocks = marked(document, "run")?;
    ensure!(blocks.len() > 1, "{document} has commands");
    for block in blocks {
        let block = block.replace("localhost:7233", &env.temporal_address);
        let output = Command::new("bash")
            .args(["-euxo", "pipefail", "-c", &block])
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

/// The files that the commands name, `kubectl` with its plugin, and a kubeconfig in the test's namespace.
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
    symlink(program("kubectl-process")?, dir.join("kubectl-process"))?;
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
