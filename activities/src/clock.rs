//! The time by which drains wait.

use std::time::Duration;

/// Shorter rests than that are not taken: however fast the clock runs, a server is not asked without a pause.
const LEAST: Duration = Duration::from_millis(100);

/// The clock by which a drain rests between two counts, and by which it tells what is news. It runs as fast as any
/// other, but in tests: weeks of waiting are to fit into a minute. Deadlines and delays are timers, and go by the
/// server's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainClock {
    speed: u32,
}

impl DrainClock {
    /// One that runs so many times as fast.
    pub fn new(speed: u32) -> Self {
        Self {
            speed: speed.max(1),
        }
    }

    /// How much has passed by it.
    pub(crate) fn passed(self, time: Duration) -> Duration {
        time.saturating_mul(self.speed)
    }

    /// How long a rest by it lasts.
    pub(crate) fn lasts(self, rest: Duration) -> Duration {
        (rest / self.speed).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_may_pass_in_a_second_and_a_server_is_not_flooded_for_it() {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        assert_eq!(DrainClock::new(1).passed(day), day);
        assert_eq!(DrainClock::new(1).lasts(second), second);
        let fast = DrainClock::new(24 * 3600);
        assert_eq!((fast.passed(second), fast.lasts(day)), (day, second));
        assert_eq!(fast.lasts(second), LEAST);
    }
}
