//! What verbs mean, and when they are refused.

use jiff::Timestamp;
use process_operator_crds::ErrorCategory;

use super::rollouts::{cannot_take_over, forget_failure};
use super::{Plan, note_by};
use crate::contract::{
    Answer, EventType, Observation, Order, ProcessKey, ProcessView, Request, Restart, Rollout,
    RolloutOrder, Stage, State, Step, Verb, VerbArgs,
};

mod annotation;
mod undo;

pub(super) use annotation::annotation;

/// Why nothing can be asked for any more.
pub(super) const DELETED: &str = "the Process is being deleted";

/// Why a rollout takes no other way any more.
const ENDS: &str = "it is being aborted";

/// What a verb needs to be judged and carried out.
pub(super) struct Scene<'a> {
    pub(super) key: &'a ProcessKey,
    /// As the spec has it, without what an `undo` made of it.
    pub(super) process: &'a ProcessView,
    pub(super) seen: &'a Observation,
    pub(super) now: Timestamp,
}

/// Whether a verb can be carried out, as far as memory tells: the answer that a validator gives at
/// once. The message says what stands against it and how to get past that.
pub fn check(state: &State, verb: Verb, args: &VerbArgs) -> Result<(), String> {
    if state.deletion.is_some() {
        return Err(DELETED.into());
    }
    if verb == Verb::Unknown {
        return Err("this verb is not known to this version of the operator".into());
    }
    if state.standing.suspended {
        return Err("spec.suspend is true: set it to false first".into());
    }
    let rollout = state.rollout.as_ref().filter(|rollout| !rollout.cancelled);
    let running = || rollout.ok_or_else(|| "nothing is being rolled out".to_owned());
    // Older rules took a paused one for paused.
    let ends = rollout.is_some_and(|rollout| stage(rollout) == Stage::Unwinding)
        && state.standing.rules > 4;
    match verb {
        Verb::Pause | Verb::Promote if ends => refuse(true, ENDS),
        Verb::Resume if ends && state.standing.manager.is_none() => refuse(true, ENDS),
        Verb::Pause => {
            let rollout = running()?;
            refuse(rollout.paused.is_some(), "it is paused already")?;
            refuse(stage(rollout) == Stage::Unwinding, ENDS)
        }
        Verb::Resume => {
            if state.standing.manager.is_some() {
                return Ok(());
            }
            let rollout = running()?;
            let stopped = rollout.paused.is_some() || is_held(rollout);
            refuse(
                !stopped && state.standing.paused,
                "spec.rollout.paused is true: set it to false",
            )?;
            refuse(!stopped, "it is not paused")
        }
        Verb::Promote => {
            let rollout = running()?;
            refuse(
                state.standing.paused,
                "spec.rollout.paused is true: set it to false first",
            )?;
            refuse(rollout.paused.is_some(), "it is paused: resume it first")?;
            refuse(
                stage(rollout) == Stage::Starting,
                "the new version does not serve yet",
            )?;
            refuse(stage(rollout) == Stage::Unwinding, ENDS)
        }
        Verb::Abort => {
            let rollout = running()?;
            refuse(
                stage(rollout) == Stage::Unwinding,
                "it is being aborted already",
            )
        }
        Verb::Retry => {
            let held = rollout.is_some_and(is_held);
            let again = state.failed.is_some() || state.undone.is_some();
            refuse(!held && !again, "nothing has failed or was undone")
        }
        Verb::Undo => {
            refuse(state.current.is_none(), "no version is current yet")?;
            let current = state.current.as_ref().map(|current| &current.build_id);
            refuse(
                current == Some(&args.build_id),
                "that version is current already",
            )?;
            refuse(rollout.is_some(), "a rollout is under way: abort it first")
        }
        Verb::Restart => refuse(state.current.is_none(), "no version is current yet"),
        Verb::ForceCancelDrain => {
            super::drains::forced(state, &args.build_id, &args.action).map(|_| ())
        }
        Verb::Unknown => Ok(()),
    }
}

fn refuse(when: bool, why: &str) -> Result<(), String> {
    if when { Err(why.to_owned()) } else { Ok(()) }
}

fn stage(rollout: &Rollout) -> Stage {
    rollout
        .progress
        .as_ref()
        .map_or(Stage::Starting, |progress| progress.stage)
}

fn is_held(rollout: &Rollout) -> bool {
    rollout
        .progress
        .as_ref()
        .is_some_and(|progress| progress.hold.is_some())
}

/// Carries a request out, or refuses it, and says so in history and Events.
pub(super) fn handle(
    state: &mut State,
    scene: &Scene<'_>,
    request: &Request,
    plan: &mut Plan,
) -> Answer {
    let actor = actor(&request.args);
    let done = check(state, request.verb, &request.args)
        .and_then(|()| carry_out(state, scene, request, plan));
    match done {
        Ok((build_id, message)) => {
            let why = because(&message, &request.args.reason);
            let what = format!("{}Requested", capital(&request.verb.to_string()));
            note_by(state, plan, scene.now, &what, &build_id, &why, &actor);
            Answer {
                accepted: true,
                message,
            }
        }
        Err(message) => {
            plan.steps.push(Step::Event {
                id: format!("refused/{}", request.id),
                kind: EventType::Warning,
                reason: "RequestRefused".into(),
                action: "Request".into(),
                note: format!("{} by {actor}: {message}", request.verb),
                build_id: String::new(),
            });
            Answer {
                accepted: false,
                message,
            }
        }
    }
}

/// Who asks; nobody is made up where nothing was said.
pub(super) fn actor(args: &VerbArgs) -> String {
    if args.actor.trim().is_empty() {
        "unknown".into()
    } else {
        args.actor.trim().to_owned()
    }
}

fn because(message: &str, reason: &str) -> String {
    if reason.trim().is_empty() {
        message.to_owned()
    } else {
        format!("{message} ({})", reason.trim())
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// The version it is about, and what follows.
fn carry_out(
    state: &mut State,
    scene: &Scene<'_>,
    request: &Request,
    plan: &mut Plan,
) -> Result<(String, String), String> {
    let args = &request.args;
    let why = because(&format!("by {}", actor(args)), &args.reason);
    // One that was told to stop hears nothing any more.
    let live = state.rollout.as_ref().filter(|rollout| !rollout.cancelled);
    match request.verb {
        Verb::Undo => return undo::undo(state, scene, args, why),
        Verb::Restart => return restart(state, scene),
        Verb::ForceCancelDrain => return super::drains::force(state, request, plan),
        Verb::Retry if !live.is_some_and(is_held) => {
            let build_id = scene.process.build_id.clone();
            forget_failure(state);
            state.undone = None;
            return Ok((build_id, "the spec's version is rolled out again".into()));
        }
        Verb::Resume if live.is_none() => {
            if given_up(state, &scene.process.build_id) {
                return Err(
                    "the spec's version was given up: request `retry` with it, change the spec, or \
                     unset the manager identity in Temporal"
                        .into(),
                );
            }
            if let Some(why) = cannot_take_over(state, scene.process, scene.seen) {
                return Err(why);
            }
            state.take_over = true;
            let build_id = scene.process.build_id.clone();
            return Ok((build_id, "routing is taken back".into()));
        }
        _ => {}
    }
    let live = state.rollout.as_mut().filter(|rollout| !rollout.cancelled);
    let Some(rollout) = live else {
        return Err("nothing is being rolled out".into());
    };
    let build_id = rollout.build_id.clone();
    let held = is_held(rollout);
    let mut tell = |order: Order, why: String| {
        plan.orders
            .push((rollout.id.clone(), RolloutOrder::new(order, why)));
    };
    let message = match request.verb {
        Verb::Pause => {
            // The order itself follows from the state; see the rollouts' part of the plan.
            rollout.paused = Some(why);
            "the share of new workflows stays as it is"
        }
        Verb::Resume => {
            if held || state.standing.manager.is_some() {
                tell(Order::Retry, why);
            }
            rollout.paused = None;
            if state.standing.paused {
                "it goes on once spec.rollout.paused is false"
            } else {
                "it goes on"
            }
        }
        Verb::Promote if args.full => {
            tell(Order::PromoteFull, why);
            "all new workflows go to it"
        }
        Verb::Promote => {
            let known = rollout.progress.as_ref();
            let step = known.map(|progress| progress.step);
            let order = RolloutOrder {
                step: step.filter(|_| scene.seen.settings.rules > 3),
                ..RolloutOrder::new(Order::Promote, why)
            };
            plan.orders.push((rollout.id.clone(), order));
            "the next step is taken"
        }
        Verb::Abort => {
            tell(Order::Abort, format!("aborted {why}"));
            // It does not say so itself, and what is asked for from now on must know.
            let progress = rollout.progress.get_or_insert_default();
            progress.stage = Stage::Unwinding;
            progress.hold = None;
            "new workflows go to the version that served before"
        }
        _ => {
            tell(Order::Retry, why);
            "what failed is done again"
        }
    };
    Ok((build_id, message.into()))
}

fn restart(state: &mut State, scene: &Scene<'_>) -> Result<(String, String), String> {
    let current = state.current.as_ref().map(|current| &current.build_id);
    let build_id = current
        .filter(|build_id| deployment_of(scene, build_id).is_some())
        .ok_or("the current version has no Deployment to restart")?
        .clone();
    state.restart = Some(Restart {
        build_id: build_id.clone(),
        at: scene.now,
    });
    Ok((
        build_id,
        "its pods are restarted one after the other".into(),
    ))
}

/// Name and uid of the Deployment of a version, unless it is somebody else's.
fn deployment_of(scene: &Scene<'_>, build_id: &str) -> Option<(String, String)> {
    let version = scene.seen.versions.get(build_id)?;
    let deployment = version.deployment.as_ref().filter(|it| !it.foreign)?;
    Some((version.deployment_name().to_owned(), deployment.uid.clone()))
}

/// A restart is wanted until it is done, and of the version for which it was asked for.
pub(super) fn keep_restarting(state: &mut State, scene: &Scene<'_>, plan: &mut Plan) {
    let Some(restart) = state.restart.take() else {
        return;
    };
    let current = state.current.as_ref();
    if current.is_none_or(|current| current.build_id != restart.build_id) {
        return;
    }
    let Some((name, uid)) = deployment_of(scene, &restart.build_id) else {
        return;
    };
    plan.steps.push(Step::RestartVersion {
        name,
        uid,
        at: restart.at,
    });
    // Older rules took it for done.
    state.restart = (scene.seen.settings.rules > 2).then_some(restart);
}

/// Keeps the category for what was given up rather than merely not finished: its workers are
/// retired, since they have run executions or were told to go.
pub(super) fn given_up(state: &State, build_id: &str) -> bool {
    state.failed.as_ref().is_some_and(|failed| {
        failed.build_id == build_id
            && matches!(
                failed.category,
                ErrorCategory::AnalysisFailed
                    | ErrorCategory::GateFailed
                    | ErrorCategory::RolloutAborted
                    | ErrorCategory::RoutingChanged
            )
    })
}
