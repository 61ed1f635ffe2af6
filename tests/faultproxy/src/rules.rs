//! Rules in force: a matcher with what to do, settable while requests flow.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::matcher::Matcher;

/// Names a rule in the record of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// Shared by all proxies of the process, so that an id names one rule only.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A rule that was installed. Dropping the handle leaves the rule in force.
#[derive(Clone, Debug)]
pub struct RuleHandle {
    id: RuleId,
    hits: watch::Receiver<u64>,
    removed: CancellationToken,
}

impl RuleHandle {
    /// The name of the rule in [`Record::rule`](crate::Record::rule).
    pub fn id(&self) -> RuleId {
        self.id
    }

    /// How often the rule was applied.
    pub fn hits(&self) -> u64 {
        *self.hits.borrow()
    }

    /// Waits until the rule was applied this often.
    pub async fn wait_hits(&self, n: u64, within: Duration) -> Result<()> {
        let mut hits = self.hits.clone();
        tokio::time::timeout(within, hits.wait_for(|hits| *hits >= n))
            .await
            .with_context(|| {
                format!(
                    "rule applied {} times within {within:?}, not {n}",
                    self.hits()
                )
            })?
            .context("the proxy is gone")?;
        Ok(())
    }

    /// Takes the rule out of force; requests that hang because of it are let go.
    pub fn remove(&self) {
        self.removed.cancel();
    }
}

struct Rule<Q, A> {
    id: RuleId,
    matcher: Matcher<Q>,
    action: A,
    seen: Mutex<(u64, Option<Instant>)>,
    hits: watch::Sender<u64>,
    removed: CancellationToken,
}

impl<Q, A> Rule<Q, A> {
    /// Counts the request if it is one of this rule's, and says whether the rule applies to it.
    fn applies(&self, what: &Q) -> bool {
        if self.removed.is_cancelled() || !self.matcher.matches(what) {
            return false;
        }
        let mut seen = self.seen.lock();
        seen.0 += 1;
        let first = *seen.1.get_or_insert_with(Instant::now);
        self.matcher.includes(seen.0, first.elapsed())
    }
}

/// What a rule decided about one request.
pub(crate) struct Applied<A> {
    pub(crate) id: RuleId,
    pub(crate) action: A,
    pub(crate) removed: CancellationToken,
}

pub(crate) struct RuleSet<Q, A> {
    rules: Mutex<Vec<Arc<Rule<Q, A>>>>,
}

impl<Q, A: Clone> RuleSet<Q, A> {
    pub(crate) fn new() -> Self {
        Self {
            rules: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, matcher: Matcher<Q>, action: A) -> RuleHandle {
        let (hits, seen_hits) = watch::channel(0);
        let rule = Arc::new(Rule {
            id: RuleId(NEXT.fetch_add(1, Ordering::Relaxed)),
            matcher,
            action,
            seen: Mutex::default(),
            hits,
            removed: CancellationToken::new(),
        });
        let handle = RuleHandle {
            id: rule.id,
            hits: seen_hits,
            removed: rule.removed.clone(),
        };
        self.rules.lock().push(rule);
        handle
    }

    pub(crate) fn clear(&self) {
        for rule in self.rules.lock().drain(..) {
            rule.removed.cancel();
        }
    }

    /// The first rule that applies decides; every rule counts.
    pub(crate) fn decide(&self, what: &Q) -> Option<Applied<A>> {
        let rules: Vec<_> = {
            let mut rules = self.rules.lock();
            rules.retain(|rule| !rule.removed.is_cancelled());
            rules.clone()
        };
        // No lock is held here: a condition of a test may take its time or use the proxy itself.
        let mut decided = None;
        for rule in rules {
            if rule.applies(what) && decided.is_none() {
                rule.hits.send_modify(|hits| *hits += 1);
                decided = Some(Applied {
                    id: rule.id,
                    action: rule.action.clone(),
                    removed: rule.removed.clone(),
                });
            }
        }
        decided
    }
}

impl<Q, A> fmt::Debug for RuleSet<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleSet")
            .field("rules", &self.rules.lock().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_applies_decides_and_every_rule_counts() {
        let rules = RuleSet::<u8, &str>::new();
        let second = rules.add(Matcher::any().nth(2), "second");
        let fourth = rules.add(Matcher::any().nth(4), "fourth");
        let rest = rules.add(Matcher::any(), "rest");
        let decided: Vec<_> = (0..4)
            .filter_map(|n| rules.decide(&n))
            .map(|applied| applied.action)
            .collect();
        assert_eq!(decided, ["rest", "second", "rest", "fourth"]);
        assert_eq!((second.hits(), fourth.hits(), rest.hits()), (1, 1, 2));
    }

    #[test]
    fn a_removed_rule_is_out_of_force() {
        let rules = RuleSet::<u8, &str>::new();
        let handle = rules.add(Matcher::any(), "gone");
        handle.remove();
        assert!(rules.decide(&1).is_none());
        rules.add(Matcher::any(), "cleared");
        rules.clear();
        assert!(rules.decide(&1).is_none());
    }

    #[tokio::test]
    async fn waiting_for_hits_is_by_notification_and_ends_with_an_error() {
        let rules = Arc::new(RuleSet::<u8, ()>::new());
        let handle = rules.add(Matcher::any(), ());
        let waiting = tokio::spawn({
            let handle = handle.clone();
            async move { handle.wait_hits(1, Duration::from_secs(10)).await }
        });
        rules.decide(&1);
        waiting.await.unwrap().unwrap();
        let error = handle
            .wait_hits(2, Duration::from_millis(1))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("1 times"), "{error}");
    }
}
