//! How a Process goes: schedules are paused, running workflows get their time, what is left then is
//! treated as the policy says, and only after that the workers and the finalizer go.

mod said;
mod words;

use std::collections::BTreeSet;

use jiff::Timestamp;
use process_operator_crds::names;
use process_operator_crds::spec::{DeletionPolicy, Versioning};

use super::placement::placement;
use super::{Inbox, Plan, Verdict, digest, note, publish, verbs, versions};
use crate::contract::{
    Answer, CloseBy, CloseRunsInput, DeletionStage, DeletionState, DeletionView, LateStarts,
    Observation, ProcessKey, ProcessView, State, Step, after,
};

/// What the decisions look at.
pub(super) struct Scene<'a> {
    pub(super) key: &'a ProcessKey,
    pub(super) run_id: &'a str,
    pub(super) seen: &'a Observation,
    pub(super) process: &'a ProcessView,
    pub(super) now: Timestamp,
    /// Build ids that have taken workflows as far as is remembered, where what shows them may be gone.
    pub(super) remembered: Vec<String>,
}

/// A namespace on its way out takes Deployments and revisions away before anybody has looked.
pub(super) fn remembered(state: &State, process: &ProcessView, seen: &Observation) -> Vec<String> {
    let view = process.deletion.as_ref();
    if seen.settings.rules < 3 || !view.is_some_and(|view| view.namespace_terminating) {
        return Vec::new();
    }
    let current = state.current.iter().map(|current| &current.build_id);
    let rolling = state.rollout.iter().map(|rollout| &rollout.build_id);
    let all = current.chain(rolling).chain(state.drains.keys());
    all.cloned().collect()
}

/// Decides how a Process that is being deleted goes on.
pub(super) fn delete(state: &mut State, scene: &Scene<'_>, inbox: &Inbox) -> Plan {
    let mut plan = Plan {
        cancel: cancel_all(state),
        phase: "Deleting".into(),
        details: "Deleting.".into(),
        ..Plan::default()
    };
    for request in &inbox.requests {
        let refused = Answer {
            accepted: false,
            message: verbs::DELETED.into(),
            ..Answer::default()
        };
        plan.answers.push((request.id.clone(), refused));
    }
    let view = scene.process.deletion.as_ref();
    if !scene.process.finalizer {
        if view.is_some_and(|view| orphaned(scene, view)) {
            state.deletion.get_or_insert_default().untouched = true;
        }
        plan.finish = true;
        return plan;
    }
    match view {
        Some(view) => go_on(state, scene, view, &mut plan),
        None => leave_blindly(state, scene, &mut plan),
    }
    plan
}

/// What cannot be read has no policy, and one observed by an operator that had none neither.
fn leave_blindly(state: &mut State, scene: &Scene<'_>, plan: &mut Plan) {
    plan.details = "Deleting: workers are stopped, running workflows are left as they are.".into();
    let why = "running workflows are left alone";
    delete_versions(scene.seen, plan);
    note(state, plan, scene.now, "Deleting", "", why);
    let about = (scene.process, scene.seen);
    let verdict = said::verdict(state, about, &format!("; {why}"));
    conclude(state, scene, &verdict, true, plan);
}

fn go_on(state: &mut State, scene: &Scene<'_>, view: &DeletionView, plan: &mut Plan) {
    let now = scene.now;
    let policy = &view.policy;
    let known = state.deletion.is_some();
    let mut memory = state.deletion.take().unwrap_or_else(|| {
        let words = format!(
            "running workflows get {} s, then {}",
            policy.timeout_seconds,
            words::fate(policy)
        );
        note(state, plan, now, "Deleting", "", &words);
        DeletionState {
            began: Some(now),
            entered: now,
            ..DeletionState::default()
        }
    });
    let before = memory.stage;
    advance(&mut memory, scene, view);
    words::tell(state, &mut memory, before, scene, view, plan);
    let message = words::message(&memory, scene.process, view);
    state.deletion = Some(memory.clone());
    let about = (scene.process, scene.seen);
    let verdict = said::verdict(state, about, &format!(": {message}"));
    plan.details = words::details(&memory, scene, &message);
    // Once the finalizer is off, nothing but this memory tells that the workers are to be left: a
    // task that is done again after a crash would take them for abandoned.
    if memory.untouched && !known {
        plan.remember = true;
        return;
    }
    let leaving = memory.stage == DeletionStage::Leaving;
    if !leaving {
        remake(scene, view, plan);
        plan.close = Some(work(&memory, scene, view));
        plan.settled = Some(digest::of(scene.process, scene.seen));
    } else if !memory.untouched {
        delete_versions(scene.seen, plan);
    }
    conclude(state, scene, &verdict, leaving, plan);
}

/// Publishes, and lets the Process go when nothing holds it.
fn conclude(
    state: &mut State,
    scene: &Scene<'_>,
    verdict: &Verdict,
    leaving: bool,
    plan: &mut Plan,
) {
    plan.finish = leaving;
    let about = (scene.seen, scene.process);
    publish(state, scene.key, scene.run_id, about, verdict, plan);
    if leaving {
        plan.steps.push(Step::RemoveFinalizer);
    }
}

/// Moves the memory to the stage that the policy asks for as things stand.
fn advance(memory: &mut DeletionState, scene: &Scene<'_>, view: &DeletionView) {
    if memory.stage == DeletionStage::Leaving {
        return;
    }
    let wanted = match reason_to_leave(memory, scene, view) {
        Some(why) => {
            memory.why = why;
            DeletionStage::Leaving
        }
        None => stage(memory, view),
    };
    memory.untouched = orphaned(scene, view);
    // What runs on the queue of a Process that never deployed anything is somebody else's.
    let ours = scene.seen.queue_holder.is_none() && !memory.untouched && deployed(scene);
    let ended = memory.ended.as_ref();
    memory.late = ours.then(|| LateStarts {
        task_queue: scene.process.task_queue.clone(),
        queues: queues(scene),
        until: scene.now,
        terminate: view.policy.on_timeout != DeletionPolicy::Abandon
            && !view.forced
            && ended.is_none_or(|ended| ended.managed_by.is_none()),
    });
    if wanted != memory.stage {
        memory.stage = wanted;
        memory.entered = scene.now;
        if wanted != DeletionStage::Leaving {
            memory.ended = None;
        }
        memory.progress.stage = wanted;
    }
}

/// Why nothing holds the Process any more, if nothing does.
fn reason_to_leave(
    memory: &DeletionState,
    scene: &Scene<'_>,
    view: &DeletionView,
) -> Option<String> {
    if orphaned(scene, view) {
        return Some(
            "it is deleted without what belongs to it: workers and routing are left as they are"
                .into(),
        );
    }
    if view.forced {
        return Some("the annotation ameide.io/force-finalize lets it go".into());
    }
    if let Some(holder) = &scene.seen.queue_holder {
        return Some(format!("its task queue is served by Process {holder}"));
    }
    if !deployed(scene) {
        return Some("nothing is deployed".into());
    }
    let ended = memory.ended.as_ref()?;
    let left = words::left(&ended.progress);
    if ended.namespace_gone {
        let namespace = &scene.process.temporal_namespace;
        return Some(format!("Temporal namespace {namespace} does not exist"));
    }
    if ended.closed {
        return Some("no workflow is open".into());
    }
    if let Some(manager) = &ended.managed_by {
        return Some(format!(
            "{left}, since {manager:?} manages the Worker Deployment"
        ));
    }
    // The policy may have changed since the stage began.
    let abandons = view.policy.on_timeout == DeletionPolicy::Abandon;
    let helpless = memory.stage == DeletionStage::Terminating;
    (abandons || helpless).then_some(left)
}

/// The stage to be in, as long as something holds the Process.
fn stage(memory: &DeletionState, view: &DeletionView) -> DeletionStage {
    let policy = view.policy.on_timeout;
    let over = memory.stage != DeletionStage::Waiting || memory.ended.is_some();
    let timed_out = memory.stage == DeletionStage::Cancelling && memory.ended.is_some();
    match policy {
        // Told to stop ending what is open: one more look, which is over at once.
        DeletionPolicy::Abandon => DeletionStage::Waiting,
        _ if !over && !view.namespace_terminating => DeletionStage::Waiting,
        DeletionPolicy::Terminate => DeletionStage::Terminating,
        DeletionPolicy::Cancel
            if timed_out
                || view.namespace_terminating
                || memory.stage == DeletionStage::Terminating =>
        {
            DeletionStage::Terminating
        }
        DeletionPolicy::Cancel => DeletionStage::Cancelling,
    }
}

/// What the activity is to do in this stage.
fn work(memory: &DeletionState, scene: &Scene<'_>, view: &DeletionView) -> CloseRunsInput {
    let (end, until) = match memory.stage {
        DeletionStage::Waiting | DeletionStage::Leaving => (None, Some(due(view))),
        DeletionStage::Cancelling => {
            let grace = view.policy.cancel_grace_seconds;
            let until = after(memory.entered, grace.into());
            (Some(CloseBy::Cancel), Some(until))
        }
        DeletionStage::Terminating => {
            // A namespace on its way out is not held up by what cannot be ended.
            let until = view
                .namespace_terminating
                .then(|| after(memory.entered, 60));
            (Some(CloseBy::Terminate), until)
        }
    };
    CloseRunsInput {
        key: scene.key.clone(),
        temporal_namespace: scene.process.temporal_namespace.clone(),
        task_queue: scene.process.task_queue.clone(),
        queues: queues(scene),
        since: view.since,
        began: memory.began,
        // Done by the time that anything is ended, but in a hurry.
        pause_schedules: view.policy.pause_schedules
            && (end.is_none() || view.namespace_terminating),
        stage: memory.stage,
        end,
        until,
    }
}

/// Queues of the versions, where each has its own.
fn queues(scene: &Scene<'_>) -> Vec<String> {
    let process = scene.process;
    if process.versioning != Versioning::TaskQueuePerVersion {
        return Vec::new();
    }
    let versions = scene.seen.versions.keys().chain(&scene.remembered);
    let versions: BTreeSet<&String> = versions.collect();
    versions
        .into_iter()
        .map(|build_id| names::task_queue(process.versioning, &process.task_queue, build_id))
        .collect()
}

/// When the time of running workflows is over.
fn due(view: &DeletionView) -> Timestamp {
    if view.namespace_terminating {
        return view.since;
    }
    after(view.since, view.policy.timeout_seconds.into())
}

/// Deleted with `--cascade=orphan`. Kubernetes takes the owner references off first, its finalizer
/// then, and may have done both by now.
fn orphaned(scene: &Scene<'_>, view: &DeletionView) -> bool {
    let mut deployments = scene
        .seen
        .versions
        .values()
        .filter_map(|version| version.deployment.as_ref())
        .peekable();
    view.orphan || deployments.peek().is_some() && deployments.all(|it| it.orphaned)
}

/// Something of this Process serves or has served.
fn deployed(scene: &Scene<'_>) -> bool {
    let there = scene.seen.versions.values().any(|version| {
        version.revision
            || version
                .deployment
                .as_ref()
                .is_some_and(|deployment| !deployment.foreign)
    });
    there || !scene.remembered.is_empty()
}

/// Workers that are still needed and were lost are made again, and get their pods back when they have none.
fn remake(scene: &Scene<'_>, view: &DeletionView, plan: &mut Plan) {
    if view.namespace_terminating {
        return;
    }
    for (build_id, version) in &scene.seen.versions {
        let lost = version.deployment.is_none() || version.needed;
        if version.revision && version.retired.is_none() && lost {
            let (process, routing) = (scene.process, &scene.seen.routing);
            let place = placement(process, &scene.key.name, routing, build_id, &version.name);
            plan.steps.extend(
                place.map(|place| versions::apply(build_id, &version.name, Some(version), place)),
            );
        }
    }
}

fn delete_versions(seen: &Observation, plan: &mut Plan) {
    for version in seen.versions.values() {
        let ours = version
            .deployment
            .as_ref()
            .filter(|deployment| !deployment.foreign);
        if ours.is_some() || version.revision {
            let uid = ours.map(|deployment| deployment.uid.clone());
            // First what a Deployment could be made again from.
            let names = [version.name.clone()].into_iter();
            for name in names.chain(version.workload.clone()) {
                let uid = uid.clone().filter(|_| name == version.deployment_name());
                plan.steps.push(Step::DeleteVersion { name, uid });
            }
        }
    }
    versions::delete_strays(seen, plan);
}

fn cancel_all(state: &mut State) -> Vec<String> {
    let rollout = state.rollout.take().filter(|rollout| !rollout.cancelled);
    let drains = std::mem::take(&mut state.drains);
    rollout
        .map(|rollout| rollout.id)
        .into_iter()
        .chain(
            drains
                .into_values()
                .filter(|drain| !drain.cancelled)
                .map(|drain| drain.id),
        )
        .collect()
}

/// Everything that a Process which is gone leaves behind in the memory.
pub(super) fn gone(state: &mut State) -> Plan {
    // There is nothing that an Event could be about.
    state.untold.clear();
    Plan {
        finish: true,
        cancel: cancel_all(state),
        phase: "Deleted".into(),
        details: "The Process is gone; cleaning the server's records.".into(),
        ..Plan::default()
    }
}

/// What is said of a Process that is being deleted when a step failed.
pub(super) fn failing(state: &State, process: &ProcessView, seen: &Observation) -> Verdict {
    let now = match (&state.deletion, &process.deletion) {
        (Some(memory), Some(view)) => words::message(memory, process, view),
        _ => "stopping workers".into(),
    };
    let trouble = state
        .trouble
        .as_ref()
        .map(|(failure, _)| format!("; {}", failure.message))
        .unwrap_or_default();
    said::verdict(state, (process, seen), &format!(": {now}{trouble}"))
}
