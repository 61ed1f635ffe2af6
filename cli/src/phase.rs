//! One word and one sentence for the state of a Process, and whether it is settled.

use process_operator_crds::status::{ProcessStatus, RolloutStatus};
use process_operator_crds::{ConditionType, Process, Reason};
use serde::Serialize;

use crate::exit::Exit;

/// The state of a Process in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Word {
    /// No operator has seen it, or its latest change, yet.
    Pending,
    /// The version that spec asks for is current, nothing is under way.
    Settled,
    /// A version is being rolled out.
    RollingOut,
    /// The rollout waits for a person.
    Waiting,
    /// The rollout is paused.
    Paused,
    /// Something speaks against the rollout, and a person has to decide.
    Held,
    /// It cannot get further without a change from outside.
    Failed,
    /// It is not as it should be, and the operator is at it.
    Degraded,
    /// Spec asks the operator not to act.
    Suspended,
    /// Temporal does not answer the operator.
    Disconnected,
    /// It is being deleted.
    Deleting,
}

/// The state of a Process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Phase {
    pub(crate) word: Word,
    /// In one sentence.
    pub(crate) words: String,
}

impl Phase {
    fn new(word: Word, words: impl Into<String>) -> Self {
        Self {
            word,
            words: words.into(),
        }
    }

    /// What a pipeline makes of it.
    pub(crate) fn exit(&self) -> Exit {
        match self.word {
            Word::Settled => Exit::Done,
            Word::Failed => Exit::No,
            _ => Exit::NotYet,
        }
    }
}

/// Status, reason and message of a condition; empty when it is not there.
pub(crate) fn condition(process: &Process, kind: ConditionType) -> (&str, &str, &str) {
    let status = process.status.iter();
    let mut conditions = status.flat_map(|status| &status.conditions);
    let found = conditions.find(|condition| condition.type_ == kind.as_str());
    found.map_or(("", "", ""), |found| {
        (&found.status, &found.reason, &found.message)
    })
}

fn is(process: &Process, kind: ConditionType, status: &str) -> bool {
    condition(process, kind).0 == status
}

/// The state of a Process.
pub(crate) fn phase(process: &Process) -> Phase {
    let status = process.status.clone().unwrap_or_default();
    if process.metadata.deletion_timestamp.is_some() {
        let why = condition(process, ConditionType::Ready).2;
        return Phase::new(Word::Deleting, and("is being deleted", why));
    }
    match status.observed_generation {
        None => {
            return Phase::new(Word::Pending, "no operator has seen it yet");
        }
        seen if seen != process.metadata.generation => {
            return Phase::new(
                Word::Pending,
                "the operator has not seen the last change yet",
            );
        }
        _ => {}
    }
    let (reachable, _, away) = condition(process, ConditionType::TemporalReachable);
    if reachable == "False" {
        return Phase::new(Word::Disconnected, away);
    }
    if process.spec.suspend {
        return Phase::new(
            Word::Suspended,
            "spec.suspend is true: the operator does not act",
        );
    }
    let (stalled, reason, message) = condition(process, ConditionType::Stalled);
    if stalled == "True" {
        return Phase::new(Word::Failed, and(failed(reason), message));
    }
    if let Some(rollout) = &status.rollout {
        return rolling(process, &status, rollout);
    }
    let (degraded, reason, message) = condition(process, ConditionType::Degraded);
    if degraded == "True" {
        return Phase::new(Word::Degraded, and(reason, message));
    }
    if !is(process, ConditionType::Ready, "True") {
        return Phase::new(Word::RollingOut, condition(process, ConditionType::Ready).2);
    }
    if is(process, ConditionType::Progressing, "True")
        || is(process, ConditionType::Reconciling, "True")
    {
        return Phase::new(
            Word::RollingOut,
            condition(process, ConditionType::Progressing).2,
        );
    }
    Phase::new(Word::Settled, settled(&status))
}

fn settled(status: &ProcessStatus) -> String {
    let current = status.current_version.as_ref();
    let current = current.map_or("", |current| current.build_id.as_str());
    match status.draining.len() {
        0 => format!("{current} is current, nothing is under way"),
        1 => format!("{current} is current, 1 old version drains"),
        n => format!("{current} is current, {n} old versions drain"),
    }
}

/// What a reason that stands still means, in words where the reason alone says too little.
fn failed(reason: &str) -> &str {
    match reason.parse() {
        Ok(Reason::RolloutAborted) => "the rollout was aborted",
        Ok(Reason::GateFailed) => "the rollout was given up: a gate failed",
        Ok(Reason::AnalysisFailed) => "the rollout was given up: the evidence speaks against it",
        Ok(Reason::ProgressDeadlineExceeded) => "the new version did not become ready in time",
        Ok(Reason::Undone) => "an earlier version was brought back",
        _ => reason,
    }
}

fn rolling(process: &Process, status: &ProcessStatus, rollout: &RolloutStatus) -> Phase {
    let target = status.target_version.as_ref();
    let target = target.map_or("the new version", |target| target.build_id.as_str());
    let progressing = condition(process, ConditionType::Progressing);
    if is(process, ConditionType::Degraded, "True") {
        let (_, reason, message) = condition(process, ConditionType::Degraded);
        let words = format!("{target} is held: {}", and(reason, message));
        return Phase::new(Word::Held, words);
    }
    if progressing.1 == Reason::Paused.as_str() {
        let words = format!(
            "{target} is held at {} %: {}",
            rollout.weight, progressing.2
        );
        return Phase::new(Word::Paused, words);
    }
    let waits = progressing.1 == Reason::WaitingForPromotion.as_str();
    let words = match rollout.stage.as_str() {
        "Starting" => format!("{target} is started: its pods must be ready and poll"),
        "Gate" => format!("{target} has to pass its gate before it takes new workflows"),
        "WaitingForPromotion" => format!("{target} takes no new workflows until it is promoted"),
        "Weighting" => format!("{target} is given its share of new workflows"),
        "Pausing" if waits => {
            let weight = rollout.weight;
            format!("{target} takes {weight} % of new workflows until it is promoted")
        }
        "Pausing" => format!(
            "{target} takes {} % of new workflows for a while",
            rollout.weight
        ),
        "Analyzing" => format!(
            "{target} takes {} % and has to show evidence",
            rollout.weight
        ),
        "StepGate" => format!(
            "{target} takes {} % and has to pass its gate",
            rollout.weight
        ),
        "Promoting" => format!("{target} is made current"),
        "Unwinding" => format!("{target} is given up: its share is taken back"),
        other => format!("{target}: {other}"),
    };
    Phase::new(
        if waits {
            Word::Waiting
        } else {
            Word::RollingOut
        },
        words,
    )
}

fn and(first: &str, then: &str) -> String {
    match (first, then) {
        (first, "") => first.to_owned(),
        ("", then) => then.to_owned(),
        (first, then) => format!("{first}: {then}"),
    }
}
