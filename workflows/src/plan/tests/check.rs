//! What a validator answers to every verb in every phase.

use super::requests::{at_stage, held, rolling};
use super::*;
use crate::contract::{Settings, Stage, Standing, Undone, Verb, VerbArgs};
use crate::plan::check;

const VERBS: [Verb; 7] = [
    Verb::Pause,
    Verb::Resume,
    Verb::Promote,
    Verb::Abort,
    Verb::Retry,
    Verb::Undo,
    Verb::Restart,
];

fn standing(state: State, change: impl FnOnce(&mut Standing)) -> State {
    let mut state = state;
    change(&mut state.standing);
    state
}

fn changed(mut state: State, change: impl FnOnce(&mut Rollout)) -> State {
    change(state.rollout.as_mut().unwrap());
    state
}

/// A phase, and the answers to [`VERBS`]; an empty one accepts.
#[allow(clippy::too_many_lines, reason = "a table is as long as it is")]
fn phases() -> Vec<(&'static str, State, [&'static str; 7])> {
    const OK: &str = "";
    const IDLE: &str = "nothing is being rolled out";
    const NOT_PAUSED: &str = "it is not paused";
    const NOT_FAILED: &str = "nothing has failed or was undone";
    const UNDER_WAY: &str = "a rollout is under way: abort it first";
    const NO_CURRENT: &str = "no version is current yet";
    const STARTING: &str = "the new version does not serve yet";
    const SUSPENDED: &str = "spec.suspend is true: set it to false first";
    vec![
        (
            "settled",
            settled(),
            [IDLE, IDLE, IDLE, IDLE, NOT_FAILED, OK, OK],
        ),
        (
            "a first version is brought live",
            State {
                current: None,
                ..rolling(None)
            },
            [
                OK, NOT_PAUSED, STARTING, OK, NOT_FAILED, NO_CURRENT, NO_CURRENT,
            ],
        ),
        (
            "a rollout begins",
            rolling(None),
            [OK, NOT_PAUSED, STARTING, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "a gate runs before any traffic",
            rolling(Some(at_stage(Stage::Gate, 0, 0))),
            [OK, NOT_PAUSED, OK, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "it waits for a promotion",
            rolling(Some(at_stage(Stage::WaitingForPromotion, 0, 0))),
            [OK, NOT_PAUSED, OK, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "a step is held for a time",
            rolling(Some(at_stage(Stage::Pausing, 1, 10))),
            [OK, NOT_PAUSED, OK, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "a weight is being set",
            rolling(Some(at_stage(Stage::Weighting, 1, 0))),
            [OK, NOT_PAUSED, OK, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "evidence is waited for",
            rolling(Some(at_stage(Stage::Analyzing, 1, 10))),
            [OK, NOT_PAUSED, OK, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "the gate of a step runs",
            rolling(Some(at_stage(Stage::StepGate, 1, 10))),
            [OK, NOT_PAUSED, OK, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "it is being made Current",
            rolling(Some(at_stage(Stage::Promoting, 1, 10))),
            [OK, NOT_PAUSED, OK, OK, NOT_FAILED, UNDER_WAY, OK],
        ),
        (
            "paused by request",
            changed(rolling(Some(at_stage(Stage::Pausing, 1, 10))), |rollout| {
                rollout.paused = Some("by alice".into());
            }),
            [
                "it is paused already",
                OK,
                "it is paused: resume it first",
                OK,
                NOT_FAILED,
                UNDER_WAY,
                OK,
            ],
        ),
        (
            "paused by the spec",
            standing(rolling(Some(at_stage(Stage::Pausing, 1, 10))), |standing| {
                standing.paused = true;
            }),
            [
                OK,
                "spec.rollout.paused is true: set it to false",
                "spec.rollout.paused is true: set it to false first",
                OK,
                NOT_FAILED,
                UNDER_WAY,
                OK,
            ],
        ),
        (
            "held by a failure",
            rolling(Some(held(ErrorCategory::AnalysisFailed))),
            [OK, OK, OK, OK, OK, UNDER_WAY, OK],
        ),
        (
            "being aborted",
            rolling(Some(at_stage(Stage::Unwinding, 1, 10))),
            [
                "it is being aborted",
                "it is being aborted",
                "it is being aborted",
                "it is being aborted already",
                NOT_FAILED,
                UNDER_WAY,
                OK,
            ],
        ),
        (
            "aborted while it was paused",
            changed(
                rolling(Some(at_stage(Stage::Unwinding, 1, 10))),
                |rollout| rollout.paused = Some("by alice".into()),
            ),
            [
                "it is being aborted",
                "it is being aborted",
                "it is being aborted",
                "it is being aborted already",
                NOT_FAILED,
                UNDER_WAY,
                OK,
            ],
        ),
        (
            "told to stop, which is as good as none",
            changed(
                rolling(Some(held(ErrorCategory::AnalysisFailed))),
                |rollout| rollout.cancelled = true,
            ),
            [IDLE, IDLE, IDLE, IDLE, NOT_FAILED, OK, OK],
        ),
        ("aborted", aborted(), [IDLE, IDLE, IDLE, IDLE, OK, OK, OK]),
        (
            "undone",
            State {
                undone: Some(Undone {
                    from: V2.into(),
                    to: V1.into(),
                    why: "by alice".into(),
                }),
                ..settled()
            },
            [IDLE, IDLE, IDLE, IDLE, OK, OK, OK],
        ),
        (
            "managed by somebody else",
            standing(settled(), |standing| {
                standing.manager = Some("somebody".into());
            }),
            [IDLE, OK, IDLE, IDLE, NOT_FAILED, OK, OK],
        ),
        (
            "suspended, whatever else",
            standing(
                rolling(Some(held(ErrorCategory::AnalysisFailed))),
                |standing| {
                    standing.suspended = true;
                    standing.paused = true;
                },
            ),
            [SUSPENDED; 7],
        ),
    ]
}

/// V2 was given up; V1 serves.
fn aborted() -> State {
    State {
        failed: Some(FailedVersion {
            build_id: V2.into(),
            category: ErrorCategory::RolloutAborted,
            message: "aborted by alice".into(),
            available: true,
        }),
        ..settled()
    }
}

#[test]
fn every_verb_is_accepted_or_refused_in_every_phase_as_the_table_says() {
    for (phase, state, answers) in phases() {
        for (verb, answer) in VERBS.into_iter().zip(answers) {
            let state = standing(state.clone(), |standing| {
                standing.rules = Settings::RULES;
            });
            let found = check(&state, verb, &VerbArgs::default());
            let expected = if answer.is_empty() {
                Ok(())
            } else {
                Err(answer.to_owned())
            };
            assert_eq!(found, expected, "{verb} when {phase}");
        }
    }
}

#[test]
fn a_verb_of_a_newer_operator_is_refused_in_every_phase() {
    for (phase, state, _) in phases() {
        let refused = check(&state, Verb::Unknown, &VerbArgs::default()).unwrap_err();
        assert!(refused.contains("not known"), "{phase}: {refused}");
    }
}

#[test]
fn undo_to_the_current_version_is_refused() {
    let args = VerbArgs {
        build_id: V1.into(),
        ..VerbArgs::default()
    };
    assert_eq!(
        check(&settled(), Verb::Undo, &args),
        Err("that version is current already".to_owned())
    );
}

#[test]
fn everything_that_is_accepted_does_something() {
    // What a validator lets pass must not be refused by the turn that carries it out, in a world
    // that is as the memory says.
    let seen = || {
        world(V2)
            .with(V1, Some(deployment(2)))
            .with(V2, Some(deployment(2)))
            .routed(V1, VersionState::Current)
            .routed(V2, VersionState::Inactive)
    };
    for (phase, state, answers) in phases() {
        for (verb, answer) in VERBS.into_iter().zip(answers) {
            // The version to go back to is told, since this world has none that served before.
            let args = VerbArgs {
                build_id: V2.into(),
                ..VerbArgs::default()
            };
            if !answer.is_empty() {
                continue;
            }
            let mut seen = seen().change(|process| process.paused = state.standing.paused);
            seen.routing
                .foreign_manager
                .clone_from(&state.standing.manager);
            if state.current.is_none() {
                seen.routing.current = None;
            }
            let inbox = requests::asked_with(verb, args);
            let mut state = state.clone();
            let before = state.clone();
            let plan = plan(&mut state, &key(), "run", &seen, &inbox, now());
            let (_, answer) = &plan.answers[0];
            assert!(answer.accepted, "{verb} when {phase}: {}", answer.message);
            state.history.clone_from(&before.history);
            state.events.clone_from(&before.events);
            let restarts = |step: &Step| matches!(step, Step::RestartVersion { .. });
            assert!(
                state != before
                    || !plan.orders.is_empty()
                    || !plan.start.is_empty()
                    || plan.steps.iter().any(restarts),
                "{verb} when {phase} is accepted, and nothing follows"
            );
        }
    }
}
