//! The decisions of the operator, as pure functions: what is remembered and what is seen go in,
//! what to do comes out. Nothing here waits, calls or looks at a clock.

mod aspects;
mod block;
mod conditions;
mod cron_jobs;
mod deletion;
pub(crate) mod details;
mod digest;
pub mod draining;
#[cfg(test)]
mod draining_tests;
mod drains;
mod events;
pub mod machine;
#[cfg(test)]
mod machine_tests;
mod notes;
mod pace;
mod placement;
mod reports;
mod rollouts;
mod status;
mod step;
#[cfg(test)]
mod tests;
mod verbs;
mod versions;
mod workers;

use jiff::Timestamp;
use process_operator_crds::Reason;
use process_operator_crds::spec::Versioning;

use crate::contract::{
    Answer, ChildFinished, CloseRunsInput, DrainPolicy, DrainTold, Observation, ProcessKey,
    ProcessView, Request, RolloutOrder, Standing, State, Step, StepFailure, VerbArgs,
};
pub use block::Block;
use block::{block, unreadable};
pub use conditions::Verdict;
pub(crate) use conditions::category_of;
pub use digest::{DeploymentMark, cron_job_mark, digest, fingerprint};
use notes::{note, note_by};
pub use placement::{Placement, placement};
pub(crate) use step::after_step;
pub use verbs::check;
pub use versions::Role;

/// What has arrived since the last decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inbox {
    /// Of children that ended.
    pub reports: Vec<ChildFinished>,
    /// Of drains under way.
    pub drained: Vec<DrainTold>,
    /// Of people, by update or signal.
    pub requests: Vec<Request>,
    /// Why signals could not be understood.
    pub refused: Vec<String>,
}

/// What to do after one look at the world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Writes to Kubernetes, in order.
    pub steps: Vec<Step>,
    /// Children to start.
    pub start: Vec<Child>,
    /// Workflow ids of children to cancel.
    pub cancel: Vec<String>,
    /// Orders to rollouts, by workflow id.
    pub orders: Vec<(String, RolloutOrder)>,
    /// Orders to drains, by workflow id.
    pub drains: Vec<(String, DrainOrder)>,
    /// What became of the requests, in their order.
    pub answers: Vec<(String, Answer)>,
    /// The work of a deletion that is to go on, or to begin in place of another.
    pub close: Option<CloseRunsInput>,
    /// The Process is gone or about to be: clean the server's records and finish.
    pub finish: bool,
    /// What was decided has to be in the history before the next decision is carried out.
    pub remember: bool,
    /// Nothing else is decided until there is more to see than a new Process.
    pub first: bool,
    /// Nothing is under way or wrong: the digest may be written to the memo.
    pub settled: Option<String>,
    /// Look again after a back-off: nobody will tell when this is over.
    pub again: Option<StepFailure>,
    /// Look again when the spec has rested.
    pub rest: Option<StepFailure>,
    /// Hash of the status, when it is published with this plan.
    pub status: Option<String>,
    /// One word for the Temporal UI.
    pub phase: String,
    /// Text for the Temporal UI.
    pub details: String,
}

impl Plan {
    /// Nothing is done with it but to tell what is known.
    pub(crate) fn tells_only(&self) -> bool {
        let told = |step: &Step| matches!(step, Step::PublishStatus { .. } | Step::Event { .. });
        let nobody = self.orders.is_empty() && self.drains.is_empty() && self.cancel.is_empty();
        self.steps.iter().all(told)
            && nobody
            && self.start.is_empty()
            && self.close.is_none()
            && self.again.is_none()
            && self.rest.is_none()
            && !(self.finish || self.remember || self.first)
    }
}

/// An order to a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainOrder {
    /// How the version is to end.
    Policy(DrainPolicy),
    /// End what holds it.
    Force(VerbArgs),
}

/// A child workflow to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Child {
    /// Bring a version live.
    Rollout {
        /// Workflow id.
        id: String,
        /// Version.
        build_id: String,
        /// Its Deployment.
        deployment_name: String,
        /// When to give up.
        deadline: Timestamp,
        /// The version that serves; empty when none does.
        stable: String,
        /// Without steps and gates.
        at_once: bool,
        /// Routing is taken back from whoever manages it.
        take_over: bool,
    },
    /// Retire a version.
    Drain {
        /// Workflow id.
        id: String,
        /// Version.
        build_id: String,
        /// Its Deployment.
        deployment_name: String,
        /// When it lost its traffic.
        since: Timestamp,
    },
}

impl Child {
    /// Its workflow id.
    pub fn id(&self) -> &str {
        match self {
            Self::Rollout { id, .. } | Self::Drain { id, .. } => id,
        }
    }
}

/// Decides what to do. `state` is updated with what was decided, so that the next decision builds on it.
pub fn plan(
    state: &mut State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    inbox: &Inbox,
    now: Timestamp,
) -> Plan {
    let mut plan = decide(state, key, run_id, seen, inbox, now);
    events::refused(&inbox.refused, &mut plan);
    for step in &mut plan.steps {
        if let Step::Event { id, .. } = step {
            *id = state.event_id(&key.uid, run_id, id);
        }
    }
    events::owe(state, &mut plan);
    plan
}

fn decide(
    state: &mut State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    inbox: &Inbox,
    now: Timestamp,
) -> Plan {
    let Some(process) = &seen.process else {
        return deletion::gone(state);
    };
    if !process.temporal_namespace.is_empty() {
        state
            .temporal_namespace
            .clone_from(&process.temporal_namespace);
    }
    // What this run has published itself, in a task that is now repeated, it will tell again.
    if !state.adopted && seen.history.0 != run_id {
        state.history.clone_from(&seen.history.1);
        state.last_request.clone_from(&seen.last_request);
        state.handled = seen
            .last_request
            .iter()
            .map(|last| last.id.clone())
            .collect();
        state.failed.clone_from(&seen.decided.failed);
        state.undone.clone_from(&seen.decided.undone);
    }
    versions::adopt(state, key, seen, now);
    if process.deleting {
        let scene = deletion::Scene {
            key,
            run_id,
            seen,
            process,
            now,
            remembered: deletion::remembered(state, process, seen),
        };
        return deletion::delete(state, &scene, inbox);
    }
    let mut plan = Plan::default();
    let moved = versions::follow_routing(state, seen, now);
    for told in &inbox.drained {
        drains::told(state, told, now, &mut plan);
    }
    rollouts::progressed(state, now, &mut plan);
    if moved {
        rollouts::became_current(state, now, &mut plan);
    }
    for report in &inbox.reports {
        reports::absorb(state, seen, report, now, &mut plan);
    }
    state.standing = Standing {
        suspended: process.suspend,
        paused: process.paused,
        manager: seen.routing.foreign_manager.clone(),
        own_queues: process.versioning == Versioning::TaskQueuePerVersion,
        rules: seen.settings.rules,
    };
    let scene = verbs::Scene {
        key,
        process,
        seen,
        now,
    };
    for request in &inbox.requests {
        let answer = verbs::handle(state, &scene, request, &mut plan);
        plan.answers.push((request.id.clone(), answer));
    }
    verbs::annotation(state, &scene, &mut plan);
    verbs::keep_restarting(state, &scene, &mut plan);
    let process = &in_place(state, process, seen);
    let block = blocked(state, process, seen);
    if block.is_none() {
        plan.rest = pace::hold_back(state, process, seen, now);
    }
    // Waits as if something stood against it, without anything being wrong.
    let block = block.or_else(|| {
        plan.rest.as_ref().map(|rest| Block {
            reason: rest.category.reason(),
            message: rest.message.clone(),
        })
    });
    if state
        .target
        .as_ref()
        .is_none_or(|(build, _)| *build != process.build_id)
        && block.is_none()
    {
        state.target = Some((process.build_id.clone(), now));
    }
    let roles = versions::roles(state, process, seen, block.is_some());
    if !process.suspend && seen.invalid.is_none() {
        versions::restore(state, key, process, seen, &roles, &mut plan);
    }
    rollouts::roll_out(state, key, process, seen, block.as_ref(), now, &mut plan);
    versions::retire(state, key, process, seen, &roles, now, &mut plan);
    drains::tell_policy(state, process, &mut plan);
    if !process.suspend && seen.invalid.is_none() {
        cron_jobs::keep(state, seen, &mut plan);
    }
    plan.again = unreadable(process);
    workers::tell(state, seen, &mut plan);
    // What was to take over may have come to nothing: then it stands in the way as before.
    let block = blocked(state, process, seen);
    let rest = plan.rest.as_ref().map(|rest| rest.message.as_str());
    let verdict = conditions::verdict(state, process, seen, block.as_ref(), rest);
    finish_plan(state, key, run_id, seen, process, &verdict, &mut plan);
    block::tell(state, process, block.as_ref(), &mut plan);
    plan
}

/// The Process with an earlier version in place of the spec's, as long as a request keeps it there.
fn in_place(state: &mut State, process: &ProcessView, seen: &Observation) -> ProcessView {
    let brought_back = brought_back(state, process, seen);
    if brought_back.is_none() {
        state.undone = None;
    }
    brought_back.unwrap_or_else(|| process.clone())
}

fn brought_back(state: &State, process: &ProcessView, seen: &Observation) -> Option<ProcessView> {
    let undone = state.undone.as_ref()?;
    let version = seen
        .versions
        .get(&undone.to)
        .filter(|version| version.revision && undone.from == process.build_id)?;
    Some(ProcessView {
        build_id: undone.to.clone(),
        deployment_name: version.name.clone(),
        image: version.image.clone(),
        ..process.clone()
    })
}

/// What keeps the spec from being acted on. Who else manages the Worker Deployment does not stand in the way
/// of what takes over from him.
fn blocked(state: &State, process: &ProcessView, seen: &Observation) -> Option<Block> {
    let relieved = rollouts::takes_over(state, process);
    block(state, process, seen)
        .filter(|block| !(relieved && block.reason == Reason::DeploymentOwnedElsewhere))
}

/// Adds status and what the Temporal UI shows.
fn finish_plan(
    state: &mut State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    process: &ProcessView,
    verdict: &Verdict,
    plan: &mut Plan,
) {
    let applies = plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::ApplyVersion { .. } | Step::ApplyCronJob { .. }));
    if applies && !process.finalizer {
        // Before the first effect outside, so that a deletion always comes past us.
        plan.steps.insert(0, Step::EnsureFinalizer);
    }
    if seen.first {
        plan.first = true;
        return;
    }
    publish(state, key, run_id, (seen, process), verdict, plan);
    plan.phase = verdict.phase.into();
    plan.details = details::details(state, process, seen, verdict);
    let quiet = state.rollout.is_none()
        && plan.start.is_empty()
        && plan.rest.is_none()
        && !applies
        && state.trouble.is_none();
    plan.settled = quiet.then(|| digest::of(process, seen));
}

/// Adds the status, when it says something new, and puts Events after it.
fn publish(
    state: &State,
    key: &ProcessKey,
    run_id: &str,
    (seen, process): (&Observation, &ProcessView),
    verdict: &Verdict,
    plan: &mut Plan,
) {
    let status = status::status(state, key, run_id, seen, process, verdict);
    // Status before Events: what a person waits for comes first.
    let events = plan
        .steps
        .extract_if(.., |step| matches!(step, Step::Event { .. }))
        .collect::<Vec<_>>();
    let hash = digest::fnv1a(&serde_json::to_string(&status).unwrap_or_default());
    // Nothing is even tried when the last publication said the same and nobody has changed it since.
    if state.published.as_ref() != Some(&(hash.clone(), seen.status.clone())) {
        plan.status = Some(hash);
        plan.steps.push(Step::PublishStatus {
            status: Box::new(status),
        });
    }
    plan.steps.extend(events);
}

/// The status to publish when a step failed, with [`State::trouble`] in it.
pub fn failing_status(
    state: &State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
) -> Option<Step> {
    let process = seen.process.as_ref()?;
    if process.deleting {
        let verdict = deletion::failing(state, process, seen);
        return Some(publication(state, key, run_id, seen, process, &verdict));
    }
    let brought_back = brought_back(state, process, seen);
    let process = brought_back.as_ref().unwrap_or(process);
    let block = blocked(state, process, seen);
    let verdict = conditions::verdict(state, process, seen, block.as_ref(), None);
    Some(publication(state, key, run_id, seen, process, &verdict))
}

fn publication(
    state: &State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    process: &ProcessView,
    verdict: &Verdict,
) -> Step {
    Step::PublishStatus {
        status: Box::new(status::status(state, key, run_id, seen, process, verdict)),
    }
}
