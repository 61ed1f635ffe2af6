//! Ends the workflows that hold a version, or moves them to the current one.

use std::time::Duration;

use jiff::Timestamp;
use process_operator_workflows::contract::{
    CountOpenInput, CountOpenOutcome, EndAction as Asked, EndOpenInput, EndOpenOutcome,
};

use super::drained::{Need, need};
use super::{Pace, left, passing};
use crate::context::Context;
use crate::error::Result;
use crate::temporal::policy::{self, EndAction, Ended};
use crate::temporal::{describe, shares, visibility};

/// Counts them, with a sample of their ids: recorded before anything is done to them.
pub(crate) async fn count(context: &Context, input: &CountOpenInput) -> Result<CountOpenOutcome> {
    let query = input.apart.holding(&input.key, &input.build_id);
    let namespace = &input.temporal_namespace;
    let found = policy::survey(context, namespace, &query).await?;
    Ok(CountOpenOutcome {
        open: found.open,
        sample: found.sample,
        oldest: found.oldest,
    })
}

/// Between two looks while nothing happens.
const MOST: Duration = Duration::from_secs(30);
/// And while something does.
const FIRST: Duration = Duration::from_millis(500);

/// How often it hurries because some had ended when their turn came: the index may be wrong for good.
const HURRIES: u32 = 60;

/// Goes over them again and again until none is left or the time is up.
pub(crate) async fn end(context: &Context, input: &EndOpenInput) -> Result<EndOpenOutcome> {
    let mut pace = Pace::new(FIRST, MOST);
    let mut outcome = EndOpenOutcome::default();
    let (mut asked, mut hurries) = (None, HURRIES);
    loop {
        if let Some(found) = passing(pass(context, input, &mut asked).await)? {
            match found {
                Pass::InUse => {
                    outcome.in_use = true;
                    return Ok(outcome);
                }
                Pass::NoTarget(why) => outcome.refused = why,
                Pass::Done(ended) => {
                    outcome.left = ended.left;
                    outcome.refused = match ended.refused {
                        0 => String::new(),
                        refused => format!("{refused} refused, for example {}", ended.why),
                    };
                    if ended.left == 0 {
                        return Ok(outcome);
                    }
                    if ended.missed > 0 && hurries > 0 {
                        // What goes on in new runs all the time is only met soon after it was listed.
                        hurries -= 1;
                        pace = Pace::new(FIRST, MOST);
                    }
                }
            }
        }
        let left = left(input.until);
        if left.is_zero() {
            let query = input.apart.holding(&input.key, &input.build_id);
            outcome.left = visibility::count(context, &input.temporal_namespace, &query).await?;
            return Ok(outcome);
        }
        let _ = tokio::time::timeout(left, pace.rest()).await;
    }
}

/// What one pass has come to.
enum Pass {
    /// The version is routed to: what runs on it is no old work any more.
    InUse,
    /// There is nothing to move them to.
    NoTarget(String),
    Done(Ended),
}

/// All that a pass found have been asked to end.
#[derive(Debug, Clone, Copy)]
struct Before {
    /// When it began.
    began: Timestamp,
    /// How many there were after it.
    left: u64,
}

/// Once is enough for each that is asked to end: after the first pass only those are asked that came since.
/// `asked` is what the passes so far have come to.
async fn pass(context: &Context, input: &EndOpenInput, asked: &mut Option<Before>) -> Result<Pass> {
    let (namespace, key, build_id) = (&input.temporal_namespace, &input.key, &input.build_id);
    if need(context, namespace, key, build_id, &input.apart).await? == Need::Routed {
        return Ok(Pass::InUse);
    }
    let began = Timestamp::now();
    let all = input.apart.holding(key, build_id);
    let mut query = all.clone();
    let mut left = None;
    if let Some(before) = asked {
        let open = visibility::count(context, namespace, &all).await?;
        if open == 0 {
            return Ok(Pass::Done(Ended::default()));
        }
        // More of them may be old ones that somebody has moved here.
        if open <= before.left {
            query = policy::started_since(&all, before.began);
        }
        left = Some(open);
    }
    let action = match input.action {
        Asked::Cancel => EndAction::Cancel,
        Asked::Terminate => EndAction::Terminate,
        Asked::MoveToCurrent if !input.apart.is_default() => {
            let why = "a workflow cannot move to the task queue of another version";
            return Ok(Pass::NoTarget(why.into()));
        }
        Asked::MoveToCurrent => match current(context, input).await? {
            Some(action) => action,
            None => return Ok(Pass::NoTarget("no version is current".into())),
        },
        Asked::Unknown => return Ok(Pass::NoTarget("the action is not known".into())),
    };
    let identity = context.manager_identity(&key.uid);
    let reason = &input.reason;
    let mut ended =
        policy::end_executions(context, namespace, &query, action, reason, &identity).await?;
    // Not only those of this pass.
    ended.left = left.unwrap_or(ended.left);
    if input.action == Asked::Cancel {
        // One that refused is asked again together with all others.
        *asked = (ended.refused == 0).then_some(Before {
            began,
            left: ended.left,
        });
    }
    Ok(Pass::Done(ended))
}

/// The version that takes new workflows, if another one does.
async fn current(context: &Context, input: &EndOpenInput) -> Result<Option<EndAction>> {
    let deployment = input.key.worker_deployment();
    let seen = describe(context, &input.temporal_namespace, &deployment).await?;
    Ok(seen
        .map(|(info, _)| shares::shares(&info).current)
        .filter(|current| !current.is_empty() && *current != input.build_id)
        .map(|build_id| EndAction::MoveTo {
            deployment,
            build_id,
        }))
}
