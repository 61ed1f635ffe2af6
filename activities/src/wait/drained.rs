//! Waits until nothing holds a version any more.

use std::time::Duration;

use jiff::Timestamp;
use process_operator_crds::spec::Versioning;
use process_operator_workflows::contract::{
    KeepDrainedInput, KeepDrainedOutcome, KeptApart, Known, ProcessKey, VersionState,
    WaitDrainedInput, WaitDrainedOutcome,
};
use tokio::time::Instant;

use super::{Pace, left, passing};
use crate::context::Context;
use crate::error::{Result, within};
use crate::routes;
use crate::temporal::versions::Past;
use crate::temporal::{policy, versions, visibility};

/// The server itself looks every three minutes by default.
const MOST: Duration = Duration::from_secs(60);
/// A change too small to be told at once is told after that.
const STALE: Duration = Duration::from_secs(6 * 3600);
/// After so many counts they are told less often: a drain that goes up and down for weeks must not
/// fill histories.
const MANY: u32 = 50;
/// How often then, at most.
const SELDOM: Duration = Duration::from_secs(600);

/// What needs a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is routed to.
    Routed,
    /// Running workflows are pinned to it, or it is not known whether some are.
    Held,
    /// Nothing does.
    Nothing,
    /// Nothing does, and the server has no record of it.
    Unknown,
}

/// What needs a version: as the server's record has it, or the routing and its queue. The server looks seldom, and
/// not again once it has called a version drained, also when one of its workflows is reset (seen with 1.32): its
/// word and a count of our own must agree.
pub(crate) async fn need(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
    apart: &KeptApart,
) -> Result<Need> {
    if !apart.is_default() {
        return need_by_routes(context, namespace, key, build_id, apart).await;
    }
    let Some(record) = versions::record(context, namespace, key, build_id).await? else {
        return Ok(Need::Unknown);
    };
    Ok(match record.state {
        VersionState::Current | VersionState::Ramping => Need::Routed,
        VersionState::Draining | VersionState::Unknown => Need::Held,
        VersionState::Drained | VersionState::Created | VersionState::Inactive => {
            let query = apart.holding(key, build_id);
            if visibility::count(context, namespace, &query).await? > 0 {
                Need::Held
            } else {
                Need::Nothing
            }
        }
    })
}

async fn need_by_routes(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
    apart: &KeptApart,
) -> Result<Need> {
    let routes = within(routes::read(context, key)).await?.routes;
    if routes.uses(build_id) {
        return Ok(Need::Routed);
    }
    if apart.versioning == Versioning::None {
        // Any version's pods take over its executions.
        return Ok(Need::Unknown);
    }
    let query = apart.holding(key, build_id);
    Ok(
        if visibility::count(context, namespace, &query).await? > 0 {
            Need::Held
        } else if routes.served.contains_key(build_id) {
            Need::Nothing
        } else {
            Need::Unknown
        },
    )
}

/// What a version has been.
pub(crate) async fn past(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    build_id: &str,
    apart: &KeptApart,
) -> Result<Past> {
    if apart.is_default() {
        return versions::past(context, namespace, key, build_id).await;
    }
    let routes = within(routes::read(context, key)).await?.routes;
    let last_current = routes.served.get(build_id).copied();
    Ok(Past {
        served: last_current.is_some(),
        last_current,
    })
}

pub(crate) async fn wait(
    context: &Context,
    input: &WaitDrainedInput,
) -> Result<WaitDrainedOutcome> {
    let mut pace = Pace::new(Duration::from_secs(1), MOST);
    let counting = Counting::new(input);
    loop {
        if let Some(Some(outcome)) = passing(look(context, input, &counting).await)? {
            return Ok(outcome);
        }
        pace.rest().await;
    }
}

/// One look; `None` when there is nothing to tell. While workflows hold the version nobody else has to be asked:
/// its record costs the server much more than a count, and a drain of a version that is routed to
/// again is called off by the lifecycle.
async fn look(
    context: &Context,
    input: &WaitDrainedInput,
    counting: &Counting,
) -> Result<Option<WaitDrainedOutcome>> {
    let (namespace, key, build_id) = (&input.temporal_namespace, &input.key, &input.build_id);
    let open = if input.apart.versioning == Versioning::None {
        // Executions on the queue they share hold no version.
        0
    } else {
        visibility::count(context, namespace, &counting.query).await?
    };
    if open == 0 {
        match need(context, namespace, key, build_id, &input.apart).await? {
            Need::Unknown => {
                return Ok(Some(WaitDrainedOutcome {
                    drained: true,
                    never_served: true,
                    ..WaitDrainedOutcome::default()
                }));
            }
            Need::Routed => {
                return Ok(Some(WaitDrainedOutcome {
                    in_use: true,
                    ..WaitDrainedOutcome::default()
                }));
            }
            // The server looks seldom: its word and a count of our own agree.
            Need::Nothing => {
                let past = past(context, namespace, key, build_id, &input.apart).await?;
                return Ok(Some(WaitDrainedOutcome {
                    drained: true,
                    never_served: !past.served,
                    last_current: past.last_current,
                    ..WaitDrainedOutcome::default()
                }));
            }
            Need::Held => {}
        }
    }
    let known = counting.news(context, namespace, open).await?;
    Ok(known.map(|known| WaitDrainedOutcome {
        known: Some(known),
        ..WaitDrainedOutcome::default()
    }))
}

/// Counts what holds a version, and tells when it is worth telling.
struct Counting {
    query: String,
    /// What was told; `None` when nobody wants to know.
    known: Option<Known>,
    since: Instant,
}

impl Counting {
    fn new(input: &WaitDrainedInput) -> Self {
        Self {
            query: input.apart.holding(&input.key, &input.build_id),
            known: input.known.clone(),
            since: Instant::now(),
        }
    }

    async fn news(&self, context: &Context, namespace: &str, open: u64) -> Result<Option<Known>> {
        let Some(known) = &self.known else {
            return Ok(None);
        };
        if !is_news(known, open, self.since.elapsed()) {
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

/// Leaves a drained version as it is for a while, unless it gets work again.
pub(crate) async fn keep(
    context: &Context,
    input: &KeepDrainedInput,
) -> Result<KeepDrainedOutcome> {
    let (namespace, key) = (&input.temporal_namespace, &input.key);
    let mut pace = Pace::new(Duration::from_secs(2), MOST);
    loop {
        let left = left(input.until);
        let need = need(context, namespace, key, &input.build_id, &input.apart).await;
        match passing(need)? {
            Some(Need::Routed) => {
                return Ok(KeepDrainedOutcome {
                    in_use: true,
                    ..KeepDrainedOutcome::default()
                });
            }
            Some(Need::Held) => {
                return Ok(KeepDrainedOutcome {
                    held: true,
                    ..KeepDrainedOutcome::default()
                });
            }
            // What follows looks once more.
            _ if left.is_zero() => return Ok(KeepDrainedOutcome::default()),
            _ => {}
        }
        let _ = tokio::time::timeout(left, pace.rest()).await;
    }
}

#[cfg(test)]
mod tests {
    use process_operator_workflows::drain::HISTORY_LIMIT;

    use super::*;

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

    /// Events that one telling costs in the history of a drain: the activity that waits (three), the workflow
    /// task that it wakes (three), and the marker of the local activity that tells the lifecycle. Suite `drains`
    /// counts them in a real history.
    const TELLING: u32 = 7;
    /// With what a run begins: its start, a workflow task, the wait, the timer of the deadline.
    const BEGINNING: u32 = 6;

    /// What a drain has written when it has waited for 60 days.
    #[derive(Debug, Default)]
    struct Written {
        told: u32,
        events: u32,
        runs: u32,
        longest: u32,
    }

    /// A look each minute at what is open then.
    fn sixty_days(open: impl Fn(u64) -> u64) -> Written {
        let mut known = known(None, 0);
        let mut age = Duration::ZERO;
        let mut run = BEGINNING;
        let mut written = Written {
            runs: 1,
            ..Written::default()
        };
        for minute in 0..60 * 24 * 60 {
            age += MOST;
            let open = open(minute);
            if !is_news(&known, open, age) {
                continue;
            }
            known.open = Some(open);
            known.counts += 1;
            age = Duration::ZERO;
            written.told += 1;
            written.events += TELLING;
            run += TELLING;
            written.longest = written.longest.max(run);
            if run > HISTORY_LIMIT {
                written.runs += 1;
                written.events += BEGINNING;
                run = BEGINNING;
            }
        }
        written
    }

    #[test]
    fn sixty_days_of_waiting_stay_small() {
        let constant = sixty_days(|_| 100);
        assert_eq!((constant.told, constant.runs), (1, 1), "the first count");

        let swings = sixty_days(|minute| if minute % 2 == 0 { 100 } else { 120 });
        assert!(swings.longest <= HISTORY_LIMIT + TELLING, "{swings:?}");
        // Fifty at once, and then one in ten minutes: a thousand events a day.
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
