//! The benchmark: prints numbers with their conditions, asserts nothing about time.
//!
//! Run it with `cargo xtask bench`. `BENCH_WINDOW` (seconds, 180) and `BENCH_COUNT` (100) shrink it.

mod create;
mod gauge;
mod idle;
mod pollers;

use std::time::Duration;

use anyhow::Result;
use process_operator_harness::{Env, Operator, OperatorOptions};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[tokio::main]
async fn main() -> Result<()> {
    let count = usize::try_from(number("BENCH_COUNT", 100))?;
    let window = Duration::from_secs(number("BENCH_WINDOW", 180));
    let env = Env::new("bench").await?;
    conditions(&env).await?;
    // The defaults of an installation, not the short times of the tests.
    let args = [
        "--sweep-seconds",
        "60",
        "--outage-seconds",
        "30",
        "--scale-down-delay-seconds",
        "1",
    ];
    let options = OperatorOptions {
        args: args.map(str::to_owned).to_vec(),
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&env, options).await?;
    create::one_by_one(&env, 20).await?;
    create::to_current(&env, 5).await?;
    create::events(&env).await?;
    env.clear().await?;
    idle::window(&env, &operator, "0 settled Processes", window).await?;
    create::burst(&env, count).await?;
    let pollers = pollers::Pollers::start(&env, count);
    idle::all_current(&env, count).await?;
    pollers.stop();
    idle::window(
        &env,
        &operator,
        &format!("{count} settled Processes"),
        window,
    )
    .await?;
    env.clear().await?;
    env.remove().await
}

async fn conditions(env: &Env) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let version = env
        .testbed
        .kubectl()
        .args(["version", "-o", "json"])
        .output()?;
    let version: serde_json::Value = serde_json::from_slice(&version.stdout)?;
    println!(
        "conditions: {cores} cores shared with the servers; Kubernetes {} (etcd without fsync); \
         Temporal {} (SQLite file); operator {}",
        version["serverVersion"]["gitVersion"]
            .as_str()
            .unwrap_or("?"),
        env.temporal_version().await?,
        if cfg!(debug_assertions) {
            "debug build"
        } else {
            "release build"
        },
    );
    Ok(())
}
