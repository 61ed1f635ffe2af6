//! The tree of one Process.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::table::table;
use super::words::{age, ahead, bar, clock};
use super::{Line, Tone};
use crate::model::{DrainView, RolloutView, Tree, VersionState, VersionView};
use crate::phase::Word;
use crate::pods::PodView;

/// Columns of the bar that shows the weight.
const BAR: usize = 20;

/// The tree as lines. `wide` shows the workflow too, and all of the history.
pub(crate) fn tree(tree: &Tree, now: Timestamp, wide: bool) -> Vec<Line> {
    let mut lines = vec![head(tree)];
    lines.extend(facts(tree, now, wide));
    lines.push(Line::default());
    lines.extend(versions(tree, now));
    lines.extend(conditions(tree));
    lines.extend(actions(tree, now, if wide { usize::MAX } else { 5 }));
    lines.extend(unseen(tree));
    lines
}

/// The state in one line, for those who read changes one after the other.
pub(crate) fn summary(tree: &Tree) -> Line {
    let mut line = mark(tree).and(Line::plain(format!(" {}", tree.phase.words)));
    if let Some(rollout) = &tree.rollout {
        let step = format!(
            "; step {}/{}, weight {} %",
            rollout.step, rollout.steps, rollout.weight
        );
        line = line.and(Line::plain(step));
    }
    for version in &tree.versions {
        if let Some(drain) = &version.drain {
            let told = format!("; {} drains, {}", version.build_id, open(drain));
            line = line.and(Line::plain(told));
        }
    }
    line
}

/// How good a state is.
pub(crate) fn tone(word: Word) -> Tone {
    match word {
        Word::Settled => Tone::Good,
        Word::Failed | Word::Degraded | Word::Held | Word::Disconnected => Tone::Bad,
        _ => Tone::Busy,
    }
}

/// One character for a tone, for those who see no colours.
pub(crate) fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "✔",
        Tone::Bad => "✖",
        Tone::Busy => "◐",
        _ => "·",
    }
}

fn mark(tree: &Tree) -> Line {
    let tone = tone(tree.phase.word);
    Line::toned(format!("{} {:?}", sign(tone), tree.phase.word), tone)
}

fn head(tree: &Tree) -> Line {
    Line::toned(format!("{}/{}", tree.namespace, tree.name), Tone::Strong)
        .and(Line::plain("  "))
        .and(mark(tree))
        .and(Line::plain(format!("  {}", tree.phase.words)))
}

fn facts(tree: &Tree, now: Timestamp, wide: bool) -> Vec<Line> {
    let mut rows = vec![
        ("Image", Line::plain(&tree.image)),
        (
            "Task queue",
            Line::plain(format!(
                "{} in Temporal namespace {}",
                tree.task_queue, tree.temporal_namespace
            )),
        ),
    ];
    if let Some(rollout) = &tree.rollout {
        rows.push(("Rollout", weight(rollout, now)));
        if let Some((what, at)) = &rollout.next {
            let told = format!("{what} {} ({})", ahead(*at, now), clock(*at));
            rows.push(("Next", Line::plain(told)));
        }
        if !rollout.message.is_empty() {
            rows.push(("Told", Line::plain(&rollout.message)));
        }
    }
    if let Some(workflow) = tree.workflow.as_ref().filter(|_| wide) {
        let told = format!(
            "{} in Temporal namespace {}",
            workflow.id, workflow.namespace
        );
        rows.push(("Workflow", Line::plain(told)));
    }
    let rows = rows
        .into_iter()
        .map(|(name, value)| vec![Line::toned(format!("  {name}"), Tone::Dim), value]);
    table(rows.collect())
}

fn weight(rollout: &RolloutView, now: Timestamp) -> Line {
    let step = match rollout.steps {
        0 => String::new(),
        steps => format!("step {} of {steps}  ", rollout.step),
    };
    let begun = rollout
        .started
        .map(|at| format!("  begun {} ago", age(Some(at), now)));
    Line::plain(step)
        .and(Line::toned(bar(rollout.weight, BAR), Tone::Busy))
        .and(Line::plain(format!(" {} %", rollout.weight)))
        .and(Line::toned(begun.unwrap_or_default(), Tone::Dim))
}

/// The versions alone.
pub(crate) fn versions(tree: &Tree, now: Timestamp) -> Vec<Line> {
    let heading = ["VERSION", "STATE", "READY", "RESTARTS", "AGE", "TOLD"];
    let mut rows = vec![heading.map(|name| Line::toned(name, Tone::Dim)).to_vec()];
    rows.push(vec![Line::toned(&tree.name, Tone::Strong)]);
    let last = tree.versions.len().saturating_sub(1);
    for (at, version) in tree.versions.iter().enumerate() {
        let (branch, below) = branches(at == last);
        rows.push(version_row(tree, version, branch, now));
        rows.extend(deployment_rows(version, below, now));
    }
    if tree.versions.is_empty() {
        rows.push(vec![Line::toned("└─ no version yet", Tone::Dim)]);
    }
    table(rows)
}

/// How a branch begins, and how the lines below it do.
fn branches(last: bool) -> (&'static str, &'static str) {
    if last {
        ("└─ ", "   ")
    } else {
        ("├─ ", "│  ")
    }
}

fn version_row(tree: &Tree, version: &VersionView, branch: &str, now: Timestamp) -> Vec<Line> {
    let share = tree.rollout.as_ref().map_or(0, |rollout| rollout.weight);
    let (tone, state, told) = match &version.state {
        VersionState::Current if share > 0 => (
            Tone::Good,
            "Current".to_owned(),
            format!("takes {} % of new workflows", 100 - share),
        ),
        VersionState::Current => (
            Tone::Good,
            "Current".to_owned(),
            "takes new workflows".to_owned(),
        ),
        VersionState::Ramping(weight) => (
            Tone::Busy,
            format!("Ramping {weight} %"),
            format!("takes {weight} % of new workflows"),
        ),
        VersionState::Starting => (
            Tone::Busy,
            "Starting".to_owned(),
            "takes no new workflows yet".to_owned(),
        ),
        VersionState::NotRouted => (
            Tone::Bad,
            "Not routed".to_owned(),
            "takes no new workflows".to_owned(),
        ),
        VersionState::Draining => (
            Tone::Busy,
            "Draining".to_owned(),
            version
                .drain
                .as_ref()
                .map(|drain| drained(drain, now))
                .unwrap_or_default(),
        ),
        VersionState::Retiring => (Tone::Dim, "Retiring".to_owned(), "has drained".to_owned()),
        VersionState::Kept => (
            Tone::Dim,
            "Kept".to_owned(),
            "without pods, for `undo`".to_owned(),
        ),
    };
    let ready = version.deployment.as_ref();
    let ready = ready.map(|it| format!("{}/{}", it.ready, it.replicas));
    vec![
        Line::toned(branch, Tone::Dim).and(Line::toned(&version.build_id, Tone::Strong)),
        Line::toned(format!("{} {state}", sign(tone)), tone),
        Line::plain(ready.unwrap_or_default()),
        Line::default(),
        Line::plain(age(version.since, now)),
        Line::plain(told),
    ]
}

/// What holds a version, and until when.
fn drained(drain: &DrainView, now: Timestamp) -> String {
    let mut told = open(drain);
    if let Some(oldest) = drain.oldest {
        let _ = write!(told, ", the oldest {} old", age(Some(oldest), now));
    }
    match (drain.deadline, &drain.on_timeout) {
        (Some(at), Some(policy)) => {
            let _ = write!(told, "; {policy} {} ({})", ahead(at, now), clock(at));
        }
        (Some(at), None) => {
            let _ = write!(told, "; until {}", clock(at));
        }
        (None, _) => told.push_str("; waited for, without a deadline"),
    }
    told
}

fn open(drain: &DrainView) -> String {
    match drain.open_workflows {
        None => "open workflows not counted yet".into(),
        Some(1) => "1 open workflow".into(),
        Some(count) => format!("{count} open workflows"),
    }
}

fn deployment_rows(version: &VersionView, below: &str, now: Timestamp) -> Vec<Vec<Line>> {
    let mut rows = Vec::new();
    let mut indent = below.to_owned();
    if let Some(deployment) = &version.deployment {
        let (branch, deeper) = branches(true);
        rows.push(vec![
            Line::toned(format!("{below}{branch}"), Tone::Dim)
                .and(Line::plain(format!("deployment/{}", deployment.name))),
            Line::default(),
            Line::default(),
            Line::default(),
            Line::plain(age(deployment.created, now)),
        ]);
        indent.push_str(deeper);
    }
    let last = version.pods.len().saturating_sub(1);
    for (at, pod) in version.pods.iter().enumerate() {
        let (branch, _) = branches(at == last);
        rows.push(pod_row(pod, &format!("{indent}{branch}"), now));
    }
    rows
}

fn pod_row(pod: &PodView, branch: &str, now: Timestamp) -> Vec<Line> {
    let tone = match pod {
        pod if pod.broken() => Tone::Bad,
        pod if pod.ready => Tone::Good,
        _ => Tone::Busy,
    };
    vec![
        Line::toned(branch, Tone::Dim).and(Line::plain(format!("pod/{}", pod.name))),
        Line::toned(format!("{} {}", sign(tone), pod.state), tone),
        Line::plain(if pod.ready { "yes" } else { "no" }),
        Line::plain(pod.restarts.to_string()),
        Line::plain(age(pod.created, now)),
        Line::plain(&pod.message),
    ]
}

fn conditions(tree: &Tree) -> Vec<Line> {
    let mut rows: Vec<Vec<Line>> = Vec::new();
    for (at, condition) in tree.conditions.iter().enumerate() {
        // What is wrong is the message of several of them.
        let mut earlier = tree.conditions.iter().take(at);
        let said = earlier.any(|earlier| earlier.message == condition.message);
        let message = match condition.message.as_str() {
            "" => Line::default(),
            _ if said => Line::toned("(as above)", Tone::Dim),
            message => Line::plain(message),
        };
        rows.push(vec![
            Line::toned(
                format!("  {}={}", condition.kind, condition.status),
                Tone::Bad,
            ),
            Line::plain(&condition.reason),
            message,
        ]);
    }
    titled("Conditions", table(rows))
}

fn actions(tree: &Tree, now: Timestamp, most: usize) -> Vec<Line> {
    let skip = tree.history.len().saturating_sub(most);
    let mut rows: Vec<Vec<Line>> = Vec::new();
    for action in tree.history.iter().skip(skip) {
        rows.push(vec![
            Line::toned(format!("  {} ago", age(Some(action.time), now)), Tone::Dim),
            Line::plain(&action.what),
            Line::plain(&action.build_id),
            Line::plain(&action.actor),
            Line::plain(&action.reason),
        ]);
    }
    let mut lines = titled("Last actions", table(rows));
    if let Some(request) = &tree.last_request {
        let tone = if request.result == "Accepted" {
            Tone::Good
        } else {
            Tone::Bad
        };
        lines.push(Line::default());
        lines.push(
            Line::plain(format!("Last request: {} ", request.verb))
                .and(Line::toned(request.result.to_lowercase(), tone))
                .and(Line::plain(format!(
                    " {} ago: {}",
                    age(Some(request.time), now),
                    request.message
                ))),
        );
    }
    lines
}

fn titled(title: &str, rows: Vec<Line>) -> Vec<Line> {
    if rows.is_empty() {
        return rows;
    }
    let title = [Line::default(), Line::toned(title, Tone::Strong)];
    title.into_iter().chain(rows).collect()
}

fn unseen(tree: &Tree) -> Vec<Line> {
    if tree.unseen.is_empty() {
        return Vec::new();
    }
    let told = format!(
        "Not shown, for lack of the right to list them: {}",
        tree.unseen.join(", ")
    );
    vec![Line::default(), Line::toned(told, Tone::Dim)]
}

#[cfg(test)]
mod tests;
