//! Waits until nothing holds a version any more.

mod counting;

use std::time::Duration;

use jiff::Timestamp;
use process_operator_crds::spec::Versioning;
use process_operator_workflows::contract::{
    KeepDrainedInput, KeepDrainedOutcome, KeptApart, ProcessKey, VersionState, WaitDrainedInput,
    WaitDrainedOutcome,
};

use self::counting::{Counting, Rhythm};
use super::{Pace, ago, left, passing};
use crate::context::Context;
use crate::error::{Result, within};
use crate::routes;
use crate::temporal::versions::Past;
use crate::temporal::{versions, visibility};

/// Between two looks at a version that nothing holds. The server itself looks every three minutes by default.
const MOST: Duration = Duration::from_secs(60);

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

/// Waits until nothing holds a version, or until there is something to tell. `begun`: when that was asked for first.
pub(crate) async fn wait(
    context: &Context,
    input: &WaitDrainedInput,
    begun: Timestamp,
) -> Result<WaitDrainedOutcome> {
    let clock = context.drain_clock;
    let counting = Counting::new(input, begun, clock);
    let mut rhythm = Rhythm::default();
    loop {
        let seen = passing(look(context, input, &counting).await)?;
        let waited = match seen {
            Some(Seen::News(outcome)) => return Ok(outcome),
            Some(Seen::Held) => input.since.map_or(Duration::ZERO, ago),
            Some(Seen::Free) | None => Duration::ZERO,
        };
        let rest = rhythm.next(clock.passed(waited));
        tokio::time::sleep(clock.lasts(rest)).await;
    }
}

/// What one look has found.
enum Seen {
    /// Something to tell.
    News(WaitDrainedOutcome),
    /// Workflows hold the version, as is known.
    Held,
    /// None does, but the server has not said so yet.
    Free,
}

/// One look. While workflows hold the version nobody else has to be asked: its record costs the server much more than a
/// count, and a drain of a version that is routed to again is called off by the lifecycle.
async fn look(context: &Context, input: &WaitDrainedInput, counting: &Counting) -> Result<Seen> {
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
                return Ok(Seen::News(WaitDrainedOutcome {
                    drained: true,
                    never_served: true,
                    ..WaitDrainedOutcome::default()
                }));
            }
            Need::Routed => {
                return Ok(Seen::News(WaitDrainedOutcome {
                    in_use: true,
                    ..WaitDrainedOutcome::default()
                }));
            }
            // The server looks seldom: its word and a count of our own agree.
            Need::Nothing => {
                let past = past(context, namespace, key, build_id, &input.apart).await?;
                return Ok(Seen::News(WaitDrainedOutcome {
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
    Ok(match known {
        Some(known) => Seen::News(WaitDrainedOutcome {
            known: Some(known),
            ..WaitDrainedOutcome::default()
        }),
        None if open == 0 => Seen::Free,
        None => Seen::Held,
    })
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
