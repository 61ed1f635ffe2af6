//! The operator at work: a Process is applied, workflows are started, the image changes, and the
//! story is told line by line with the time since the start. `cargo xtask demo` starts it.
//!
//! Every line is checked against Kubernetes or Temporal before it is printed. One that does not
//! come true in time ends the demo with exit code 1 and its name.

mod release;
mod stage;
mod story;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use stage::Stage;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let stage = match Stage::set().await {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("The demo cannot begin: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let told = tokio::select! {
        told = story::tell(&stage) => told,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by Ctrl-C")),
    };
    if told.is_err() {
        match release::log(&stage.testbed) {
            Ok(log) => eprintln!("\nThe operator's log is {}.", log.display()),
            Err(error) => eprintln!("\nThe operator's log cannot be read: {error:#}"),
        }
    }
    let ended = end(&stage, keep && told.is_ok()).await;
    match told.and(ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves everything running and says how to go on, or removes what the demo made.
async fn end(stage: &Stage, keep: bool) -> Result<()> {
    if !keep {
        return tokio::time::timeout(Duration::from_mins(3), stage.clear())
            .await
            .unwrap_or_else(|_| anyhow::bail!("What the demo made was not removed in 3 min."));
    }
    let kubectl = stage.kubectl_words();
    println!("\nEverything keeps running.");
    println!(
        "  look at it   {kubectl} -n {} get processes -o wide",
        stage::NAMESPACE
    );
    println!(
        "  change it    {kubectl} -n {} edit process {}",
        stage::NAMESPACE,
        stage.name
    );
    if stage.testbed.state().external {
        println!(
            "  stop it      {kubectl} -n {} delete process {}; {}",
            stage::NAMESPACE,
            stage.name,
            release::removal(&stage.testbed)
        );
    } else {
        println!("  stop it      cargo xtask down");
    }
    Ok(())
}
