//! What fails again and again in a wait that goes on.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Fault;

/// What lasts no longer is no news.
const LONG: Duration = Duration::from_secs(120);
/// What is looked at seldom has failed only once by then.
const TWICE: u32 = 2;
/// As long as it lasts it is told again: the API server keeps an Event for an hour by default.
const AGAIN: Duration = Duration::from_secs(3600);

/// Failures in a row, by the place in the code that waits them out: a look that succeeds says nothing about a change
/// that is refused beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Failing(Arc<Mutex<HashMap<Location<'static>, Row>>>);

#[derive(Debug)]
struct Row {
    last: Fault,
    times: u32,
    since: Instant,
    told: Option<Instant>,
}

impl Failing {
    fn rows(&self) -> MutexGuard<'_, HashMap<Location<'static>, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has succeeded there.
    pub(super) fn passed(&self, at: &Location<'static>) {
        self.rows().remove(at);
    }

    /// It has failed there.
    pub(super) fn failed(&self, at: &Location<'static>, fault: &Fault, now: Instant) {
        let mut rows = self.rows();
        let same = rows.get_mut(at);
        // A server that was away and now refuses has not refused for long.
        if let Some(row) = same.filter(|row| row.last.category == fault.category) {
            row.times = row.times.saturating_add(1);
            row.last = fault.clone();
            return;
        }
        let row = Row {
            last: fault.clone(),
            times: 1,
            since: now,
            told: None,
        };
        rows.insert(*at, row);
    }

    /// What is to be told now, and how often it has failed. Taken as told.
    pub(super) fn due(&self, now: Instant) -> Option<(u32, Fault)> {
        let mut rows = self.rows();
        let row = rows.values_mut().find(|row| {
            let lasts = row.times >= TWICE && now.duration_since(row.since) >= LONG;
            lasts
                && row
                    .told
                    .is_none_or(|told| now.duration_since(told) >= AGAIN)
        })?;
        row.told = Some(now);
        Some((row.times, row.last.clone()))
    }
}

#[cfg(test)]
mod tests {
    use process_operator_crds::ErrorCategory;

    use super::*;

    const HERE: &Location<'static> = Location::caller();

    fn fault(category: ErrorCategory) -> Fault {
        Fault::new(category, "no")
    }

    #[test]
    fn what_lasts_is_told_and_again_after_an_hour() {
        let (failing, start) = (Failing::default(), Instant::now());
        let refused = fault(ErrorCategory::Forbidden);
        let at = |seconds| start + Duration::from_secs(seconds);
        failing.failed(HERE, &refused, start);
        assert_eq!(failing.due(at(600)), None, "once is no row");
        for second in [60, 90] {
            failing.failed(HERE, &refused, at(second));
            assert_eq!(failing.due(at(second)), None, "{second}");
        }
        failing.failed(HERE, &refused, at(120));
        assert_eq!(failing.due(at(120)), Some((4, refused.clone())));
        failing.failed(HERE, &refused, at(150));
        assert_eq!(failing.due(at(150)), None, "told");
        assert_eq!(failing.due(at(120 + 3600)), Some((5, refused)));
    }

    #[test]
    fn a_success_ends_the_row_of_its_own_place_alone() {
        let (failing, start) = (Failing::default(), Instant::now());
        let refused = fault(ErrorCategory::Forbidden);
        let there = Location::caller();
        for second in [0, 130] {
            let at = start + Duration::from_secs(second);
            failing.failed(HERE, &refused, at);
            failing.passed(there);
        }
        let late = start + Duration::from_secs(130);
        assert_eq!(failing.due(late), Some((2, refused.clone())));
        failing.passed(HERE);
        failing.failed(HERE, &refused, late);
        let later = late + Duration::from_secs(3600);
        assert_eq!(failing.due(later), None);
    }

    #[test]
    fn another_failure_is_another_row() {
        let (failing, start) = (Failing::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in [0, 100] {
            failing.failed(HERE, &fault(ErrorCategory::TemporalUnavailable), at(second));
        }
        let refused = fault(ErrorCategory::Forbidden);
        for second in [110, 220] {
            failing.failed(HERE, &refused, at(second));
            assert_eq!(failing.due(at(second)), None, "{second}");
        }
        failing.failed(HERE, &refused, at(230));
        assert_eq!(failing.due(at(230)), Some((3, refused)));
    }
}
