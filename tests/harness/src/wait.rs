//! Waiting for a condition with a deadline.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Looks until `look` gives a value. `Err` of a look is "not yet" and is shown when time is up.
pub async fn until<T, E: Display>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(last) if started.elapsed() > within => {
                bail!(
                    "{what}: not within {} s; last seen: {last}",
                    within.as_secs()
                );
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Whether all of what the faults suite can try was asked for (`FAULTS=complete`, `cargo xtask test --faults`), not what a
/// default run samples.
pub fn complete() -> bool {
    std::env::var("FAULTS").is_ok_and(|text| text == "complete")
}
