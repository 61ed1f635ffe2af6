//! How verbs come in: by update, which answers, or by signal, whose answer is an Event.

use temporalio_common::data_converters::RawValue;
use temporalio_workflow::WorkflowContext;

use super::ProcessLifecycle;
use crate::contract::{Answer, Request, State, Verb, VerbArgs};
use crate::{plan, support};

/// Why an update is refused.
pub(super) type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// What a validator says: refuses what cannot be done as far as memory tells.
pub(super) fn check(state: &State, verb: Verb, raw: &RawValue) -> Result<(), Refusal> {
    let args = support::arguments::<VerbArgs>(raw)?;
    plan::check(state, verb, &args)?;
    Ok(())
}

/// Hands a verb to the next turn, under an id of its own.
fn enqueue(lifecycle: &mut ProcessLifecycle, verb: Verb, args: VerbArgs) -> String {
    lifecycle.verbs += 1;
    let id = format!("{verb}/{}", lifecycle.verbs);
    lifecycle.requests.push(Request {
        id: id.clone(),
        verb,
        args,
    });
    lifecycle.dirty = true;
    id
}

/// A verb by signal. One that cannot be read is told like any other bad signal.
pub(super) fn take(lifecycle: &mut ProcessLifecycle, verb: Verb, raw: &RawValue) {
    match support::arguments::<VerbArgs>(raw) {
        Ok(args) => {
            enqueue(lifecycle, verb, args);
        }
        Err(why) => {
            lifecycle
                .refused
                .push(format!("signal {verb} ignored: {why}"));
            lifecycle.dirty = true;
        }
    }
}

/// A verb by update: waits for the turn that carries it out, and answers what became of it.
pub(super) async fn ask(
    ctx: &WorkflowContext<ProcessLifecycle>,
    verb: Verb,
    raw: &RawValue,
) -> Result<Answer, Refusal> {
    let args = support::arguments::<VerbArgs>(raw)?;
    let id = ctx.state_mut(|s| {
        let id = enqueue(s, verb, args);
        s.asking.insert(id.clone());
        id
    });
    ctx.wait_condition(|s| s.answers.contains_key(&id))
        .await
        .map_err(|_| "the lifecycle ends")?;
    let answer = ctx
        .state_mut(|s| {
            s.asking.remove(&id);
            s.answers.remove(&id)
        })
        .unwrap_or_default();
    if answer.accepted {
        Ok(answer)
    } else {
        Err(answer.message.into())
    }
}
