//! What the conditions say.

use process_operator_crds::conditions::NewCondition;
use process_operator_crds::{ConditionType, ErrorCategory, Reason};

use super::aspects::{
    away, definition, dependencies, drained, lacking, mutable_tag, temporal, under_way,
    unrefreshed, waits_for_workers,
};
use super::status::oldest_first;
use super::verbs::given_up;
use super::{Block, unreadable, workers};
use crate::contract::{DeploymentView, Observation, ProcessView, Rollout, State, StepFailure};

/// All conditions, and one word for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In the order they are published.
    pub conditions: Vec<NewCondition>,
    /// For the search attribute.
    pub phase: &'static str,
}

/// The generation is filled in with the status.
pub(super) fn condition(
    kind: ConditionType,
    status: bool,
    reason: Reason,
    message: impl Into<String>,
) -> NewCondition {
    NewCondition::new(kind, status, reason, message, 0)
}

/// What is wrong beyond a block, if something is.
fn fault(state: &State, block: Option<&Block>) -> Option<(Reason, String)> {
    if let Some(block) = block.filter(|block| block.reason != Reason::Suspended) {
        return Some((block.reason, block.message.clone()));
    }
    if let Some((failure, _)) = &state.trouble {
        return Some((failure.category.reason(), failure.message.clone()));
    }
    if let Some(failed) = &state.failed {
        return Some((failed.category.reason(), failed.message.clone()));
    }
    let undone = state.undone.as_ref()?;
    Some((Reason::Undone, undone.to_string()))
}

/// It cannot begin: what fails comes before its Deployment.
fn held_up(state: &State, process: &ProcessView, seen: &Observation, rollout: &Rollout) -> bool {
    state.trouble.is_some()
        && rollout.progress.is_none()
        && !state.applied.contains_key(&process.deployment_name)
        && deployment_of(seen, &rollout.build_id).is_none()
}

pub(super) fn deployment_of<'a>(
    seen: &'a Observation,
    build_id: &str,
) -> Option<&'a DeploymentView> {
    seen.versions
        .get(build_id)
        .and_then(|version| version.deployment.as_ref())
        .filter(|deployment| !deployment.foreign)
}

/// What the conditions are derived from.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact"
)]
struct Facts<'a> {
    state: &'a State,
    /// Build id that new executions go to.
    current: Option<&'a str>,
    /// The rollout in flight.
    rolling: Option<&'a Rollout>,
    /// What is wrong.
    fault: Option<(Reason, String)>,
    /// What is wrong passes by itself.
    retryable: bool,
    suspended: bool,
    workers_ready: bool,
    any_ready: bool,
    /// Something is wrong with pods of the version that serves.
    ailing: bool,
    pods: String,
    settled: bool,
    /// A rollout is to begin, and nothing stands against it.
    awaited: bool,
    /// What of the dependencies is not ready, or why the definition may be out of date.
    lacking: Option<(Reason, String)>,
    /// Why the Temporal namespace cannot be worked in.
    away: Option<(Reason, String)>,
    /// Why the rollout waits, though nothing stands against it.
    rest: Option<&'a str>,
}

impl<'a> Facts<'a> {
    fn gather(
        state: &'a State,
        process: &ProcessView,
        seen: &Observation,
        block: Option<&Block>,
    ) -> Self {
        let current = state
            .current
            .as_ref()
            .map(|current| current.build_id.as_str());
        let target = state.target.as_ref().map(|(target, _)| target.as_str());
        let pods = current
            .or(target)
            .and_then(|build_id| deployment_of(seen, build_id));
        let passing = state
            .trouble
            .as_ref()
            .is_some_and(|(failure, _)| failure.category.retryable());
        let fault = fault(state, block);
        let settled = current == Some(process.build_id.as_str());
        Self {
            state,
            current,
            rolling: state
                .rollout
                .as_ref()
                .filter(|rollout| !rollout.cancelled && !held_up(state, process, seen, rollout)),
            retryable: match block {
                // Whoever looks after the dependency is at work, the registry is asked again, and a right
                // that comes back is found out.
                Some(block) => {
                    matches!(
                        block.reason,
                        Reason::DependencyNotReady
                            | Reason::DefinitionPending
                            | Reason::RegistryUnavailable
                    ) || unreadable(process).is_some()
                }
                None => fault.is_some() && passing,
            },
            // Older rules took that for settled.
            awaited: seen.settings.rules > 1 && fault.is_none() && block.is_none() && !settled,
            fault,
            suspended: block.is_some_and(|block| block.reason == Reason::Suspended),
            workers_ready: pods.is_some_and(|pods| pods.available),
            any_ready: pods.is_some_and(|pods| pods.ready_replicas > 0 || pods.replicas == 0),
            ailing: current.is_some() && pods.is_some_and(|pods| !pods.trouble.is_empty()),
            pods: pods.map_or_else(|| "no worker Deployment yet".to_owned(), workers::in_words),
            settled,
            lacking: lacking(process)
                .map(|lacking| (Reason::DependencyNotReady, lacking))
                .or_else(|| unrefreshed(process)),
            away: away(seen),
            rest: None,
        }
    }

    fn lost(&self) -> bool {
        self.current.is_some() && !self.any_ready
    }

    fn stalled(&self) -> bool {
        self.fault.is_some() && !self.retryable
    }

    fn reconciling(&self) -> bool {
        let waiting = self.current.is_none() && !self.stalled() && !self.suspended;
        self.rolling.is_some() || self.lost() || self.retryable || waiting || self.awaited
    }

    fn ready(&self) -> NewCondition {
        let (status, reason, message) = match (self.current, &self.fault) {
            (Some(build_id), _) if self.any_ready => {
                let reason = if self.rolling.is_some() {
                    Reason::RollingOut
                } else {
                    Reason::Settled
                };
                (
                    true,
                    reason,
                    format!("{build_id} is current, {}", self.pods),
                )
            }
            (Some(build_id), _) => {
                let message = format!("{build_id} is current, but {}", self.pods);
                (false, Reason::WorkersUnavailable, message)
            }
            (None, Some((reason, message))) => (false, *reason, message.clone()),
            (None, None) if self.suspended => (
                false,
                Reason::Suspended,
                "no version is current; spec.suspend is true".to_owned(),
            ),
            (None, None) => {
                let waits = self.rolling.and_then(waits_for_workers);
                let (reason, why) = match waits {
                    Some(why) => (Reason::WaitingForWorkers, format!(": {why}")),
                    None => (Reason::RollingOut, String::new()),
                };
                let message = format!("no version is current yet; {}{why}", self.pods);
                (false, reason, message)
            }
        };
        condition(ConditionType::Ready, status, reason, message)
    }

    /// What speaks against the rollout, while it is held for somebody to decide.
    fn hold(&self) -> Option<&StepFailure> {
        self.rolling?.progress.as_ref()?.hold.as_ref()
    }

    /// Why the target version was given up, if it was.
    fn given_up(&self) -> Option<&str> {
        let failed = self.state.failed.as_ref()?;
        given_up(self.state, &failed.build_id).then_some(failed.message.as_str())
    }

    fn progressing(&self) -> NewCondition {
        let (status, reason, message) = match (self.rolling, &self.fault) {
            (Some(_), _) | (None, None) if self.suspended => {
                (false, Reason::Suspended, "spec.suspend is true".to_owned())
            }
            (Some(rollout), _) => {
                let (reason, message) = under_way(rollout);
                (true, reason, message)
            }
            (None, Some((reason, message))) => match self.given_up() {
                // Whatever else is wrong: Degraded tells that.
                Some(why) => (false, Reason::RolloutAborted, why.to_owned()),
                None => (self.retryable, *reason, message.clone()),
            },
            (None, None) if self.settled => (
                false,
                Reason::Settled,
                "the spec's version is current".to_owned(),
            ),
            (None, None) => (
                true,
                Reason::RollingOut,
                self.rest
                    .unwrap_or("waiting for the rollout to begin")
                    .to_owned(),
            ),
        };
        condition(ConditionType::Progressing, status, reason, message)
    }

    fn degraded(&self) -> NewCondition {
        let hold = self
            .hold()
            .map(|hold| (hold.category.reason(), hold.message.clone()));
        let wrong = self.fault.as_ref().or(hold.as_ref());
        match wrong.or(self.away.as_ref()) {
            Some((reason, message)) => {
                condition(ConditionType::Degraded, true, *reason, message.clone())
            }
            None if self.lost() || self.ailing => condition(
                ConditionType::Degraded,
                true,
                Reason::WorkersUnavailable,
                self.pods.clone(),
            ),
            None => match &self.lacking {
                Some((reason, message)) => {
                    condition(ConditionType::Degraded, true, *reason, message.clone())
                }
                None => condition(ConditionType::Degraded, false, Reason::AsExpected, ""),
            },
        }
    }

    fn workers(&self) -> NewCondition {
        let reason = if self.workers_ready {
            Reason::WorkersReady
        } else {
            Reason::WorkersUnavailable
        };
        condition(
            ConditionType::WorkersReady,
            self.workers_ready,
            reason,
            self.pods.clone(),
        )
    }

    fn draining(&self) -> NewCondition {
        let versions: Vec<String> = oldest_first(self.state)
            .into_iter()
            .map(|(build_id, drain)| drained(build_id, drain))
            .collect();
        let reason = if versions.is_empty() {
            Reason::NothingDraining
        } else {
            Reason::DrainingVersions
        };
        condition(
            ConditionType::Draining,
            !versions.is_empty(),
            reason,
            versions.join(", "),
        )
    }

    fn phase(&self) -> &'static str {
        if self.suspended {
            "Suspended"
        } else if self.fault.is_some()
            || self.hold().is_some()
            || self.lost()
            || self.ailing
            || self.lacking.is_some()
        {
            "Degraded"
        } else if self.rolling.is_some() || self.current.is_none() {
            "RollingOut"
        } else if oldest_first(self.state).is_empty() {
            "Ready"
        } else {
            "Draining"
        }
    }
}

/// Derives the conditions. A running version is never called unready because a newer one has
/// trouble; `Stalled` means that a person has to act. `rest` is why the rollout waits for a spec that rests.
pub(super) fn verdict(
    state: &State,
    process: &ProcessView,
    seen: &Observation,
    block: Option<&Block>,
    rest: Option<&str>,
) -> Verdict {
    let facts = Facts {
        rest,
        ..Facts::gather(state, process, seen, block)
    };
    let progressing = facts.progressing();
    let reconciling = if facts.reconciling() {
        condition(
            ConditionType::Reconciling,
            true,
            progressing.reason,
            progressing.message.clone(),
        )
    } else {
        condition(ConditionType::Reconciling, false, Reason::AsExpected, "")
    };
    let stalled = match facts.fault.as_ref().filter(|_| facts.stalled()) {
        Some((reason, message)) => {
            condition(ConditionType::Stalled, true, *reason, message.clone())
        }
        None => condition(ConditionType::Stalled, false, Reason::AsExpected, ""),
    };
    Verdict {
        conditions: vec![
            facts.ready(),
            progressing,
            facts.degraded(),
            facts.workers(),
            definition(process),
            dependencies(process),
            mutable_tag(process),
            temporal(seen),
            facts.draining(),
            reconciling,
            stalled,
        ],
        phase: facts.phase(),
    }
}

/// The category of a child's report, as it was written by [`ErrorCategory::metric_label`].
pub(crate) fn category_of(label: &str) -> ErrorCategory {
    use strum::IntoEnumIterator as _;
    ErrorCategory::iter()
        .find(|category| category.metric_label() == label)
        .unwrap_or(ErrorCategory::Internal)
}
