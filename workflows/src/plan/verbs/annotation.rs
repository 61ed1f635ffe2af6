//! Requests by the annotation `ameide.io/request`.

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::conditions::truncate;

use super::{Scene, actor, because, handle, refuse};
use crate::contract::{
    Annotation, Answer, EventType, LastRequest, ProcessKey, Request, State, Step, Transition, Verb,
};
use crate::plan::Plan;

/// The request in the annotation, unless it was handled before. A manifest that is applied again or
/// restored from a backup must not do anything a second time.
pub(in super::super) fn annotation(state: &mut State, scene: &Scene<'_>, plan: &mut Plan) {
    let Some(asked) = &scene.process.request else {
        return;
    };
    if state.handled.contains(&asked.id) {
        return;
    }
    let (about, answer) = match read(asked, scene.key, scene.now) {
        Ok(request) => (
            request.verb.to_string(),
            handle(state, scene, &request, plan),
        ),
        Err(message) => {
            let about = "annotation ameide.io/request".to_owned();
            plan.steps.push(Step::Event {
                id: format!("refused/{}", asked.id),
                kind: EventType::Warning,
                reason: "RequestRefused".into(),
                action: "Request".into(),
                note: format!("{about}: {message}"),
                build_id: String::new(),
            });
            let answer = Answer {
                accepted: false,
                message,
            };
            (about, answer)
        }
    };
    if !answer.accepted {
        let why = format!("{about}: {}", answer.message);
        refused(state, asked, &why, scene.now);
    }
    state.handled.push(asked.id.clone());
    let excess = state.handled.len().saturating_sub(State::REQUESTS);
    state.handled.drain(..excess);
    state.last_request = Some(LastRequest {
        id: asked.id.clone(),
        verb: asked.verb.clone(),
        accepted: answer.accepted,
        message: answer.message,
        time: scene.now,
    });
}

/// Writes a refusal to the history, where it stays when the next request is answered. One that is made again and again,
/// each time under another id, does not take the place of all else.
fn refused(state: &mut State, asked: &Annotation, why: &str, now: Timestamp) {
    let refused = Transition {
        time: now,
        what: "RequestRefused".into(),
        build_id: String::new(),
        // What people write has no bounds, and all of this is kept.
        reason: truncate(&because(why, &asked.args.reason), 1024).to_owned(),
        actor: truncate(&actor(&asked.args), 256).to_owned(),
    };
    let told = state.history.last().is_some_and(|last| {
        (&last.what, &last.reason, &last.actor) == (&refused.what, &refused.reason, &refused.actor)
    });
    if !told {
        state.record(refused);
    }
}

fn read(asked: &Annotation, key: &ProcessKey, now: Timestamp) -> Result<Request, String> {
    refuse(!asked.unreadable.is_empty(), &asked.unreadable)?;
    refuse(
        asked.id.is_empty() || asked.id.len() > 128,
        "id must have 1 to 128 characters; use a new one for each request",
    )?;
    refuse(
        asked.uid != key.uid,
        &format!("uid must be the Process's metadata.uid, {}", key.uid),
    )?;
    let most = SignedDuration::from_hours(Annotation::LONGEST_HOURS);
    let expires = asked
        .expires_at
        .ok_or("expiresAt must be set to a time in the future, for example in five minutes")?;
    refuse(expires <= now, "expiresAt is in the past")?;
    refuse(
        expires.duration_since(now) > most,
        "expiresAt must be within 24 hours",
    )?;
    let verb: Verb = asked.verb.parse().unwrap_or_default();
    refuse(
        verb == Verb::Unknown,
        "verb must be pause, resume, promote, abort, retry, undo, restart or forceCancelDrain",
    )?;
    Ok(Request {
        id: asked.id.clone(),
        verb,
        args: asked.args.clone(),
    })
}
