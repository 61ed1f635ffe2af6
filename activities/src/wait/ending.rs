//! Ends the workflows that hold a version, or moves them to the current one.

use std::time::Duration;

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

/// Goes over them again and again until none is left or the time is up.
pub(crate) async fn end(context: &Context, input: &EndOpenInput) -> Result<EndOpenOutcome> {
    let mut pace = Pace::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut outcome = EndOpenOutcome::default();
    let mut asked = None;
    loop {
        if let Some(found) = passing(pass(context, input, asked).await)? {
            match found {
                Pass::InUse => {
                    outcome.in_use = true;
                    return Ok(outcome);
                }
                Pass::NoTarget(why) => outcome.refused = why,
                Pass::Waiting(left) => {
                    outcome.left = left;
                    asked = Some(left);
                    if left == 0 {
                        return Ok(outcome);
                    }
                }
                Pass::Done(ended) => {
                    asked = Some(ended.left).filter(|_| input.action == Asked::Cancel);
                    outcome.left = ended.left;
                    outcome.refused = match ended.refused {
                        0 => String::new(),
                        refused => format!("{refused} refused, for example {}", ended.why),
                    };
                    if ended.left == 0 {
                        return Ok(outcome);
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
    /// All that are left have been asked to end.
    Waiting(u64),
    Done(Ended),
}

/// `asked` of them have been asked to end: they are given their time, unless there are more.
async fn pass(context: &Context, input: &EndOpenInput, asked: Option<u64>) -> Result<Pass> {
    let (namespace, key, build_id) = (&input.temporal_namespace, &input.key, &input.build_id);
    if need(context, namespace, key, build_id, &input.apart).await? == Need::Routed {
        return Ok(Pass::InUse);
    }
    let query = input.apart.holding(key, build_id);
    if let Some(asked) = asked {
        let left = visibility::count(context, namespace, &query).await?;
        if left <= asked {
            return Ok(Pass::Waiting(left));
        }
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
    policy::end_executions(context, namespace, &query, action, &input.reason, &identity)
        .await
        .map(Pass::Done)
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
