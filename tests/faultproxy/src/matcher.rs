//! Which requests or watch events a rule is about, and which of those it applies to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type Condition<Q> = Arc<dyn Fn(&Q) -> bool + Send + Sync>;

/// A conjunction of conditions on a request (or watch event), and a choice among those that
/// fulfil them: the n-th, all from the n-th on, every n-th, for a time.
///
/// Each rule counts for itself, from its installation, all that fulfil its conditions, also
/// those that another rule got hold of.
pub struct Matcher<Q> {
    conditions: Vec<Condition<Q>>,
    which: Which,
    lasting: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
enum Which {
    All,
    Nth(u64),
    From(u64),
    First(u64),
    Every(u64),
}

impl<Q> Matcher<Q> {
    /// Everything.
    pub fn any() -> Self {
        Self {
            conditions: Vec::new(),
            which: Which::All,
            lasting: None,
        }
    }

    /// Adds a condition in the test's own words.
    #[must_use]
    pub fn when(mut self, condition: impl Fn(&Q) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// Only the n-th that fulfils the conditions, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.which = Which::Nth(n);
        self
    }

    /// The n-th that fulfils the conditions, counted from 1, and all after it.
    #[must_use]
    pub fn from_nth(mut self, n: u64) -> Self {
        self.which = Which::From(n);
        self
    }

    /// The first n that fulfil the conditions.
    #[must_use]
    pub fn first(mut self, n: u64) -> Self {
        self.which = Which::First(n);
        self
    }

    /// Every n-th that fulfils the conditions: 3 means the third, the sixth and so on.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        self.which = Which::Every(n);
        self
    }

    /// Ends the rule this long after the first that fulfilled the conditions: a fault that is
    /// prepared early does not run out before it bites.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.lasting = Some(duration);
        self
    }

    pub(crate) fn matches(&self, what: &Q) -> bool {
        self.conditions.iter().all(|condition| condition(what))
    }

    pub(crate) fn includes(&self, count: u64, since_first: Duration) -> bool {
        let chosen = match self.which {
            Which::All => true,
            Which::Nth(n) => count == n,
            Which::From(n) => count >= n,
            Which::First(n) => count <= n,
            Which::Every(n) => n > 0 && count.is_multiple_of(n),
        };
        chosen && self.lasting.is_none_or(|lasting| since_first < lasting)
    }
}

impl<Q> Clone for Matcher<Q> {
    fn clone(&self) -> Self {
        Self {
            conditions: self.conditions.clone(),
            which: self.which,
            lasting: self.lasting,
        }
    }
}

impl<Q> fmt::Debug for Matcher<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("conditions", &self.conditions.len())
            .field("which", &self.which)
            .field("lasting", &self.lasting)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(matcher: &Matcher<u8>) -> Vec<u64> {
        (1..=6)
            .filter(|count| matcher.includes(*count, Duration::ZERO))
            .collect()
    }

    #[test]
    fn choices_count_from_one() {
        assert_eq!(chosen(&Matcher::any()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(chosen(&Matcher::any().nth(2)), [2]);
        assert_eq!(chosen(&Matcher::any().from_nth(5)), [5, 6]);
        assert_eq!(chosen(&Matcher::any().first(2)), [1, 2]);
        assert_eq!(chosen(&Matcher::any().every(3)), [3, 6]);
        assert_eq!(chosen(&Matcher::any().every(0)), [] as [u64; 0]);
    }

    #[test]
    fn a_rule_for_a_time_ends() {
        let matcher = Matcher::<u8>::any().lasting(Duration::from_secs(2));
        assert!(matcher.includes(1, Duration::from_millis(1999)));
        assert!(!matcher.includes(1, Duration::from_secs(2)));
    }

    #[test]
    fn all_conditions_must_hold() {
        let matcher = Matcher::<u8>::any().when(|n| *n > 3).when(|n| *n % 2 == 0);
        assert!(matcher.matches(&4));
        assert!(!matcher.matches(&5));
        assert!(!matcher.matches(&2));
    }
}
