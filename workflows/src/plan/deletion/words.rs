//! What is said of a deletion: to conditions, Events and the Temporal UI.

use process_operator_crds::spec::{Deletion, DeletionPolicy};

use super::super::{Plan, note};
use super::{Scene, due};
use crate::contract::{
    DeletionProgress, DeletionStage, DeletionState, DeletionView, ProcessView, State, after,
    open_on,
};

/// What becomes of workflows that are open when their time is over.
pub(super) fn fate(policy: &Deletion) -> String {
    match policy.on_timeout {
        DeletionPolicy::Abandon => "they are left as they are".into(),
        DeletionPolicy::Cancel => format!(
            "they are asked to cancel, and terminated after {} s",
            policy.cancel_grace_seconds
        ),
        DeletionPolicy::Terminate => "they are terminated".into(),
    }
}

/// `n running workflows`, by number.
fn workflows(count: u64) -> String {
    if count == 1 {
        "1 running workflow".into()
    } else {
        format!("{count} running workflows")
    }
}

pub(super) fn left(progress: &DeletionProgress) -> String {
    match progress.open {
        Some(open) => format!("{} left open", workflows(open)),
        None => "running workflows are left as they are".into(),
    }
}

fn named(progress: &DeletionProgress) -> String {
    let Some(first) = progress.sample.first() else {
        return String::new();
    };
    let more = progress.open.unwrap_or_default() > 1;
    let among = if more { "among them " } else { "" };
    format!(" ({among}{first})")
}

/// Tells history and Events what is new.
pub(super) fn tell(
    state: &mut State,
    memory: &mut DeletionState,
    before: DeletionStage,
    scene: &Scene<'_>,
    view: &DeletionView,
    plan: &mut Plan,
) {
    let now = scene.now;
    let progress = memory
        .ended
        .as_ref()
        .map_or(&memory.progress, |ended| &ended.progress)
        .clone();
    let known = std::mem::replace(&mut memory.noted, progress.clone());
    let mut say = |what: &str, reason: &str| note(state, plan, now, what, "", reason);
    if progress.paused.len() > known.paused.len() {
        say(
            "SchedulesPaused",
            &format!(
                "{} that start workflows on {}: {}",
                progress.paused.len(),
                scene.process.task_queue,
                progress.paused.join(", ")
            ),
        );
    }
    if let Some(trouble) = &progress.trouble
        && known.trouble.is_none()
    {
        say("DeletionHeld", &trouble.message);
    }
    let (open, first) = (progress.open.unwrap_or_default(), known.open.is_none());
    let waits = memory.stage == DeletionStage::Waiting;
    if open > 0 && first && waits && !view.namespace_terminating {
        say(
            "WaitingForWorkflows",
            &format!(
                "{}{} get until {:.0}",
                workflows(open),
                named(&progress),
                due(view)
            ),
        );
    }
    if progress.late > 0 && known.late == 0 {
        let late = progress.late;
        say(
            "LateStarts",
            &format!("{} started after the deletion began", workflows(late)),
        );
    }
    if before == memory.stage {
        return;
    }
    let open = format!("{}{}", workflows(open), named(&progress));
    match memory.stage {
        DeletionStage::Waiting => {}
        DeletionStage::Cancelling => say("CancellingWorkflows", &open),
        DeletionStage::Terminating => say("TerminatingWorkflows", &open),
        DeletionStage::Leaving => {
            let acted = match (before, progress.acted) {
                (_, 0) | (DeletionStage::Waiting | DeletionStage::Leaving, _) => String::new(),
                (DeletionStage::Cancelling, n) => format!("; {n} were asked to cancel"),
                (DeletionStage::Terminating, n) => format!("; {n} were terminated"),
            };
            let why = format!("{}{acted}", memory.why);
            let what = if memory.untouched {
                "Orphaned"
            } else {
                "StoppingWorkers"
            };
            say(what, &why);
        }
    }
}

/// Where it stands, for conditions.
pub(super) fn message(
    memory: &DeletionState,
    process: &ProcessView,
    view: &DeletionView,
) -> String {
    let progress = &memory.progress;
    let mut text = match (memory.stage, progress.open) {
        (DeletionStage::Waiting, None) => {
            let pausing = if view.policy.pause_schedules {
                "pausing schedules, "
            } else {
                ""
            };
            format!(
                "{pausing}looking for running workflows on {}",
                process.task_queue
            )
        }
        (DeletionStage::Waiting, Some(open)) => format!(
            "waiting for {} until {:.0}, then {}",
            workflows(open),
            due(view),
            fate(&view.policy)
        ),
        (DeletionStage::Cancelling, open) => {
            let until = after(memory.entered, view.policy.cancel_grace_seconds.into());
            format!(
                "asking {} to cancel, terminating what is open at {until:.0}",
                workflows(open.unwrap_or_default())
            )
        }
        (DeletionStage::Terminating, open) => {
            format!("terminating {}", workflows(open.unwrap_or_default()))
        }
        (DeletionStage::Leaving, _) => format!("stopping workers, {}", memory.why),
    };
    if progress.late > 0 && memory.stage != DeletionStage::Leaving {
        text = format!("{text}; {} started since the deletion began", progress.late);
    }
    if let Some(trouble) = progress
        .trouble
        .as_ref()
        .filter(|_| memory.stage != DeletionStage::Leaving)
    {
        text = format!(
            "{text}; {}; the annotation ameide.io/force-finalize: \"true\" lets it go",
            trouble.message
        );
    }
    text
}

/// Text for the Temporal UI.
pub(super) fn details(memory: &DeletionState, scene: &Scene<'_>, message: &str) -> String {
    let process = scene.process;
    let progress = &memory.progress;
    let mut text = format!("**Deleting**: {message}.\n");
    if progress.open.unwrap_or_default() > 0 {
        let more = super::queues(scene);
        let queues: Vec<&str> = std::iter::once(&process.task_queue)
            .chain(&more)
            .map(String::as_str)
            .collect();
        text = format!(
            "{text}\nTo list them, in Temporal namespace `{}`: `{}`\n",
            process.temporal_namespace,
            open_on(&queues, &[&scene.key.worker_deployment()])
        );
    }
    if let Some(oldest) = progress.oldest {
        text = format!("{text}\nThe oldest was started at {oldest:.0}.\n");
    }
    for id in &progress.sample {
        text = format!("{text}\n* `{id}`");
    }
    if !progress.paused.is_empty() {
        text = format!(
            "{text}\n\nSchedules paused: {}.",
            progress.paused.join(", ")
        );
    }
    text
}
