//! Tests, demo and benchmark: what they need first, and then they.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use process_operator_tests::testbed::{self, Testbed};
use serde_json::Value;

use crate::cargo::{Profile, binary, cargo, root, run};
use crate::charts;
use crate::earlier::earlier;
use crate::image::image;
use crate::languages;
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
    let mut phases = Phases::of(2);
    for part in [unit_tests(&Targets::read()?), examples_in_documentation()] {
        part.phase(&mut phases, arguments, |_| ())?;
    }
    Ok(())
}

/// One call of `cargo test`.
#[derive(Debug, PartialEq, Eq)]
struct TestRun {
    /// What it is called in the list of phases.
    name: String,
    /// Which targets; none for all that the caller's arguments choose.
    targets: Vec<String>,
}

impl TestRun {
    fn new<'a>(name: &str, targets: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            name: name.to_owned(),
            targets: targets.into_iter().map(str::to_owned).collect(),
        }
    }

    fn phase(
        &self,
        phases: &mut Phases,
        arguments: &[String],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<()> {
        phases.run(&self.name, || {
            let mut command = cargo();
            command
                .args(["test", "--workspace"])
                .args(&self.targets)
                .args(arguments);
            prepare(&mut command);
            run(&mut command)
        })
    }
}

/// The integration tests of the workspace.
#[derive(Debug, Default)]
struct Targets {
    /// Those that need the testbed, in the order of their manifest.
    suites: Vec<String>,
    /// Those of other crates.
    others: Vec<String>,
}

impl Targets {
    fn read() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version=1"])
            .output()
            .context("cargo cannot be run.")?;
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let mut found = Self::default();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let targets = package["targets"].as_array().into_iter().flatten();
            let tests = targets.filter(|target| target["kind"][0] == "test");
            let names = tests.filter_map(|target| Some(target["name"].as_str()?.to_owned()));
            if package["name"] == TESTS {
                found.suites.extend(names);
            } else {
                found.others.extend(names);
            }
        }
        Ok(found)
    }
}

fn unit_tests(targets: &Targets) -> TestRun {
    let others = targets.others.iter().flat_map(|name| ["--test", name]);
    TestRun::new("unit tests", ["--lib", "--bins"].into_iter().chain(others))
}

fn examples_in_documentation() -> TestRun {
    TestRun::new("examples in the documentation", ["--doc"])
}

/// The runs that all tests are made of: a phase for each suite, so that whoever waits sees which of how many
/// it is. What the caller chooses by target is one run.
fn test_runs(targets: &Targets, arguments: &[String]) -> Vec<TestRun> {
    let chooses = |argument: &String| {
        let name = argument.split('=').next().unwrap_or_default();
        let choices = [
            "--test",
            "--tests",
            "--lib",
            "--bin",
            "--bins",
            "--doc",
            "--example",
            "--examples",
            "--bench",
            "--benches",
            "--all-targets",
            "--no-run",
            "-p",
            "--package",
            "--help",
            "-h",
        ];
        choices.contains(&name)
    };
    let own = arguments.split(|argument| argument == "--").next();
    if own.unwrap_or_default().iter().any(chooses) {
        return vec![TestRun::new("tests", [])];
    }
    let suites = targets.suites.iter();
    let suites = suites.map(|suite| TestRun::new(&format!("suite {suite}"), ["--test", suite]));
    let mut runs = vec![unit_tests(targets)];
    runs.extend(suites);
    runs.push(examples_in_documentation());
    runs
}

/// All tests.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    let runs = test_runs(&Targets::read()?, &args.arguments);
    // A part of the tests uses a part of the operator's rights.
    let whole = args.arguments.is_empty();
    let phases = 4 + usize::from(whole) + runs.len();
    let own = Existing::default();
    let mut phases = Phases::of(phases + testbed_phases(&own, args.keep));
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
    phases.run("browser", testbed::browser)?;
    with_testbed(&mut phases, &own, args.keep, Profile::Dev, |phases| {
        phases.run("images of workers in Go and Python", languages::all)?;
        let mark = rights::mark()?;
        // One that fails says nothing about the others.
        let mut failed = Vec::new();
        for part in &runs {
            if let Err(error) = part.phase(phases, &args.arguments, |command| equip(command, args))
            {
                failed.push(format!("{error:#}"));
            }
        }
        if !failed.is_empty() {
            bail!("{}", failed.join("\n"));
        }
        if whole {
            phases.run("rights of the operator", || rights::compare(&mark))?;
        }
        Ok(())
    })
}

/// The upgrade from an earlier revision alone.
pub(crate) fn upgrade(revision: &str, args: &TestArgs) -> Result<()> {
    let own = Existing::default();
    let mut phases = Phases::of(2 + testbed_phases(&own, args.keep));
    let from = phases.run(&format!("operator of {revision}"), || earlier(revision))?;
    let test = TestRun::new("upgrade", ["--test", "install", "upgrade::"]);
    with_testbed(&mut phases, &own, args.keep, Profile::Dev, |phases| {
        let mut arguments = args.arguments.clone();
        arguments.extend(separator(&args.arguments).map(str::to_owned));
        arguments.push("--ignored".to_owned());
        test.phase(phases, &arguments, |command| {
            equip(command, args);
            command.env("PROCESS_OPERATOR_EARLIER_BINARY", &from.binary);
            command.env("PROCESS_OPERATOR_EARLIER_DEFINITION", &from.definition);
        })
    })
}

/// What has to stand before options of the tests themselves, when the caller has not begun with these.
fn separator(arguments: &[String]) -> Option<&'static str> {
    (!arguments.iter().any(|argument| argument == "--")).then_some("--")
}

/// Tells a run of tests what it is to test, and how.
fn equip(command: &mut Command, args: &TestArgs) {
    if args.faults {
        command.env("FAULTS", "complete");
        // Tests that only the complete run has are marked as ignored.
        command.args(separator(&args.arguments));
        command.arg("--include-ignored");
    }
    if std::env::var_os(THREADS).is_none() {
        command.env(THREADS, threads().to_string());
    }
    command.env(OPERATOR, binary("process-operator", Profile::Dev));
    command.env(CLI, binary("kubectl-process", Profile::Dev));
}

/// How many tests run at once. They wait more than they work: three fit on a core. The one Temporal server and
/// its database set the bound on a machine with many.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (3 * cores).clamp(4, 12)
}

/// The demo.
pub(crate) fn demo(keep: bool, existing: &Existing) -> Result<()> {
    let mut phases = Phases::of(1 + testbed_phases(existing, keep));
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

/// Pictures of the Temporal UI for the documentation.
pub(crate) fn screenshots(keep: bool, output: &Path) -> Result<()> {
    let own = Existing::default();
    let mut phases = Phases::of(2 + testbed_phases(&own, keep));
    phases.run("browser", testbed::browser)?;
    with_testbed(&mut phases, &own, keep, Profile::Dev, |phases| {
        phases.run("pictures", || {
            run(example("screenshots", Profile::Dev).arg(root().join(output)))
        })
    })
}

/// The benchmark.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let own = Existing::default();
    let mut phases = Phases::of(1 + testbed_phases(&own, false));
    with_testbed(&mut phases, &own, false, Profile::Release, |phases| {
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

/// How many phases [`with_testbed`] adds to the work.
fn testbed_phases(existing: &Existing, keep: bool) -> usize {
    let was_up = !existing.is_given() && Testbed::current().is_ok();
    if was_up || keep { 2 } else { 3 }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(arguments: &[&str]) -> Vec<(String, String)> {
        let targets = Targets {
            suites: vec!["cluster".into(), "drains".into()],
            others: vec!["cases".into()],
        };
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        let runs = test_runs(&targets, &arguments).into_iter();
        runs.map(|run| (run.name, run.targets.join(" "))).collect()
    }

    #[test]
    fn each_suite_is_a_phase_of_its_own() {
        let all = [
            ("unit tests", "--lib --bins --test cases"),
            ("suite cluster", "--test cluster"),
            ("suite drains", "--test drains"),
            ("examples in the documentation", "--doc"),
        ]
        .map(|(name, targets)| (name.to_owned(), targets.to_owned()));
        assert_eq!(runs(&[]), all);
        assert_eq!(runs(&["deadline", "--", "--test-threads=1"]), all);
    }

    #[test]
    fn what_the_caller_chooses_is_one_run() {
        for arguments in [
            &["--test", "drains"][..],
            &["--test=drains"],
            &["-p", "xtask", "--lib"],
            &["--doc"],
        ] {
            assert_eq!(runs(arguments), [("tests".to_owned(), String::new())]);
        }
    }
}
