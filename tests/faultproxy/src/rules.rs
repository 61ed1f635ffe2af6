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
    counts: watch::Receiver<Counts>,
    removed: CancellationToken,
}

/// How often a rule was applied, and how often that is over.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    hits: u64,
    done: u64,
}

impl RuleHandle {
    /// The name of the rule in [`Record::rule`](crate::Record::rule).
    pub fn id(&self) -> RuleId {
        self.id
    }

    /// How often the rule was applied.
    pub fn hits(&self) -> u64 {
        self.counts.borrow().hits
    }

    /// Waits until the rule was applied this often. What it does may still be under way: a
    /// request hangs, a hook has yet to run.
    pub async fn wait_hits(&self, n: u64, within: Duration) -> Result<()> {
        self.wait(within, |counts| counts.hits >= n).await
    }

    /// Waits until the rule was applied this often and what it did is over: the hook has run,
    /// the request has hung.
    pub async fn wait_done(&self, n: u64, within: Duration) -> Result<()> {
        self.wait(within, |counts| counts.done >= n).await
    }

    async fn wait(&self, within: Duration, so: impl Fn(&Counts) -> bool) -> Result<()> {
        let mut counts = self.counts.clone();
        let waited = tokio::time::timeout(within, counts.wait_for(so)).await;
        waited
            .with_context(|| {
                let Counts { hits, done } = *self.counts.borrow();
                format!("after {within:?} the rule was applied {hits} times, of which {done} over")
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
    counts: Arc<watch::Sender<Counts>>,
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
    /// To be dropped when what was decided has been carried out.
    pub(crate) done: Done,
}

/// Counts as one application that is over when it is dropped.
pub(crate) struct Done(Arc<watch::Sender<Counts>>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.send_modify(|counts| counts.done += 1);
    }
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
        let (counts, seen_counts) = watch::channel(Counts::default());
        let rule = Arc::new(Rule {
            id: RuleId(NEXT.fetch_add(1, Ordering::Relaxed)),
            matcher,
            action,
            seen: Mutex::default(),
            counts: Arc::new(counts),
            removed: CancellationToken::new(),
        });
        let handle = RuleHandle {
            id: rule.id,
            counts: seen_counts,
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
                rule.counts.send_modify(|counts| counts.hits += 1);
                decided = Some(Applied {
                    id: rule.id,
                    action: rule.action.clone(),
                    removed: rule.removed.clone(),
                    done: Done(Arc::clone(&rule.counts)),
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
        let applied = rules.decide(&1);
        waiting.await.unwrap().unwrap();
        let error = handle
            .wait_done(1, Duration::from_millis(1))
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("applied 1 times, of which 0 over"),
            "{error}"
        );
        drop(applied);
        handle.wait_done(1, Duration::from_secs(10)).await.unwrap();
    }
}
