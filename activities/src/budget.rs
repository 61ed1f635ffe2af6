//! How many calls this process allows itself in a Temporal namespace.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Debug, Clone, Copy)]
struct Budget {
    tokens: f64,
    at: Instant,
}

/// What fills a bucket.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    /// How many may be saved up.
    burst: f64,
}

/// Reads of Worker Deployments in a Temporal namespace that this process allows itself. The server's
/// limit is 50 a second for everybody in a namespace.
const READS: Rate = Rate {
    per_second: 20.0,
    burst: 200.0,
};

/// Of the reads saved up, those that a wait leaves to what changes something or is asked by a lifecycle.
const RESERVE: f64 = 100.0;

/// Executions cancelled, terminated or moved: as many as a batch of the server's own does.
const ACTIONS: Rate = Rate {
    per_second: 50.0,
    burst: 50.0,
};

impl Budget {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            tokens: rate.burst,
            at: now,
        }
    }

    /// Takes one if there is one more than `reserve`; otherwise says how long that takes.
    fn take(&mut self, rate: Rate, reserve: f64, now: Instant) -> Option<Duration> {
        let earned = now.duration_since(self.at).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + earned).min(rate.burst);
        self.at = now;
        let lacks = reserve + 1.0 - self.tokens;
        if lacks > 0.0 {
            return Some(Duration::from_secs_f64(lacks / rate.per_second));
        }
        self.tokens -= 1.0;
        None
    }
}

/// The buckets of all Temporal namespaces.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<HashMap<String, Budget>>);

impl Budgets {
    /// Waits for the turn of a read.
    pub(crate) async fn read(&self, namespace: &str) {
        self.turn(namespace.to_owned(), READS, 0.0).await;
    }

    /// The same for a read that a wait repeats.
    pub(crate) async fn poll(&self, namespace: &str) {
        self.turn(namespace.to_owned(), READS, RESERVE).await;
    }

    /// Waits for the turn of something that is done to an execution.
    pub(crate) async fn action(&self, namespace: &str) {
        // No namespace has a space in its name.
        self.turn(format!("act on {namespace}"), ACTIONS, 0.0).await;
    }

    /// Takes one from a bucket as soon as it holds one more than `reserve`.
    async fn turn(&self, about: String, rate: Rate, reserve: f64) {
        loop {
            let pause = {
                let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                let budget = budgets.entry(about.clone());
                let budget = budget.or_insert_with(|| Budget::full(rate, now));
                budget.take(rate, reserve, now)
            };
            let Some(pause) = pause else { return };
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_up_may_go_at_once_and_then_as_much_as_comes_in() {
        let now = Instant::now();
        let mut budget = Budget::full(READS, now);
        let at_once = std::iter::from_fn(|| budget.take(READS, 0.0, now).is_none().then_some(()));
        assert_eq!(at_once.count(), 200);
        assert_eq!(
            budget.take(READS, 0.0, now),
            Some(Duration::from_millis(50))
        );
        let later = now + Duration::from_secs(1);
        let in_a_second =
            std::iter::from_fn(|| budget.take(READS, 0.0, later).is_none().then_some(()));
        assert_eq!(in_a_second.count(), 20);
        // Nothing is saved up beyond the bucket.
        let much_later = later + Duration::from_hours(1);
        let all =
            std::iter::from_fn(|| budget.take(READS, 0.0, much_later).is_none().then_some(()));
        assert_eq!(all.count(), 200);
    }

    #[test]
    fn a_wait_leaves_the_reserve() {
        let now = Instant::now();
        let mut budget = Budget::full(READS, now);
        let polls = std::iter::from_fn(|| budget.take(READS, RESERVE, now).is_none().then_some(()));
        assert_eq!(polls.count(), 100);
        assert_eq!(
            budget.take(READS, RESERVE, now),
            Some(Duration::from_millis(50))
        );
        let reads = std::iter::from_fn(|| budget.take(READS, 0.0, now).is_none().then_some(()));
        assert_eq!(reads.count(), 100, "the reserve");
        // What is lacking is the reserve and one more.
        assert_eq!(
            budget.take(READS, RESERVE, now),
            Some(Duration::from_millis(5050))
        );
    }

    #[tokio::test]
    async fn many_waits_keep_no_read_waiting_and_no_other_namespace() {
        let budgets = Budgets::default();
        for _ in 0..150 {
            budgets.read("apps").await;
        }
        let while_it_lacks = Duration::from_millis(500);
        let poll = tokio::time::timeout(while_it_lacks, budgets.poll("apps"));
        assert!(poll.await.is_err(), "50 are left");
        let others = async {
            budgets.read("apps").await;
            budgets.action("apps").await;
            budgets.poll("others").await;
        };
        let others = tokio::time::timeout(while_it_lacks, others);
        assert!(others.await.is_ok());
    }
}
