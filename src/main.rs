//! `process-operator`: runs Temporal workers on Kubernetes safely.
//!
//! The binary wires four things and decides nothing: a watcher that turns Kubernetes changes into
//! signals, Temporal workers that run the workflows and activities, a sweep for what Kubernetes
//! cannot tell, and an HTTP server for probes and metrics.

mod certificates;
mod config;
mod gauges;
mod health;
mod installation;
mod metrics;
mod operator;
mod probe;
mod queues;
mod sdk_meter;
mod telemetry;
mod temporal;
mod watcher;
mod wear;
mod workers;

use clap::Parser as _;

use crate::config::{Cli, Command};

fn main() -> anyhow::Result<()> {
    let Cli { command } = Cli::parse();
    let config = match command {
        Command::Run(config) => config,
        Command::Probe(probe) => return probe::run(&probe),
    };
    telemetry::install(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // The SDK's worker is not Send, so it is awaited here on the main task.
    let result = runtime.block_on(operator::run(config));
    // Waits in foreign libraries must not hold the process beyond its termination period.
    runtime.shutdown_background();
    result
}
