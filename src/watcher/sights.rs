//! What each Temporal namespace in use answers to its pings.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use process_operator_crds::Reason;
use tokio::time::Instant;

use super::lease::{self, Answers};
use super::{Link, Shared};
use crate::temporal::{self, Silence};

/// Longest time between two pings of a namespace that does not answer.
const AGAIN: Duration = Duration::from_secs(5);
/// How the message begins while the operator's own namespace does not answer.
pub(super) const AWAY: &str = "Temporal cannot be reached";
/// Pings on their way at once.
const CONCURRENT: usize = 8;

/// When is pinged, and what counts as an outage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two pings of a namespace that answers.
    every: Duration,
    /// Between two looks at what is due, and two pings of one that does not answer.
    pub(super) tick: Duration,
    /// Silence that is an outage.
    outage: Duration,
}

impl Pace {
    pub(super) fn new(every: Duration, outage: Duration) -> Self {
        Self {
            every,
            tick: AGAIN.min(every / 3),
            outage,
        }
    }

    /// What counts as this long: ticks do not come to the millisecond.
    fn about(self, time: Duration) -> Duration {
        time.saturating_sub(self.tick / 2)
    }
}

/// What one Temporal namespace has answered.
#[derive(Debug)]
struct Sight {
    /// Its last answer; before the first one, since when it is asked.
    last: Timestamp,
    /// The same by a clock that nobody sets.
    since: Instant,
    asked: Option<Instant>,
    /// Why the last ping failed, if it did.
    silent: Option<Silence>,
    /// It has been silent for so long that Processes say so.
    out: bool,
}

/// All Temporal namespaces in use: those that Processes name, and the operator's own.
pub(super) struct Sights {
    own: String,
    pace: Pace,
    all: BTreeMap<String, Sight>,
    told: Option<Instant>,
}

/// Why a Process cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outage {
    /// For its conditions.
    pub(super) reason: Reason,
    /// For people.
    pub(super) why: String,
    /// The operator's own Temporal namespace does not answer either: no workflow can write.
    pub(super) whole: bool,
}

impl Sights {
    pub(super) fn new(own: &str, pace: Pace) -> Self {
        Self {
            own: own.to_owned(),
            pace,
            all: BTreeMap::new(),
            told: None,
        }
    }

    /// Pings what is due.
    pub(super) async fn look(&mut self, shared: &Shared, link: Option<&Link>) {
        let mut used = shared.cache.temporal_namespaces();
        used.insert(self.own.clone());
        self.all.retain(|namespace, _| {
            let used = used.contains(namespace);
            if !used {
                shared.metrics.forget_namespace(namespace);
            }
            used
        });
        for namespace in used {
            self.all.entry(namespace).or_insert_with(|| Sight {
                last: Timestamp::now(),
                since: Instant::now(),
                asked: None,
                silent: None,
                out: false,
            });
        }
        let own = self.own.clone();
        if self.due(&own) {
            let answer = match link {
                Some(link) => temporal::ping(&link.connection, &own).await,
                None => Err(Silence::away("never connected")),
            };
            self.heard(shared, &own, answer);
        }
        let Some(link) = link else { return };
        if self.away() {
            // The server as a whole; there is no need to ask it about each namespace.
            return;
        }
        let others = self.all.keys().filter(|name| **name != own);
        let due: Vec<String> = others.filter(|name| self.due(name)).cloned().collect();
        let mut answers = futures::stream::iter(due)
            .map(async |namespace| {
                let answer = temporal::ping(&link.connection, &namespace).await;
                (namespace, answer)
            })
            .buffer_unordered(CONCURRENT);
        let mut heard = Vec::new();
        while let Some(answer) = answers.next().await {
            heard.push(answer);
        }
        drop(answers);
        for (namespace, answer) in heard {
            self.heard(shared, &namespace, answer);
        }
    }

    fn due(&self, namespace: &str) -> bool {
        self.all.get(namespace).is_some_and(|sight| {
            let passed = sight.asked.map(|asked| asked.elapsed());
            sight.silent.is_some()
                || passed.is_none_or(|passed| passed >= self.pace.about(self.pace.every))
        })
    }

    /// The last ping of the operator's own namespace has failed.
    pub(super) fn away(&self) -> bool {
        self.silence(&self.own).is_some()
    }

    /// Why the last ping of a namespace failed, if it did.
    pub(super) fn silence(&self, namespace: &str) -> Option<&Silence> {
        self.all.get(namespace)?.silent.as_ref()
    }

    fn heard(&mut self, shared: &Shared, namespace: &str, answer: Result<(), Silence>) {
        let Some(sight) = self.all.get_mut(namespace) else {
            return;
        };
        sight.asked = Some(Instant::now());
        shared.metrics.namespace_up(namespace, answer.is_ok());
        match answer {
            Ok(()) => {
                sight.last = Timestamp::now();
                sight.since = Instant::now();
                sight.silent = None;
                if std::mem::take(&mut sight.out) {
                    tracing::info!(temporal_namespace = namespace, "Temporal answers again");
                }
            }
            Err(silent) => sight.silent = Some(silent),
        }
    }

    /// Tells the other replicas what has answered, now and then.
    pub(super) async fn tell(&mut self, shared: &Shared) {
        let half = self.pace.outage / 2;
        let due = self
            .told
            .is_none_or(|told| told.elapsed() >= self.pace.about(half));
        let answers: Answers = self
            .all
            .iter()
            .filter(|(_, sight)| sight.silent.is_none() && sight.asked.is_some())
            .map(|(namespace, sight)| (namespace.clone(), sight.last))
            .collect();
        if !due || answers.is_empty() {
            return;
        }
        self.told = Some(Instant::now());
        lease::tell(shared, &answers, signed(half)).await;
    }

    /// Finds out which silence has lasted long enough, and is not only ours.
    pub(super) async fn judge(&mut self, shared: &Shared) {
        let patience = self.pace.about(self.pace.outage);
        let long: Vec<String> = self
            .all
            .iter()
            .filter(|(_, sight)| sight.silent.is_some() && sight.since.elapsed() >= patience)
            .map(|(namespace, _)| namespace.clone())
            .collect();
        if long.is_empty() {
            return;
        }
        let seen = lease::seen_by_others(shared, &long, signed(patience)).await;
        for namespace in long {
            let Some(sight) = self.all.get_mut(&namespace) else {
                continue;
            };
            let out = !seen.contains(&namespace);
            if out && !sight.out {
                let silent = sight.since.elapsed().as_secs();
                let why = sight.silent.as_ref().map_or("", |silent| &silent.why);
                tracing::warn!(
                    temporal_namespace = namespace,
                    "Temporal has not answered for {silent} s: {why}"
                );
            }
            sight.out = out;
        }
    }

    /// Why a Process in this Temporal namespace cannot be worked on, if that has lasted long enough.
    pub(super) fn outage(&self, namespace: &str) -> Option<Outage> {
        let out = |namespace: &str| {
            let sight = self.all.get(namespace).filter(|sight| sight.out)?;
            sight.silent.clone()
        };
        if let Some(silent) = out(&self.own) {
            return Some(Outage {
                reason: Reason::TemporalUnavailable,
                why: format!("{AWAY}: {}", silent.why),
                whole: true,
            });
        }
        let silent = out(namespace)?;
        let why = match silent.reason {
            Reason::NamespaceNotFound => format!(
                "Temporal namespace {namespace} does not exist; create it or correct spec.temporal.namespace"
            ),
            Reason::Forbidden => format!(
                "the operator may not use Temporal namespace {namespace}: {}",
                silent.why
            ),
            _ => format!(
                "Temporal namespace {namespace} cannot be reached: {}",
                silent.why
            ),
        };
        Some(Outage {
            reason: silent.reason,
            why,
            whole: false,
        })
    }
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(30));

    fn sights(silent: &[(&str, Reason)]) -> Sights {
        let mut sights = Sights::new("control", Pace::new(PACE.0, PACE.1));
        for namespace in ["control", "a", "b"] {
            let reason = silent.iter().find(|(name, _)| *name == namespace);
            let sight = Sight {
                last: Timestamp::now(),
                since: Instant::now(),
                asked: Some(Instant::now()),
                silent: reason.map(|(_, reason)| Silence {
                    reason: *reason,
                    why: "why".into(),
                }),
                out: reason.is_some(),
            };
            sights.all.insert(namespace.into(), sight);
        }
        sights
    }

    #[test]
    fn the_silence_of_one_namespace_concerns_its_own_processes_only() {
        let sights = sights(&[("a", Reason::Forbidden)]);
        let outage = sights.outage("a").expect("an outage");
        assert_eq!((outage.reason, outage.whole), (Reason::Forbidden, false));
        assert!(outage.why.contains("Temporal namespace a"), "{outage:?}");
        assert_eq!(sights.outage("b"), None);
        assert_eq!(sights.outage(""), None, "a Process that cannot be read");
    }

    #[test]
    fn the_silence_of_the_operators_own_concerns_all() {
        let sights = sights(&[
            ("control", Reason::TemporalUnavailable),
            ("a", Reason::Forbidden),
        ]);
        for namespace in ["a", "b", ""] {
            let outage = sights.outage(namespace).expect("an outage");
            assert_eq!(
                (outage.reason, outage.whole),
                (Reason::TemporalUnavailable, true)
            );
        }
    }

    #[tokio::test]
    async fn what_answers_is_asked_at_the_interval_and_what_does_not_at_each_tick() {
        let sights = sights(&[("a", Reason::TemporalUnavailable)]);
        assert!(sights.due("a") && !sights.due("b") && !sights.due("gone"));
        assert_eq!(sights.pace.tick, AGAIN);
    }
}
