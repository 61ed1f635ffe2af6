//! The worker's program. See the README for its environment variables.

use process_example_worker::{
    check::check,
    config::Config,
    faults::Faults,
    health::Health,
    serve::{Stop, connection_options, serve},
};
use std::{process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// The environment is unusable; restarting will not help.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();

    let config = match Config::from_env() {
        Ok(config) => config,
        Err(problem) => {
            error!("{problem}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if let Err(problem) = connection_options(&config) {
        error!("{problem:#}");
        return ExitCode::from(EXIT_CONFIG);
    }
    announce(&config);
    if config.faults.crash_at_start {
        error!("crashing at once, because CRASH_AT_START is set");
        return ExitCode::FAILURE;
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let checks = std::env::args().nth(1).is_some_and(|word| word == "check");
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = if checks {
            runtime.block_on(check(&config))
        } else {
            runtime.block_on(until_it_crashes(&config))
        };
        // Nothing that is left may keep the process.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn announce(config: &Config) {
    let version = config.version();
    info!(
        pod = config.pod,
        process = config.process,
        definition_id = config.definition_id,
        tenant_id = config.tenant_id,
        address = config.address,
        namespace = config.namespace,
        task_queue = config.task_queue,
        deployment_name = config.deployment_name,
        build_id = config.build_id,
        versioned = version.is_some(),
        behavior = version.map(|version| format!("{:?}", version.behavior)),
        max_activities = config.max_activities,
        "starting"
    );
    if config.faults != Faults::default() {
        warn!(faults = ?config.faults, "faults are switched on");
    }
}

async fn until_it_crashes(config: &Config) -> anyhow::Result<()> {
    let after = config.faults.crash_after_ms;
    let crash = async {
        if after == 0 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(after)).await;
    };
    tokio::select! {
        ended = run(config) => ended,
        () = crash => anyhow::bail!("crashing after {after} ms, because CRASH_AFTER_MS is set"),
    }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    // First of all: process 1 of a container ignores signals it has no handler for.
    let stop = stop_on_signal()?;
    let health = Health::default();
    if let Some(port) = config.health_port {
        let address = health.listen(port).await?;
        info!(%address, "serving /readyz and /livez");
    }
    if config.faults.start_delay_ms > 0 {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(config.faults.start_delay_ms)) => {}
            () = stop.requested() => return Ok(()),
        }
    }
    if config.faults.never_poll {
        health.set_ready(true);
        stop.requested().await;
        return Ok(());
    }
    serve(config, &health, &stop).await
}

fn stop_on_signal() -> std::io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, stop) = Stop::channel();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "told to stop");
        // Nobody listens when the worker has ended already.
        let _ = sender.send(true);
    });
    Ok(stop)
}
