//! What took how long.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The phases of a command in their order. Printed at the end, also when one
/// has failed.
#[derive(Debug, Default)]
pub(crate) struct Phases(Vec<(String, Duration, bool)>);

impl Phases {
    /// Runs one phase.
    pub(crate) fn run<T>(&mut self, name: &str, phase: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("== {name}");
        let begun = Instant::now();
        let result = phase();
        self.0
            .push((name.to_owned(), begun.elapsed(), result.is_ok()));
        result
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        eprintln!("\nWhat took how long:");
        for (name, elapsed, passed) in &self.0 {
            let failed = if *passed { "" } else { "  FAILED" };
            eprintln!("  {name:40} {:>8.1} s{failed}", elapsed.as_secs_f32());
        }
        let total: Duration = self.0.iter().map(|(_, elapsed, _)| *elapsed).sum();
        eprintln!("  {:40} {:>8.1} s", "in all", total.as_secs_f32());
    }
}
