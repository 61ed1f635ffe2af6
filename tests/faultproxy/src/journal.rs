//! What went through a proxy, in order, with what became of each request.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::rules::RuleId;

/// A position in the record: everything a proxy sees later has a mark at or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub(crate) u64);

/// What became of a request. Codes are HTTP status codes or gRPC status numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Still under way.
    Open,
    /// The server's own answer was passed on.
    Answered(u16),
    /// The proxy answered; the server never saw the request.
    Injected(u16),
    /// The server answered, the client was told something else.
    Replaced {
        /// What the server said.
        upstream: u16,
        /// What the client was told.
        given: u16,
    },
    /// The server answered (and so may have committed); the client was told nothing.
    Withheld(u16),
    /// The server never saw the request and the client was told nothing.
    Dropped,
    /// The client went away before it was answered. The server may have seen the request.
    ClientGone,
    /// The server could not be reached, or went away before it answered.
    Unreachable,
}

impl Outcome {
    /// The code the client was told, if any.
    pub fn code(self) -> Option<u16> {
        match self {
            Self::Answered(code) | Self::Injected(code) | Self::Replaced { given: code, .. } => {
                Some(code)
            }
            _ => None,
        }
    }

    /// The code the server gave, if it was asked and did answer.
    pub fn upstream_code(self) -> Option<u16> {
        match self {
            Self::Answered(code) | Self::Withheld(code) | Self::Replaced { upstream: code, .. } => {
                Some(code)
            }
            _ => None,
        }
    }
}

/// One request that reached a proxy.
#[derive(Debug)]
pub struct Record<Q> {
    /// Sequence number, from 0.
    pub seq: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// The request itself.
    pub request: Arc<Q>,
    /// The rule that was applied, if any.
    pub rule: Option<RuleId>,
    /// What became of it so far.
    pub outcome: Outcome,
    /// Time from arrival to the outcome; absent while it is [`Outcome::Open`].
    pub took: Option<Duration>,
    started: Instant,
}

impl<Q> Record<Q> {
    /// The position of this record.
    pub fn mark(&self) -> Mark {
        Mark(self.seq)
    }
}

impl<Q> Clone for Record<Q> {
    fn clone(&self) -> Self {
        Self {
            request: Arc::clone(&self.request),
            ..*self
        }
    }
}

pub(crate) struct Journal<Q> {
    records: Mutex<Vec<Record<Q>>>,
    changes: broadcast::Sender<Record<Q>>,
}

impl<Q: std::fmt::Debug + Send + Sync + 'static> Journal<Q> {
    pub(crate) fn new() -> Self {
        Self {
            records: Mutex::default(),
            changes: broadcast::channel(1024).0,
        }
    }

    /// Records a request that has just arrived. The ticket says later what became of it.
    pub(crate) fn open(self: &Arc<Self>, request: Arc<Q>) -> Ticket<Q> {
        let mut records = self.records.lock();
        let seq = records.len() as u64;
        let record = Record {
            seq,
            at: Timestamp::now(),
            request,
            rule: None,
            outcome: Outcome::Open,
            took: None,
            started: Instant::now(),
        };
        records.push(record.clone());
        // Sent under the lock so that the order of changes is the order of the record.
        let _ = self.changes.send(record);
        Ticket {
            journal: Arc::clone(self),
            seq,
        }
    }

    fn change(&self, seq: u64, change: impl FnOnce(&mut Record<Q>)) {
        let mut records = self.records.lock();
        if let Some(record) = usize::try_from(seq).ok().and_then(|at| records.get_mut(at)) {
            change(record);
            let _ = self.changes.send(record.clone());
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.records.lock().len() as u64)
    }

    pub(crate) fn select(
        &self,
        window: &impl RangeBounds<Mark>,
        mut wanted: impl FnMut(&Record<Q>) -> bool,
    ) -> Vec<Record<Q>> {
        let records = self.records.lock();
        let from = match window.start_bound() {
            Bound::Included(mark) => mark.0,
            Bound::Excluded(mark) => mark.0 + 1,
            Bound::Unbounded => 0,
        };
        let from = usize::try_from(from)
            .unwrap_or(usize::MAX)
            .min(records.len());
        records[from..]
            .iter()
            .take_while(|record| match window.end_bound() {
                Bound::Included(mark) => record.seq <= mark.0,
                Bound::Excluded(mark) => record.seq < mark.0,
                Bound::Unbounded => true,
            })
            .filter(|record| wanted(record))
            .cloned()
            .collect()
    }

    pub(crate) fn count_by<K: Ord>(
        &self,
        window: &impl RangeBounds<Mark>,
        key: impl Fn(&Record<Q>) -> K,
    ) -> BTreeMap<K, u64> {
        let mut counts = BTreeMap::new();
        for key in self.select(window, |_| true).iter().map(key) {
            *counts.entry(key).or_default() += 1;
        }
        counts
    }

    pub(crate) async fn wait_for(
        &self,
        since: Mark,
        wanted: impl Fn(&Record<Q>) -> bool,
        within: Duration,
    ) -> Result<Record<Q>> {
        // Subscribed before the first look, so that nothing falls between the two.
        let mut changes = self.changes.subscribe();
        let search = async {
            loop {
                if let Some(found) = self.select(&(since..), &wanted).into_iter().next() {
                    return found;
                }
                loop {
                    match changes.recv().await {
                        Ok(record) if record.mark() >= since && wanted(&record) => return record,
                        Ok(_) => {}
                        // Too many changes at once: look at the whole record again.
                        Err(RecvError::Lagged(_) | RecvError::Closed) => break,
                    }
                }
            }
        };
        match tokio::time::timeout(within, search).await {
            Ok(record) => Ok(record),
            Err(_) => bail!("not seen within {within:?}; {}", self.tail(since)),
        }
    }

    /// The last requests in words: what one wants to read when the expected one never came.
    fn tail(&self, since: Mark) -> String {
        let records = self.select(&(since..), |_| true);
        let last: Vec<String> = records
            .iter()
            .rev()
            .take(5)
            .map(|record| format!("#{} {:?} {:?}", record.seq, record.request, record.outcome))
            .collect();
        format!(
            "{} requests since the mark, latest first: [{}]",
            records.len(),
            last.join(", ")
        )
    }
}

/// The duty to say what became of one request. Dropped without a word, the client was gone.
pub(crate) struct Ticket<Q: std::fmt::Debug + Send + Sync + 'static> {
    journal: Arc<Journal<Q>>,
    seq: u64,
}

impl<Q: std::fmt::Debug + Send + Sync + 'static> Ticket<Q> {
    pub(crate) fn ruled(&self, rule: RuleId) {
        self.journal
            .change(self.seq, |record| record.rule = Some(rule));
    }

    pub(crate) fn finish(&self, outcome: Outcome) {
        self.journal.change(self.seq, |record| {
            if record.outcome == Outcome::Open {
                record.outcome = outcome;
                record.took = Some(record.started.elapsed());
            }
        });
    }
}

impl<Q: std::fmt::Debug + Send + Sync + 'static> Drop for Ticket<Q> {
    fn drop(&mut self) {
        self.finish(Outcome::ClientGone);
    }
}
