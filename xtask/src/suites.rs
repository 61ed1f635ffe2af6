//! Tests, demo and benchmark: what they need first, and then they.

use std::path::Path;

use anyhow::Result;
use process_operator_tests::testbed;

use crate::cargo::{Profile, binary, cargo, root, run};
use crate::image::image;
use crate::phases::Phases;
use crate::{Existing, TestArgs};

const TESTS: &str = "process-operator-tests";
/// Tells a suite which operator to start.
const OPERATOR: &str = "PROCESS_OPERATOR_BIN";

/// Generates the files that are made from the Rust types.
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
    run(&mut command)
}

/// The tests that need no service.
pub(crate) fn unit(arguments: &[String]) -> Result<()> {
    let mut phases = Phases::default();
    phases.run("unit tests", || {
        run(cargo()
            .args(["test", "--workspace", "--exclude", TESTS])
            .args(arguments))
    })?;
    phases.run("unit tests of the testbed", || {
        run(cargo()
            .args(["test", "--package", TESTS, "--lib"])
            .args(arguments))
    })
}

/// All tests.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    let mut phases = Phases::default();
    phases.run("build", || {
        run(cargo().args(["build", "--workspace"]))?;
        run(cargo().args(["test", "--workspace", "--no-run"]))
    })?;
    if Path::new(root()).join("crds/src/bin").exists() {
        phases.run("generated files", || generate(true))?;
    }
    with_testbed(
        &mut phases,
        &args.existing,
        args.keep,
        Profile::Dev,
        |phases| {
            phases.run("tests", || {
                let mut command = cargo();
                command.args(["test", "--workspace"]).args(&args.arguments);
                command.env(OPERATOR, binary("process-operator", Profile::Dev));
                if args.faults {
                    command.env("FAULTS", "complete");
                }
                run(&mut command)
            })
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
                command.args(["--", "--keep"]);
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
            run(example("bench", Profile::Release).arg("--").args(arguments))
        })
    })
}

fn example(name: &str, profile: Profile) -> std::process::Command {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", TESTS, "--example", name])
        .args(profile.flag());
    command.env(OPERATOR, binary("process-operator", profile));
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
        .run("operator", || {
            run(cargo()
                .args(["build", "--quiet", "--package", "process-operator"])
                .args(profile.flag()))
        })
        .and_then(|()| phases.run("images", || image(profile)))
        .and_then(|_| work(phases));
    if !was_up && !keep {
        phases.run("testbed down", testbed::down)?;
    }
    result
}
