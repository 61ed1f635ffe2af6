//! `cargo xtask`: the testbed, the demo, the tests, images, generated files, the book.

mod arch;
mod book;
mod cargo;
mod charts;
mod earlier;
mod image;
mod languages;
mod linked;
mod phases;
mod python;
mod rights;
mod sbom;
mod suites;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use process_operator_tests::testbed::{self, External, Outcome, Refusal, Testbed};

use arch::Arch;
use cargo::{Profile, cargo, run};

/// The project's commands.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Starts the testbed: a Kubernetes cluster and a Temporal server on this machine.
    Up(Existing),
    /// Says what of the testbed runs.
    Status,
    /// Stops the testbed and removes everything it made.
    Down,
    /// Builds the testbed's components and the example workers that are not in Rust into the cache, and
    /// starts nothing.
    Prepare,
    /// Builds the images of the operator and of the example workers, and imports them into the testbed.
    Image {
        /// Optimised.
        #[arg(long)]
        release: bool,
        /// Only this one.
        #[arg(long, value_enum)]
        only: Option<image::Only>,
        /// The architecture of the operator's; that of this machine when absent. Another one is built with a
        /// cross toolchain, and not imported.
        #[arg(long, value_enum, requires = "only")]
        arch: Option<Arch>,
        /// Directory for the archive of the operator's image (OCI layout) and its bill of materials, or for
        /// the archive of the only one.
        #[arg(long, default_value = "target/images")]
        output: PathBuf,
    },
    /// Writes the generated files.
    Generate {
        /// Fails when a file is not what would be generated; writes nothing.
        #[arg(long)]
        check: bool,
    },
    /// Makes a book of the documentation, in target/book, and fails when one of its links leads nowhere.
    Docs,
    /// Runs all tests, and the testbed for them when it is not up. They run nowhere else.
    Test(TestArgs),
    /// Shows the operator at work on the testbed.
    Demo {
        /// Leaves everything running.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        existing: Existing,
    },
    /// Takes the pictures of the Temporal UI in the documentation, on the testbed.
    Screenshots {
        /// Leaves the testbed up.
        #[arg(long)]
        keep: bool,
        /// Directory of the pictures.
        #[arg(long, default_value = "docs/pictures")]
        output: PathBuf,
    },
    /// Measures the operator on the testbed, optimised, and nowhere else.
    Bench {
        #[command(flatten)]
        elsewhere: Elsewhere,
        /// For the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs cargo with the target and flags everything here is built with.
    Cargo {
        /// For cargo.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Only what needs no cluster and no server.
    #[arg(long)]
    unit: bool,
    /// Every fault at every point instead of a sample.
    #[arg(long)]
    faults: bool,
    /// Only the upgrade from the operator of this git revision, which is built for it. Nothing else may use the
    /// testbed meanwhile.
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["unit", "faults"])]
    upgrade_from: Option<String>,
    /// Leaves the testbed up.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    elsewhere: Elsewhere,
    /// For `cargo test`: a part of the tests' names, or its options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// An existing cluster and server in place of the testbed's own.
#[derive(Debug, Default, Args)]
struct Existing {
    /// Uses the cluster of this kubeconfig context.
    #[arg(long, requires = "temporal_address")]
    context: Option<String>,
    /// Uses the Temporal server at this address (host:port).
    #[arg(long, requires = "context")]
    temporal_address: Option<String>,
    /// That server's address as seen from pods, when it is another one.
    #[arg(long, requires = "temporal_address")]
    temporal_pod_address: Option<String>,
}

/// An existing cluster in place of the testbed, for those who cannot use one: they know the options to say so,
/// and would hand them on otherwise.
#[derive(Debug, Default, Args)]
struct Elsewhere {
    #[arg(long, hide = true)]
    context: Option<String>,
    #[arg(long, hide = true)]
    temporal_address: Option<String>,
    #[arg(long, hide = true)]
    temporal_pod_address: Option<String>,
}

impl Elsewhere {
    /// Refuses one that was named, and one that `up` was given before.
    fn refuse(&self, who: &str) -> Result<()> {
        let options = [
            &self.context,
            &self.temporal_address,
            &self.temporal_pod_address,
        ];
        let reason = "read the API server's audit log, and stop parts of the testbed";
        if options.into_iter().any(Option::is_some) {
            let sentence =
                format!("{who} {reason}: run them without --context and --temporal-address.");
            return Err(Refusal::new(sentence).into());
        }
        if Testbed::current().is_ok_and(|testbed| testbed.state().external) {
            let sentence = format!(
                "{who} {reason}, and an existing cluster is used now: run `cargo xtask down` first, which leaves that cluster alone."
            );
            return Err(Refusal::new(sentence).into());
        }
        Ok(())
    }
}

impl Existing {
    /// Whether one was named.
    fn is_given(&self) -> bool {
        self.context.is_some()
    }

    /// Brings up what was asked for; `true` when it was up already.
    fn ensure(&self) -> Result<bool> {
        if let (Some(context), Some(address)) = (&self.context, &self.temporal_address) {
            testbed::use_existing(&External {
                context: context.clone(),
                temporal_address: address.clone(),
                temporal_pod_address: self.temporal_pod_address.clone(),
            })?;
            return Ok(false);
        }
        Ok(testbed::up()? != Outcome::Started)
    }
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            let refused = error.downcast_ref::<Refusal>().is_some();
            ExitCode::from(if refused { 2 } else { 1 })
        }
    }
}

fn execute(task: Task) -> Result<()> {
    match task {
        Task::Up(existing) => {
            if existing.ensure()? {
                eprintln!("The testbed is already up.");
            }
            print!("{}", testbed::status()?.text);
            Ok(())
        }
        Task::Status => {
            let report = testbed::status()?;
            print!("{}", report.text);
            if !report.healthy {
                bail!("The testbed is not complete.");
            }
            Ok(())
        }
        Task::Down => {
            let was_up = testbed::down()?;
            eprintln!(
                "{}",
                if was_up {
                    "The testbed is down."
                } else {
                    "The testbed was not up."
                }
            );
            Ok(())
        }
        Task::Prepare => {
            testbed::prepare()?;
            languages::all()
        }
        Task::Image {
            release,
            only,
            arch,
            output,
        } => {
            let profile = if release {
                Profile::Image
            } else {
                Profile::Dev
            };
            let archive = image::output(profile, only, arch, &output)?;
            println!("{}", archive.display());
            Ok(())
        }
        Task::Generate { check } => suites::generate(check),
        Task::Docs => {
            println!("{}", book::make()?.display());
            Ok(())
        }
        Task::Test(args) if args.unit => suites::unit(&args.arguments),
        Task::Test(args) => {
            args.elsewhere.refuse("The tests")?;
            match &args.upgrade_from {
                Some(revision) => suites::upgrade(revision, &args),
                None => suites::test(&args),
            }
        }
        Task::Demo { keep, existing } => suites::demo(keep, &existing),
        Task::Screenshots { keep, output } => suites::screenshots(keep, &output),
        Task::Bench {
            elsewhere,
            arguments,
        } => {
            elsewhere.refuse("The measurements")?;
            suites::bench(&arguments)
        }
        Task::Cargo { arguments } => run(cargo().args(arguments)),
    }
}

#[cfg(test)]
mod tests {
    use process_operator_tests::pages;

    use super::*;

    #[test]
    fn command_lines_in_the_documentation_are_taken() {
        let found = pages::commands(&["cargo", "xtask"]).expect("pages");
        assert!(found.len() > 5, "{found:#?}");
        let refused: Vec<String> = found
            .iter()
            .filter_map(|command| command.refused(Cli::try_parse_from))
            .collect();
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }
}
