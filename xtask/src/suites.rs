//! Tests, demo and benchmark: what they need first, and then they.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use process_operator_tests::testbed;
use serde_json::Value;

use crate::cargo::{Profile, binary, cargo, root, run};
use crate::charts;
use crate::image::image;
use crate::phases::Phases;
use crate::rights;
use crate::{Existing, TestArgs};

const TESTS: &str = "process-operator-tests";
/// Tells a suite which operator to start.
const OPERATOR: &str = "PROCESS_OPERATOR_BINARY";
/// Tells a suite which command to call.
const CLI: &str = "KUBECTL_PROCESS_BINARY";
/// How many tests of one binary run at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// The reference of the command, from its arguments.
const CLI_REFERENCE: &str = "docs/reference/cli.md";

/// Generates the files that are made from code, and those of the charts. Those of the types come first, and with nothing but
/// the crate of the types: the others may not compile before they are there.
pub(crate) fn generate(check: bool) -> Result<()> {
    let mut command = cargo();
    command.args([
        "run",
        "--quiet",
        "--package",
        "process-operator-crds",
        "--bin",
        "generate",
    ]);
    if check {
        command.args(["--", "--check"]);
    }
    run(&mut command)?;
    let package = [
        "--package",
        "process-operator-cli",
        "--bin",
        "kubectl-process",
    ];
    let mut command = cargo();
    command
        .args(["run", "--quiet"])
        .args(package)
        .args(["--", "reference"]);
    cli_reference(&mut command, check)?;
    charts::generate(check)
}

/// Writes the reference that `command` prints, or compares it.
fn cli_reference(command: &mut Command, check: bool) -> Result<()> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("The reference of kubectl process cannot be generated.")?;
    if !output.status.success() {
        bail!("The reference of kubectl process cannot be generated.");
    }
    let wanted = String::from_utf8(output.stdout)?;
    let path = root().join(CLI_REFERENCE);
    if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if check {
        bail!(
            "{CLI_REFERENCE} is not what the arguments say: run `cargo xtask generate` and commit the result."
        );
    }
    fs::write(&path, wanted)?;
    println!("wrote {CLI_REFERENCE}");
    Ok(())
}

/// The tests that need no service: all but the suites.
pub(crate) fn unit(arguments: &[String]) -> Result<()> {
    let mut phases = Phases::default();
    let targets = other_test_targets()?;
    phases.run("unit tests", || {
        let mut command = cargo();
        command.args(["test", "--workspace", "--lib", "--bins"]);
        for target in &targets {
            command.args(["--test", target]);
        }
        run(command.args(arguments))
    })?;
    phases.run("examples in the documentation", || {
        run(cargo()
            .args(["test", "--workspace", "--doc"])
            .args(arguments))
    })
}

/// The integration tests of the crates other than the suites'.
fn other_test_targets() -> Result<Vec<String>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()
        .context("cargo cannot be run.")?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages
        .filter(|package| package["name"] != TESTS)
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"][0] == "test");
    Ok(targets
        .filter_map(|target| Some(target["name"].as_str()?.to_owned()))
        .collect())
}

/// All tests.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    let mut phases = Phases::default();
    phases.run("build", || {
        run(cargo().args(["build", "--workspace", "--all-targets"]))
    })?;
    phases.run("generated files", || {
        run(Command::new(binary("generate", Profile::Dev))
            .arg("--check")
            .current_dir(root()))?;
        let mut command = Command::new(binary("kubectl-process", Profile::Dev));
        cli_reference(command.arg("reference"), true)?;
        charts::generate(true)
    })?;
    with_testbed(
        &mut phases,
        &args.existing,
        args.keep,
        Profile::Dev,
        |phases| {
            let mark = rights::mark()?;
            phases.run("tests", || {
                let mut command = cargo();
                command.args(["test", "--workspace"]).args(&args.arguments);
                if args.faults {
                    command.env("FAULTS", "complete");
                    // Tests that only the complete run has are marked as ignored.
                    if !args.arguments.iter().any(|argument| argument == "--") {
                        command.arg("--");
                    }
                    command.arg("--include-ignored");
                }
                // The suites wait more than they work: more of them fit beside each other than
                // there are cores.
                if std::env::var_os(THREADS).is_none() {
                    command.env(THREADS, "4");
                }
                command.env(OPERATOR, binary("process-operator", Profile::Dev));
                command.env(CLI, binary("kubectl-process", Profile::Dev));
                run(&mut command)
            })?;
            // A part of the tests uses a part of the rights.
            match mark.filter(|_| args.arguments.is_empty()) {
                Some(mark) => phases.run("rights of the operator", || rights::compare(&mark)),
                None => Ok(()),
            }
        },
    )
}

/// The demo.
pub(crate) fn demo(keep: bool, existing: &Existing) -> Result<()> {
    let mut phases = Phases::default();
    with_testbed(&mut phases, existing, keep, Profile::Dev, |phases| {
        phases.run("demo", || {
            let mut command = example("demo", Profile::Dev);
            if keep {
                command.arg("--keep");
            }
            run(&mut command)
        })
    })
}

/// The benchmark.
pub(crate) fn bench(existing: &Existing, arguments: &[String]) -> Result<()> {
    let mut phases = Phases::default();
    with_testbed(&mut phases, existing, false, Profile::Release, |phases| {
        phases.run("benchmark", || {
            run(example("bench", Profile::Release).args(arguments))
        })
    })
}

/// An example of the suites' crate, built with everything else.
fn example(name: &str, profile: Profile) -> Command {
    let mut command = Command::new(binary(&format!("examples/{name}"), profile));
    command
        .env(OPERATOR, binary("process-operator", profile))
        .current_dir(root());
    command
}

/// Does `work` with the testbed up, the operator built and the images in the
/// cluster. A testbed that was not up before goes down again afterwards, also
/// when the work failed.
fn with_testbed(
    phases: &mut Phases,
    existing: &Existing,
    keep: bool,
    profile: Profile,
    work: impl FnOnce(&mut Phases) -> Result<()>,
) -> Result<()> {
    let was_up = phases.run("testbed up", || existing.ensure())?;
    let result = phases
        .run("programs and images", || image(profile))
        .and_then(|_| work(phases));
    if !was_up && !keep {
        phases.run("testbed down", testbed::down)?;
    }
    result
}
