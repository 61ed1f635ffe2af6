//! What is being done, what took how long, and how much is left.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The phases of a command in their order. Each is announced with its number and told with its time when it
/// has ended; all are listed at the end, also when one has failed.
#[derive(Debug)]
pub(crate) struct Phases {
    /// How many there are to be.
    total: usize,
    begun: Instant,
    ended: Vec<(String, Duration, bool)>,
}

impl Phases {
    /// So many phases are to come.
    pub(crate) fn of(total: usize) -> Self {
        Self {
            total,
            begun: Instant::now(),
            ended: Vec::new(),
        }
    }

    /// Runs one phase.
    pub(crate) fn run<T>(&mut self, name: &str, phase: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("{}", self.heading(name, self.begun.elapsed()));
        let begun = Instant::now();
        let result = phase();
        let elapsed = begun.elapsed();
        eprintln!("{}", self.end(name, elapsed, result.is_ok()));
        self.ended.push((name.to_owned(), elapsed, result.is_ok()));
        result
    }

    /// Announces a phase; `so_far` is the time since the first began.
    fn heading(&self, name: &str, so_far: Duration) -> String {
        let number = self.ended.len() + 1;
        // A command that does more than it knew of is no reason to count wrongly.
        let total = self.total.max(number);
        if self.ended.is_empty() {
            return format!("== {number} of {total}: {name}");
        }
        format!(
            "== {number} of {total}: {name} ({} so far)",
            minutes(so_far)
        )
    }

    fn end(&self, name: &str, elapsed: Duration, passed: bool) -> String {
        let left = self.total.saturating_sub(self.ended.len() + 1);
        let elapsed = minutes(elapsed);
        match (passed, left) {
            (false, _) => format!("== {name}: FAILED after {elapsed}"),
            (true, 0) => format!("== {name}: done in {elapsed}"),
            (true, left) => format!("== {name}: done in {elapsed}, {left} left"),
        }
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        eprintln!("\nWhat took how long:");
        for (name, elapsed, passed) in &self.ended {
            let failed = if *passed { "" } else { "  FAILED" };
            eprintln!("  {name:40} {:>8.1} s{failed}", elapsed.as_secs_f32());
        }
        let total: Duration = self.ended.iter().map(|(_, elapsed, _)| *elapsed).sum();
        eprintln!("  {:40} {:>8.1} s", "in all", total.as_secs_f32());
    }
}

/// For people who wait: `12.3 s`, `4 min 5 s`.
pub(crate) fn minutes(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        seconds @ 60.. => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{:.1} s", elapsed.as_secs_f32()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_says_which_of_how_many_it_is_and_what_is_left() {
        let mut phases = Phases::of(3);
        let at = Duration::from_secs_f32(12.34);
        assert_eq!(phases.heading("build", Duration::ZERO), "== 1 of 3: build");
        assert_eq!(
            phases.end("build", at, true),
            "== build: done in 12.3 s, 2 left"
        );
        phases.run("build", || Ok(())).unwrap();
        phases.run("images", || Ok(())).unwrap();
        let long = Duration::from_secs(245);
        assert_eq!(
            phases.heading("suite drains", long),
            "== 3 of 3: suite drains (4 min 5 s so far)"
        );
        assert_eq!(
            phases.end("suite drains", long, true),
            "== suite drains: done in 4 min 5 s"
        );
        assert_eq!(
            phases.end("suite drains", long, false),
            "== suite drains: FAILED after 4 min 5 s"
        );
        phases.run("suite drains", || Ok(())).unwrap();
        assert_eq!(
            phases.heading("testbed down", at),
            "== 4 of 4: testbed down (12.3 s so far)",
            "one more than was known of"
        );
    }
}
