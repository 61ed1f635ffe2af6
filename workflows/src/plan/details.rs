//! What the Temporal UI shows as current details.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use process_operator_crds::ConditionType;

use super::Verdict;
use super::conditions::deployment_of;
use super::status::drained;
use super::versions::share;
use crate::contract::{DrainStage, Observation, ProcessView, Stage, State};

/// Ends a cell of a table, whose columns the UI would draw without a space between them: it does not break, and is
/// not taken for the space that Markdown cuts off.
pub(crate) const GAP: &str = "\u{a0}\u{a0}";

/// Markdown for the Temporal UI's current details.
pub(super) fn details(
    state: &State,
    process: &ProcessView,
    seen: &Observation,
    verdict: &Verdict,
) -> String {
    let mut text = format!("**{}**\n\n", heading(verdict.phase));
    let shown = [
        ConditionType::Ready,
        ConditionType::Progressing,
        ConditionType::Degraded,
    ];
    for found in verdict
        .conditions
        .iter()
        .filter(|condition| shown.contains(&condition.type_))
    {
        let holds = found.status == true.into();
        // What is not wrong needs no line.
        if holds || found.type_ != ConditionType::Degraded {
            let status = if holds { "yes" } else { "no" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "* {}: {status}, {}",
                found.type_,
                without_fractions(&found.message)
            );
        }
    }
    let _ = writeln!(
        text,
        "\n| version{GAP} | role{GAP} | new workflows{GAP} | ready pods{GAP} | open{GAP} | until{GAP} \
         | in Temporal{GAP} | image |\n|---|---|---|---|---|---|---|---|"
    );
    let names: BTreeSet<&String> = seen
        .versions
        .keys()
        .chain(seen.routing.versions.keys())
        .collect();
    for build_id in names {
        text.push_str(&row(state, process, seen, build_id));
    }
    text
}

/// A line of the table: what is known of one version. Nobody is asked for it.
fn row(state: &State, process: &ProcessView, seen: &Observation, build_id: &str) -> String {
    let or_none = |known: Option<String>| known.unwrap_or_else(|| "-".to_owned());
    let share = share(&seen.routing, build_id).map(|percent| format!("{percent} %"));
    let pods = deployment_of(seen, build_id)
        .map(|pods| format!("{} of {}", pods.ready_replicas, pods.replicas));
    let (open, until) = held(state, build_id);
    let server = seen.routing.versions.get(build_id);
    let version = seen.versions.get(build_id);
    format!(
        "| `{build_id}`{GAP} | {}{GAP} | {}{GAP} | {}{GAP} | {}{GAP} | {}{GAP} | {}{GAP} | {} |\n",
        role(state, process, build_id),
        or_none(share),
        or_none(pods),
        or_none(open.map(|open| open.to_string())),
        or_none(until.map(|until| format!("{until:.0}"))),
        or_none(server.map(|state| format!("{state:?}"))),
        version.map_or("-", |version| version.image.as_str())
    )
}

fn role(state: &State, process: &ProcessView, build_id: &str) -> &'static str {
    let current = state.current.as_ref();
    if current.is_some_and(|current| current.build_id == build_id) {
        return "current";
    }
    if build_id == process.build_id {
        return "target";
    }
    match state.drains.get(build_id) {
        Some(drain) if drain.is_draining() => "draining",
        Some(_) => "drained",
        None => "",
    }
}

/// How many workflows hold a version that drains, as its drain has told last, and what comes next by the clock: the
/// deadline of the drain, or the end of what a rollout waits for.
fn held(state: &State, build_id: &str) -> (Option<u64>, Option<Timestamp>) {
    let drain = state.drains.get(build_id);
    if let Some(drain) = drain.filter(|drain| !drain.cancelled) {
        let told = drained(drain).filter(|_| drain.is_draining());
        let waits = told
            .as_ref()
            .filter(|told| told.stage == DrainStage::Waiting && told.ending.is_none());
        let deadline = waits.and_then(|told| told.deadline);
        return (told.and_then(|told| told.open), deadline);
    }
    let rollout = state.rollout.as_ref();
    let rollout = rollout.filter(|rollout| rollout.build_id == build_id && !rollout.cancelled);
    let due = rollout.and_then(|rollout| match &rollout.progress {
        Some(progress) if progress.stage != Stage::Starting => progress.due,
        _ => Some(rollout.deadline),
    });
    (None, due)
}

/// A phase for people.
fn heading(phase: &str) -> &str {
    match phase {
        "RollingOut" => "Rolling out a new version",
        "Draining" => "Serving; an old version still has running workflows",
        "Ready" => "Serving; nothing to do",
        "Degraded" => "Something is wrong",
        "Suspended" => "Suspended: observing, not acting",
        other => other,
    }
}

/// The UI would draw a slash between numbers as a fraction.
fn without_fractions(message: &str) -> String {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let words = message.split(' ').map(|word| match word.split_once('/') {
        Some((some, all)) if number(some) && number(all) => format!("{some} of {all}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use process_operator_crds::spec::DrainOnTimeout;

    use super::*;
    use crate::contract::{
        CurrentVersion, DeploymentView, Drain, DrainPolicy, DrainProgress, EndAction, Progress,
        Rollout, Routing, RoutingState, VersionState, VersionView,
    };

    const V1: &str = "v1-ba82d12f";
    const V2: &str = "v2-b7d74504";
    const V3: &str = "v3-57fc3a41";

    fn at(minute: u32) -> Timestamp {
        format!("2026-11-29T10:{minute:02}:18Z").parse().unwrap()
    }

    /// V2 serves beside V1, which drains; V3 takes a quarter.
    fn world() -> (State, ProcessView, Observation) {
        let version = |image: &str| VersionView {
            image: image.into(),
            deployment: Some(DeploymentView {
                replicas: 2,
                ready_replicas: 1,
                ..DeploymentView::default()
            }),
            ..VersionView::default()
        };
        let seen = Observation {
            versions: [(V1, "w:1"), (V2, "w:2"), (V3, "w:3")]
                .map(|(build_id, image)| (build_id.to_owned(), version(image)))
                .into(),
            routing: Routing {
                state: RoutingState::Known,
                current: Some(V2.into()),
                ramping: Some(V3.into()),
                percent: 25,
                versions: [
                    (V1.to_owned(), VersionState::Draining),
                    (V2.to_owned(), VersionState::Current),
                    (V3.to_owned(), VersionState::Ramping),
                ]
                .into(),
                ..Routing::default()
            },
            ..Observation::default()
        };
        let drain = Drain {
            progress: Some(DrainProgress {
                open: Some(7),
                deadline: Some(at(30)),
                ..DrainProgress::default()
            }),
            ..Drain::default()
        };
        let state = State {
            current: Some(CurrentVersion {
                build_id: V2.into(),
                since: at(0),
            }),
            drains: [(V1.to_owned(), drain)].into(),
            rollout: Some(Rollout {
                build_id: V3.into(),
                deadline: at(5),
                progress: Some(Progress {
                    stage: Stage::Pausing,
                    due: Some(at(8)),
                    ..Progress::default()
                }),
                ..Rollout::default()
            }),
            ..State::default()
        };
        let process = ProcessView {
            build_id: V3.into(),
            ..ProcessView::default()
        };
        (state, process, seen)
    }

    /// The lines of the table, without its head.
    fn table((state, process, seen): &(State, ProcessView, Observation)) -> Vec<String> {
        let verdict = Verdict {
            conditions: Vec::new(),
            phase: "RollingOut",
        };
        let text = details(state, process, seen, &verdict);
        let (_, lines) = text.split_once("|---|\n").unwrap();
        lines.lines().map(|line| line.replace(GAP, "_")).collect()
    }

    #[test]
    fn each_version_has_its_share_its_pods_and_what_it_waits_for() {
        assert_eq!(
            table(&world()),
            [
                "| `v1-ba82d12f`_ | draining_ | 0 %_ | 1 of 2_ | 7_ | 2026-11-29T10:30:18Z_ | Draining_ | w:1 |",
                "| `v2-b7d74504`_ | current_ | 75 %_ | 1 of 2_ | -_ | -_ | Current_ | w:2 |",
                "| `v3-57fc3a41`_ | target_ | 25 %_ | 1 of 2_ | -_ | 2026-11-29T10:08:18Z_ | Ramping_ | w:3 |",
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let mut world = world();
        world.2.routing = Routing::default();
        world.2.versions.remove(V3);
        world.0.rollout = None;
        assert_eq!(
            table(&world)[1..],
            ["| `v2-b7d74504`_ | current_ | -_ | 1 of 2_ | -_ | -_ | -_ | w:2 |"]
        );
    }

    /// What is told of V1 when its drain is another one.
    fn drain(change: impl FnOnce(&mut Drain)) -> (Option<u64>, Option<Timestamp>) {
        let (mut state, _, _) = world();
        change(state.drains.get_mut(V1).unwrap());
        held(&state, V1)
    }

    #[test]
    fn of_a_drain_only_the_deadline_that_is_ahead_is_told() {
        let told = |change: fn(&mut DrainProgress)| {
            drain(|drain| change(drain.progress.as_mut().unwrap()))
        };
        let open = Some(7);
        assert_eq!(told(|_| ()), (open, Some(at(30))));
        assert_eq!(told(|told| told.deadline = None), (open, None));
        let ending = told(|told| told.ending = Some(EndAction::Cancel));
        assert_eq!(ending, (open, None), "it has passed");
        let lingering = told(|told| told.stage = DrainStage::Lingering);
        assert_eq!(lingering, (open, None), "nothing has to end any more");
        let kept = told(|told| told.stage = DrainStage::Kept);
        assert_eq!(kept, (None, None), "it has drained");
        assert_eq!(drain(|drain| drain.cancelled = true), (None, None));
        let untold = drain(|drain| {
            drain.progress = None;
            drain.since = at(1);
            drain.policy = Some(DrainPolicy {
                timeout_seconds: Some(60),
                on_timeout: DrainOnTimeout::Cancel,
                ..DrainPolicy::default()
            });
        });
        assert_eq!(untold, (None, Some(at(2))), "what follows from the policy");
    }

    #[test]
    fn a_rollout_that_waits_for_its_workers_has_a_deadline() {
        let (mut state, _, _) = world();
        assert_eq!(held(&state, V3), (None, Some(at(8))));
        let mut rollout = state.rollout.take().unwrap();
        rollout.progress = None;
        state.rollout = Some(rollout.clone());
        assert_eq!(held(&state, V3), (None, Some(at(5))));
        rollout.cancelled = true;
        state.rollout = Some(rollout);
        assert_eq!(held(&state, V3), (None, None));
    }

    #[test]
    fn numbers_are_no_fractions_and_all_else_stays() {
        for (said, shown) in [
            ("1/2 worker pods ready", "1 of 2 worker pods ready"),
            (
                "image localhost:5000/7 of 1/1",
                "image localhost:5000/7 of 1 of 1",
            ),
            ("shop/l2o  /", "shop/l2o  /"),
        ] {
            assert_eq!(without_fractions(said), shown);
        }
    }
}
