//! Random worlds, one after the other, with random requests: what must hold of every plan.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::requests::{asked_with, at_stage, held};
use super::*;
use crate::contract::{Progress, Stage, Verb, VerbArgs};

const BUILDS: [&str; 3] = [V1, V2, "v3-00000003"];

/// One look, with what arrived before it.
#[derive(Debug, Clone)]
struct Look {
    seen: Observation,
    inbox: Inbox,
    /// What the rollout has told meanwhile.
    progress: Option<Progress>,
    /// The rollout has ended, with this outcome.
    ended: Option<(ChildOutcome, ErrorCategory)>,
}

fn versions() -> impl Strategy<Value = Option<(bool, Option<i32>, Option<Timestamp>)>> {
    let retired = prop::option::of(Just(now()));
    let pods = prop::option::of(prop::sample::select(vec![0, 2]));
    prop::option::of((any::<bool>(), pods, retired))
}

fn worlds() -> impl Strategy<Value = Observation> {
    let build = || prop::sample::select(&BUILDS[..]);
    let states = prop::option::of(prop::sample::select(vec![
        VersionState::Inactive,
        VersionState::Draining,
        VersionState::Drained,
    ]));
    let each = prop::collection::vec((versions(), states), BUILDS.len());
    let flags = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
    );
    let routing = (prop::option::of(build()), prop::option::of(build()));
    (build(), each, routing, flags).prop_map(
        |(target, each, (current, ramping), (suspend, paused, managed, away))| {
            let mut seen = world(target).change(|process| {
                process.suspend = suspend;
                process.paused = paused;
            });
            for (build_id, (version, state)) in BUILDS.into_iter().zip(each) {
                if let Some((revision, pods, retired)) = version {
                    seen = seen.with(build_id, pods.map(deployment));
                    let version = seen.versions.get_mut(build_id).unwrap();
                    version.revision = revision;
                    version.retired = retired;
                }
                if let Some(state) = state {
                    seen = seen.routed(build_id, state);
                }
            }
            if let Some(ramping) = ramping.filter(|ramping| Some(*ramping) != current) {
                seen = seen.routed(ramping, VersionState::Ramping);
                seen.routing.ramping = Some(ramping.into());
            }
            if let Some(current) = current {
                seen = seen.routed(current, VersionState::Current);
            }
            seen.routing.foreign_manager = managed.then(|| "somebody".into());
            if away {
                seen.routing = Routing::default();
            }
            seen
        },
    )
}

fn looks() -> impl Strategy<Value = Vec<Look>> {
    let verbs = prop::sample::select(vec![
        Verb::Pause,
        Verb::Resume,
        Verb::Promote,
        Verb::Abort,
        Verb::Retry,
        Verb::Undo,
        Verb::Restart,
    ]);
    let asked = prop::option::of((verbs, prop::sample::select(vec!["", V1, V2])));
    let progress = prop::option::of(prop::sample::select(vec![
        at_stage(Stage::Pausing, 1, 10),
        at_stage(Stage::Unwinding, 1, 10),
        held(ErrorCategory::RoutingChanged),
    ]));
    let ended = prop::option::weighted(
        0.3,
        prop::sample::select(vec![
            (ChildOutcome::Completed, ErrorCategory::Internal),
            (ChildOutcome::Canceled, ErrorCategory::Internal),
            (ChildOutcome::Failed, ErrorCategory::RolloutAborted),
            (
                ChildOutcome::Failed,
                ErrorCategory::ProgressDeadlineExceeded,
            ),
        ]),
    );
    // A world often stays as it is while people ask and children tell.
    let one = (prop::option::of(worlds()), asked, progress, ended);
    (worlds(), prop::collection::vec(one, 1..12)).prop_map(|(first, looks)| {
        let mut seen = first;
        let of = |(world, asked, progress, ended): (_, Option<(_, &str)>, _, _)| {
            seen = Option::unwrap_or(world, seen.clone());
            let inbox = asked.map_or_else(Inbox::default, |(verb, build_id)| {
                let args = VerbArgs {
                    build_id: build_id.into(),
                    ..VerbArgs::default()
                };
                asked_with(verb, args)
            });
            Look {
                seen: seen.clone(),
                inbox,
                progress,
                ended,
            }
        };
        looks.into_iter().map(of).collect()
    })
}

fn id(child: &Child) -> &str {
    match child {
        Child::Rollout { id, .. } | Child::Drain { id, .. } => id,
    }
}

/// What must hold of one plan, made by a memory that is now as it is.
fn holds(state: &State, seen: &Observation, plan: &Plan) {
    let rollout = state.rollout.as_ref();
    for child in &plan.start {
        match child {
            Child::Rollout { id, build_id, .. } => {
                let remembered = rollout.is_some_and(|rollout| rollout.id == *id);
                assert!(remembered, "{build_id} is rolled out and remembered");
            }
            Child::Drain { id, build_id, .. } => {
                assert_eq!(&state.drains[build_id].id, id, "drained and remembered");
                let used = [&seen.routing.current, &seen.routing.ramping];
                assert!(
                    !used.contains(&&Some(build_id.clone())),
                    "{build_id} takes executions"
                );
                assert!(
                    rollout.is_none_or(|it| it.build_id != *build_id || it.cancelled),
                    "{build_id} is being rolled out"
                );
            }
        }
    }
    for (told, _) in &plan.orders {
        let live = rollout.filter(|rollout| !rollout.cancelled);
        assert!(
            live.is_some_and(|rollout| rollout.id == *told) || plan.cancel.contains(told),
            "{told} hears nothing any more"
        );
    }
    let process = seen.process.as_ref().unwrap();
    if process.suspend {
        assert!(plan.start.is_empty() && applies(plan).is_empty());
    }
    if seen.routing.state != RoutingState::Known {
        assert!(plan.start.is_empty(), "nothing is known of the routing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_plan_keeps_its_promises_and_the_next_look_has_nothing_to_add(looks in looks()) {
        let mut state = memory();
        let mut ids = BTreeSet::new();
        for look in looks {
            let mut inbox = look.inbox;
            if let Some(rollout) = &mut state.rollout {
                rollout.progress = look.progress.or(rollout.progress.take());
                inbox.reports.extend(look.ended.map(|(outcome, category)| ChildFinished {
                    id: rollout.id.clone(),
                    kind: ChildKind::Rollout,
                    build_id: rollout.build_id.clone(),
                    outcome,
                    category: category.metric_label().into(),
                    message: String::new(),
                }));
            }
            let first = plan(&mut state, &key(), "run", &look.seen, &inbox, now());
            holds(&state, &look.seen, &first);
            for child in &first.start {
                prop_assert!(ids.insert(id(child).to_owned()), "{} twice", id(child));
            }
            let second = decide(&mut state, &look.seen);
            prop_assert_eq!(&second.start, &Vec::new());
            prop_assert_eq!(&second.cancel, &Vec::<String>::new());
            prop_assert_eq!(&second.orders, &Vec::new());
            prop_assert!(
                !second.steps.iter().any(|step| matches!(step, Step::Event { .. })),
                "nothing is told twice: {:?}", second.steps
            );
        }
    }
}
