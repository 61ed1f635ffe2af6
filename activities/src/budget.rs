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

/// Reads of task queues in a Temporal namespace: they count among what the server allows 2400 of in a second, for all of
/// a frontend's callers together.
const QUEUES: Rate = Rate {
    per_second: 100.0,
    burst: 200.0,
};

/// Executions cancelled, terminated or moved: as many as a batch of the server's own does.
const ACTIONS: Rate = Rate {
    per_second: 50.0,
    burst: 50.0,
};

/// Changes that the server counts together: of what is Current, of what ramps, and records of versions that are
/// deleted, refusals included. Its limit is 10 a second for everybody in a namespace, and 100 at once.
const CHANGES: Rate = Rate {
    per_second: 4.0,
    burst: 40.0,
};

/// Of the changes saved up, those that cleaning leaves to a deletion that somebody waits for.
const KEPT: f64 = 10.0;

/// What such a change is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A rollout. It has waited already: the server hands these out at a rate that holds for all replicas together.
    Rollout,
    /// A Process that is being deleted: a share is taken back.
    Deletion,
    /// What is gone or not needed any more. Nobody waits for it.
    Cleaning,
}

/// That a change has had its turn. Only a budget gives it.
#[derive(Debug)]
pub(crate) struct Turn(());

impl Budget {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            tokens: rate.burst,
            at: now,
        }
    }

    /// Takes one if there is one more than `reserve`; otherwise says how long that takes.
    fn take(&mut self, rate: Rate, reserve: f64, now: Instant) -> Option<Duration> {
        self.earn(rate, now);
        let lacks = reserve + 1.0 - self.tokens;
        if lacks > 0.0 {
            return Some(Duration::from_secs_f64(lacks / rate.per_second));
        }
        self.tokens -= 1.0;
        None
    }

    /// Takes one whether it is there or not. Nothing is owed: those who wait would wait for ever.
    fn take_anyway(&mut self, rate: Rate, now: Instant) {
        self.earn(rate, now);
        self.tokens = (self.tokens - 1.0).max(0.0);
    }

    fn earn(&mut self, rate: Rate, now: Instant) {
        let earned = now.duration_since(self.at).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + earned).min(rate.burst);
        self.at = now;
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

    /// Waits for the turn of a read of a task queue.
    pub(crate) async fn queue(&self, namespace: &str) {
        self.turn(format!("queues of {namespace}"), QUEUES, 0.0)
            .await;
    }

    /// Waits for the turn of something that is done to an execution.
    pub(crate) async fn action(&self, namespace: &str) {
        // No namespace has a space in its name.
        self.turn(format!("act on {namespace}"), ACTIONS, 0.0).await;
    }

    /// Waits for the turn of a change. That of a rollout is only counted, so that the others give way to it.
    pub(crate) async fn change(&self, namespace: &str, what_for: Change) -> Turn {
        let about = format!("change {namespace}");
        match what_for {
            Change::Rollout => {
                self.with(&about, CHANGES, |budget, now| {
                    budget.take_anyway(CHANGES, now);
                });
            }
            Change::Deletion => self.turn(about, CHANGES, 0.0).await,
            Change::Cleaning => self.turn(about, CHANGES, KEPT).await,
        }
        Turn(())
    }

    /// Takes one from a bucket as soon as it holds one more than `reserve`.
    async fn turn(&self, about: String, rate: Rate, reserve: f64) {
        let take = |budget: &mut Budget, now| budget.take(rate, reserve, now);
        while let Some(pause) = self.with(&about, rate, take) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Does something with a bucket, which is full at first.
    fn with<T>(&self, about: &str, rate: Rate, what: impl FnOnce(&mut Budget, Instant) -> T) -> T {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let budget = budgets.entry(about.to_owned());
        what(budget.or_insert_with(|| Budget::full(rate, now)), now)
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
            budgets.queue("apps").await;
            budgets.poll("others").await;
        };
        let others = tokio::time::timeout(while_it_lacks, others);
        assert!(others.await.is_ok());
    }

    #[tokio::test]
    async fn cleaning_keeps_no_deletion_waiting_and_no_rollout() {
        let budgets = Budgets::default();
        for _ in 0..35 {
            budgets.change("apps", Change::Deletion).await;
        }
        let while_it_lacks = Duration::from_millis(500);
        let cleaning = budgets.change("apps", Change::Cleaning);
        let cleaning = tokio::time::timeout(while_it_lacks, cleaning);
        assert!(cleaning.await.is_err(), "5 are left");
        let others = async {
            budgets.change("apps", Change::Deletion).await;
            // More than there are.
            for _ in 0..20 {
                budgets.change("apps", Change::Rollout).await;
            }
            budgets.change("others", Change::Cleaning).await;
        };
        let others = tokio::time::timeout(while_it_lacks, others);
        assert!(others.await.is_ok());
    }

    #[test]
    fn rollouts_take_what_cleaning_would_and_nothing_is_owed() {
        let now = Instant::now();
        let mut budget = Budget::full(CHANGES, now);
        for _ in 0..100 {
            budget.take_anyway(CHANGES, now);
        }
        let one = Duration::from_millis(250);
        assert_eq!(budget.take(CHANGES, 0.0, now), Some(one));
        assert_eq!(budget.take(CHANGES, KEPT, now), Some(one * 11));
        let later = now + Duration::from_secs(10);
        let cleaned = std::iter::from_fn(|| {
            let pause = budget.take(CHANGES, KEPT, later);
            pause.is_none().then_some(())
        });
        assert_eq!(cleaned.count(), 30);
    }
}
