//! What drains tell, and what they are told.

use jiff::Timestamp;
use process_operator_crds::names;

use super::{DrainOrder, Plan, note_by};
use crate::contract::{DrainTold, EndAction, ProcessView, Request, State};

/// Takes in what a drain has told.
pub(super) fn told(state: &mut State, told: &DrainTold, now: Timestamp, plan: &mut Plan) {
    let Some(drain) = state.drains.get_mut(&told.build_id) else {
        return;
    };
    if drain.id != told.id {
        return;
    }
    if told.serial == 0 || told.serial >= drain.heard {
        drain.progress = Some(told.progress.clone());
        drain.heard = told.serial;
    }
    for note in &told.notes {
        let actor = if note.actor.is_empty() {
            names::manager::OPERATOR
        } else {
            &note.actor
        };
        note_by(
            state,
            plan,
            now,
            &note.what,
            &told.build_id,
            &note.reason,
            actor,
        );
    }
}

/// Tells running drains a policy that they do not know.
pub(super) fn tell_policy(state: &mut State, process: &ProcessView, plan: &mut Plan) {
    let Some(policy) = &process.drain else {
        return;
    };
    for drain in state.drains.values_mut() {
        if drain.cancelled || drain.policy.as_ref() == Some(policy) {
            continue;
        }
        drain.policy = Some(policy.clone());
        let order = DrainOrder::Policy(policy.clone());
        plan.drains.push((drain.id.clone(), order));
    }
}

/// The version that an order to end its workflows is about and what is to be done, or why there is none.
pub(super) fn forced(
    state: &State,
    build_id: &str,
    action: &str,
) -> Result<(String, EndAction), String> {
    let action = EndAction::read(action)?;
    let draining: Vec<&String> = state
        .drains
        .iter()
        .filter(|(_, drain)| !drain.cancelled && drain.is_draining())
        .map(|(build_id, _)| build_id)
        .collect();
    if action == EndAction::MoveToCurrent && state.standing.own_queues {
        return Err(super::draining::NO_MOVE.into());
    }
    if action == EndAction::MoveToCurrent && state.current.is_none() {
        return Err("no version is current that workflows could be moved to".into());
    }
    let names = || {
        let names: Vec<&str> = draining.iter().map(|name| name.as_str()).collect();
        names.join(", ")
    };
    match draining.as_slice() {
        [] => Err("nothing is draining".into()),
        [only] if build_id.is_empty() => Ok(((*only).clone(), action)),
        _ if build_id.is_empty() => Err(format!(
            "several versions are draining: set buildId to one of {}",
            names()
        )),
        some if some.iter().any(|name| name.as_str() == build_id) => {
            Ok((build_id.to_owned(), action))
        }
        _ => Err(format!(
            "version {build_id} is not draining; these are: {}",
            names()
        )),
    }
}

/// Hands an order of a person to the drain.
pub(super) fn force(
    state: &State,
    request: &Request,
    plan: &mut Plan,
) -> Result<(String, String), String> {
    let args = &request.args;
    let (build_id, action) = forced(state, &args.build_id, &args.action)?;
    let Some(drain) = state.drains.get(&build_id) else {
        return Err("nothing is draining".into());
    };
    let mut args = args.clone();
    args.actor = super::verbs::actor(&args);
    plan.drains
        .push((drain.id.clone(), DrainOrder::Force(args)));
    let message = match action {
        EndAction::Cancel => "the workflows pinned to it are cancelled",
        EndAction::Terminate => "the workflows pinned to it are terminated",
        _ => "the workflows pinned to it are moved to the current version",
    };
    Ok((build_id, message.into()))
}
