//! How often what holds a version is counted, and which counts are worth telling.

use std::time::Duration;

use jiff::Timestamp;
use process_operator_workflows::contract::{Known, WaitDrainedInput};

use super::MOST;
use crate::clock::DrainClock;
use crate::context::Context;
use crate::error::Result;
use crate::temporal::{policy, visibility};
use crate::wait::{Pace, ago};

/// Between the first two counts.
const FIRST: Duration = Duration::from_secs(1);
/// Between two counts of a version that has waited for hours.
const LONGEST: Duration = Duration::from_secs(300);
/// Which part of the time that it has waited may pass between two counts: an end is not seen later than that.
const SHARE: u32 = 60;
/// A change too small to be told at once is told after that.
const STALE: Duration = Duration::from_secs(6 * 3600);
/// After so many counts they are told less often: a drain that goes up and down for weeks must not
/// fill histories.
const MANY: u32 = 50;
/// How often then, at most.
const SELDOM: Duration = Duration::from_secs(600);

/// When to count again: soon at first, also after a restart, and less often the longer the version has waited.
pub(super) struct Rhythm(Pace);

impl Default for Rhythm {
    fn default() -> Self {
        Self(Pace::new(FIRST, LONGEST))
    }
}

impl Rhythm {
    /// How long to rest, when workflows have held the version for so long; zero when none does.
    pub(super) fn next(&mut self, waited: Duration) -> Duration {
        let most = (waited / SHARE).clamp(MOST, LONGEST);
        self.0.next().min(most)
    }
}

/// Counts what holds a version, and tells when it is worth telling.
pub(super) struct Counting {
    /// What holds it.
    pub(super) query: String,
    /// What was told; `None` when nobody wants to know.
    known: Option<Known>,
    /// Since when nothing was told.
    since: Timestamp,
    clock: DrainClock,
}

impl Counting {
    /// `since`: when it was asked what is new. A restart does not change that.
    pub(super) fn new(input: &WaitDrainedInput, since: Timestamp, clock: DrainClock) -> Self {
        Self {
            query: input.apart.holding(&input.key, &input.build_id),
            known: input.known.clone(),
            since,
            clock,
        }
    }

    /// What is to be told of a count, if anything is.
    pub(super) async fn news(
        &self,
        context: &Context,
        namespace: &str,
        open: u64,
    ) -> Result<Option<Known>> {
        let Some(known) = &self.known else {
            return Ok(None);
        };
        if !is_news(known, open, self.clock.passed(ago(self.since))) {
            return Ok(None);
        }
        let oldest = if open == 0 {
            None
        } else {
            self.oldest(context, namespace, known).await?
        };
        Ok(Some(Known {
            open: Some(open),
            oldest,
            counts: known.counts.saturating_add(1),
        }))
    }

    /// The oldest stays the oldest until it ends; looking for another one takes more calls.
    async fn oldest(
        &self,
        context: &Context,
        namespace: &str,
        known: &Known,
    ) -> Result<Option<Timestamp>> {
        if let Some(oldest) = known.oldest {
            let until = format!("{} AND StartTime <= '{oldest}'", self.query);
            if visibility::count(context, namespace, &until).await? > 0 {
                return Ok(Some(oldest));
            }
        }
        policy::oldest(context, namespace, &self.query).await
    }
}

/// A first count, one that is at least a tenth off, and after some hours any other one.
fn is_news(known: &Known, open: u64, age: Duration) -> bool {
    let Some(before) = known.open else {
        return true;
    };
    if before == open || known.counts >= MANY && age < SELDOM {
        return false;
    }
    before.abs_diff(open).saturating_mul(10) >= before || age >= STALE
}

#[cfg(test)]
mod tests {
    use process_operator_workflows::drain::HISTORY_LIMIT;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn known(open: Option<u64>, counts: u32) -> Known {
        Known {
            open,
            counts,
            ..Known::default()
        }
    }

    #[test]
    fn only_what_matters_is_told() {
        let soon = Duration::from_secs(5);
        for (before, open, counts, age, told) in [
            (None, 0, 0, soon, true),
            (Some(100), 100, 0, STALE, false),
            (Some(100), 91, 0, soon, false),
            (Some(100), 91, 0, STALE, true),
            (Some(100), 90, 0, soon, true),
            (Some(9), 8, 0, soon, true),
            (Some(1), 0, 0, soon, true),
            (Some(0), 3, 0, soon, true),
            (Some(9), 8, MANY, soon, false),
            (Some(9), 8, MANY, SELDOM, true),
        ] {
            let known = known(before, counts);
            assert_eq!(is_news(&known, open, age), told, "{known:?} {open} {age:?}");
        }
    }

    /// How often it counts within `time` when it begins after `waited`.
    fn counts(mut waited: Duration, time: Duration) -> u32 {
        let (mut rhythm, end) = (Rhythm::default(), waited + time);
        let mut counts = 0;
        while waited < end {
            counts += 1;
            waited += rhythm.next(waited);
        }
        counts
    }

    #[test]
    fn the_longer_it_has_waited_the_less_often_it_counts() {
        let grown = |waited: Duration| {
            let mut rhythm = Rhythm::default();
            assert_eq!(rhythm.next(waited), FIRST);
            (0..30).map(|_| rhythm.next(waited)).max()
        };
        for (waited, most) in [
            (Duration::ZERO, MOST),
            (HOUR, MOST),
            (2 * HOUR, 2 * MOST),
            (5 * HOUR, LONGEST),
            (60 * DAY, LONGEST),
        ] {
            assert_eq!(grown(waited), Some(most), "{waited:?}");
        }
        let weeks_old = counts(30 * DAY, DAY);
        assert!((288..=310).contains(&weeks_old), "{weeks_old}");
        // Each hour another replica takes it over.
        let restless = 24 * counts(30 * DAY, HOUR);
        assert!(restless <= 620, "{restless}");
    }

    /// Events that one telling costs in the history of a drain: the activity that waits (three), the workflow
    /// task that it wakes (three), and the marker of the local activity that tells the lifecycle. Suite `drains`
    /// counts them in a real history.
    const TELLING: u32 = 7;
    /// With what a run begins: its start, a workflow task, the wait, the timer of the deadline.
    const BEGINNING: u32 = 6;

    /// What a drain has written when it has waited for 60 days.
    #[derive(Debug, Default)]
    struct Written {
        counts: u32,
        told: u32,
        events: u32,
        runs: u32,
        longest: u32,
    }

    /// What is open in each minute, as it is counted.
    fn sixty_days(open: impl Fn(u64) -> u64) -> Written {
        let mut known = known(None, 0);
        let mut rhythm = Rhythm::default();
        let (mut waited, mut age) = (Duration::ZERO, Duration::ZERO);
        let mut run = BEGINNING;
        let mut written = Written {
            runs: 1,
            ..Written::default()
        };
        while waited < 60 * DAY {
            let open = open(waited.as_secs() / 60);
            written.counts += 1;
            if is_news(&known, open, age) {
                known.open = Some(open);
                known.counts += 1;
                (rhythm, age) = (Rhythm::default(), Duration::ZERO);
                written.told += 1;
                written.events += TELLING;
                run += TELLING;
                written.longest = written.longest.max(run);
                if run > HISTORY_LIMIT {
                    written.runs += 1;
                    written.events += BEGINNING;
                    run = BEGINNING;
                }
                continue;
            }
            let rest = rhythm.next(waited);
            waited += rest;
            age += rest;
        }
        written
    }

    #[test]
    fn sixty_days_of_waiting_stay_small() {
        let constant = sixty_days(|_| 100);
        assert_eq!((constant.told, constant.runs), (1, 1), "the first count");
        assert!(constant.counts <= 60 * 288 + 200, "{constant:?}");

        let swings = sixty_days(|minute| if minute % 2 == 0 { 100 } else { 120 });
        assert!(swings.longest <= HISTORY_LIMIT + TELLING, "{swings:?}");
        // Fifty at once, and then one in ten minutes at most: less than a thousand events a day.
        assert!(swings.told <= 50 + 60 * 24 * 6, "{swings:?}");
        assert!(swings.events <= 62_000 && swings.runs <= 64, "{swings:?}");

        // Too little to be told at once: four times a day.
        let drifts = sixty_days(|minute| 1000 + minute % 50);
        assert!(drifts.told <= 1 + 60 * 4, "{drifts:?}");
        assert!(drifts.runs <= 2, "{drifts:?}");

        let falls = sixty_days(|minute| (60 * 24 * 60 - minute) / 10);
        assert!(falls.told <= 500 && falls.runs <= 4, "{falls:?}");
    }
}
