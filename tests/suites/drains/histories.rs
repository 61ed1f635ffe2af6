//! What drains leave in their histories.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use process_operator_crds::Process;
use process_operator_harness::{Env, QUIET, counts, until};
use serde_json::Value;
use temporalio_common::protos::temporal::api::common::v1::{Payloads, WorkflowExecution};
use temporalio_common::protos::temporal::api::enums::v1::EventType;
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;

use crate::support::{SOON, drain_id};

/// With how many events a run begins, and how many each telling adds: what the unit test about sixty days of waiting
/// supposes (`activities/src/wait/drained/counting.rs`).
const BEGINNING: usize = 6;
const TELLING: usize = 7;

fn first(payloads: Option<&Payloads>) -> Result<Value> {
    let payload = payloads.and_then(|payloads| payloads.payloads.first());
    let payload = payload.context("no payload")?;
    Ok(serde_json::from_slice(&payload.data)?)
}

/// Input of a run.
pub(crate) fn begun_with(history: &[HistoryEvent]) -> Result<Value> {
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) =
        history.first().and_then(|event| event.attributes.as_ref())
    else {
        anyhow::bail!("it has no beginning");
    };
    first(started.input.as_ref())
}

/// When v1 lost its traffic as its drain was told, of which status shows whole seconds.
pub(crate) async fn since(env: &Env, process: &Process) -> Result<Timestamp> {
    let drain = drain_id(env, process).await?;
    let history = env.temporal.history(&env.control, &drain).await?;
    let since = begun_with(&history)?["since"].clone();
    Ok(serde_json::from_value(since)?)
}

/// A drain that waits costs no history, however long it waits.
pub(crate) async fn nothing_is_added(env: &Env, process: &Process) -> Result<()> {
    let drain = drain_id(env, process).await?;
    let length = async || anyhow::Ok(env.temporal.history(&env.control, &drain).await?.len());
    let mut before = length().await?;
    // What was told last is still being written down.
    until("nothing is added for a while", SOON, async || {
        // The window itself is what is looked at, so here time has to pass.
        tokio::time::sleep(2 * QUIET).await;
        let now = length().await?;
        let added = now - std::mem::replace(&mut before, now);
        ensure!(added == 0, "{added} events");
        Ok(())
    })
    .await
}

/// A drain that waits has written its beginning and what it has told, at least so many times, and nothing else.
pub(crate) async fn is_what_was_told(env: &Env, process: &Process, least: usize) -> Result<()> {
    let drain = drain_id(env, process).await?;
    let history = env.temporal.history(&env.control, &drain).await?;
    let of = |kind: EventType| {
        let of_kind = history.iter().filter(|event| event.event_type() == kind);
        of_kind.count()
    };
    // The first count is told within the first task; with each other one a wait ends.
    let told = 1 + of(EventType::ActivityTaskCompleted);
    ensure!(told >= least, "told {told} times");
    // A task that nobody took in time, on a busy machine, is given out once more.
    let given_again = 3 * of(EventType::WorkflowTaskTimedOut);
    ensure!(
        history.len() <= BEGINNING + told * TELLING + given_again,
        "{} events, told {told} times: {:?}",
        history.len(),
        counts(&history)
    );
    println!("{} events, told {told} times", history.len());
    Ok(())
}

/// A drain has continued as new, and its second run begins with the policy that the first was told last.
pub(crate) async fn policy_is_handed_over(env: &Env, drain: &str) -> Result<()> {
    let query = format!("WorkflowId = '{drain}'");
    let runs = env.temporal.list(&env.control, &query).await?;
    let run = runs
        .into_iter()
        .min_by_key(|run| run.start_time.map(|at| (at.seconds, at.nanos)))
        .and_then(|run| run.execution)
        .context("no run")?;
    let history = env.temporal.history_of(&env.control, run.clone()).await?;
    let told = history
        .iter()
        .rev()
        .find_map(|event| match &event.attributes {
            Some(Attributes::WorkflowExecutionSignaledEventAttributes(told)) => {
                (told.signal_name == "policy").then(|| first(told.input.as_ref()))
            }
            _ => None,
        })
        .context("it was told no policy")??;
    let Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(next)) =
        history.last().and_then(|event| event.attributes.as_ref())
    else {
        anyhow::bail!("the first run ends otherwise: {:?}", history.last());
    };
    let run = WorkflowExecution {
        run_id: next.new_execution_run_id.clone(),
        ..run
    };
    let second = env.temporal.history_of(&env.control, run).await?;
    let policy = begun_with(&second)?["policy"].clone();
    ensure!(policy == told, "{policy}, not {told}");
    Ok(())
}
