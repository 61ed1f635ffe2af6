//! The benchmark: prints numbers with their conditions, asserts nothing about time.
//!
//! Run it with `cargo xtask bench`. `BENCH_WINDOW` (seconds, 180) and `BENCH_COUNT` (100) shrink it;
//! `BENCH_ONLY` (`create`, `burst`, `idle`, `delete`, `drain`, its part `drains-open`, `rollout`, or its parts `first`, `steps`, `pauses`,
//! `shares`, `kills`; separated by commas) runs a part. `BENCH_STARTS` (1000), `BENCH_PAUSES` (`30,31,35,38`) and `BENCH_KILLS` (3)
//! shrink what takes long of rollouts, `BENCH_DRAINS` (300) how many drains are open at once, `BENCH_BURSTS` (3) how often
//! many are created at once.

mod create;
mod delete;
mod drain;
mod gauge;
mod idle;
mod pauses;
mod pollers;
mod rollout;
mod shown;
mod way;

use std::time::Duration;

use anyhow::Result;
use process_operator_harness::{Env, Operator, OperatorOptions};
use process_operator_tests::testbed::OPERATOR_ENV;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Whether a part was asked for.
fn wanted(part: &str) -> bool {
    std::env::var("BENCH_ONLY").map_or(true, |only| {
        only.is_empty() || only.split(',').any(|it| it == part)
    })
}

/// The defaults of an installation, not the short times of the tests, and the variables of the image.
fn options() -> OperatorOptions {
    let args = [
        "--sweep-seconds",
        "60",
        "--outage-seconds",
        "30",
        "--drain-scale-down-delay-seconds",
        "0",
        "--drain-delete-delay-seconds",
        "0",
    ];
    OperatorOptions {
        args: args.map(str::to_owned).to_vec(),
        env: OPERATOR_ENV
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..OperatorOptions::default()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let count = usize::try_from(number("BENCH_COUNT", 100))?;
    let window = Duration::from_secs(number("BENCH_WINDOW", 180));
    // Named, for what the testbed sets for it.
    let env = Env::named("bench", "bench-apps", "bench-control").await?;
    conditions(&env).await?;
    let operator = Operator::start(&env, options()).await?;
    if wanted("create") {
        create::one_by_one(&env, 20).await?;
        create::to_current(&env, 5).await?;
        create::events(&env).await?;
        env.clear().await?;
    }
    if wanted("burst") {
        for _ in 0..number("BENCH_BURSTS", 3) {
            // What the one before has taken of the reads that a replica allows itself comes in again.
            tokio::time::sleep(Duration::from_secs(10)).await;
            create::burst_and_way(&env, &operator, count).await?;
            env.clear().await?;
        }
    }
    if wanted("idle") {
        let none = idle::window(&env, &operator, "0 settled Processes", window).await?;
        create::burst(&env, &operator, count).await?;
        let pollers = pollers::Pollers::start_in_calm(&env, count, "v1").await?;
        idle::all_current(&env, &operator, count).await?;
        pollers.stop();
        let what = format!("{count} settled Processes");
        let some = idle::window(&env, &operator, &what, window).await?;
        idle::print_per_process(&none, &some, count, window);
        env.clear().await?;
    }
    if wanted("delete") {
        Box::pin(delete::run(&env, &operator, count)).await?;
    }
    if wanted("drain") {
        Box::pin(drain::ends(&env)).await?;
    }
    if wanted("drain") || wanted("drains-open") {
        let drains = usize::try_from(number("BENCH_DRAINS", 300))?;
        Box::pin(drain::open(drains, window)).await?;
    }
    Box::pin(rollout::run(&env, operator)).await?;
    println!("load average at the end: {}", gauge::load()?);
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
        "conditions: {cores} cores shared with the servers, load average {}; Kubernetes {} (etcd without fsync); \
         Temporal {} (SQLite file); operator {}",
        gauge::load()?,
        version["serverVersion"]["gitVersion"]
            .as_str()
            .unwrap_or("?"),
        env.temporal_version().await?,
        match std::env::var("PROCESS_OPERATOR_BINARY") {
            Ok(path) => path,
            Err(_) if cfg!(debug_assertions) => "debug build".to_owned(),
            Err(_) => "release build".to_owned(),
        },
    );
    Ok(())
}
