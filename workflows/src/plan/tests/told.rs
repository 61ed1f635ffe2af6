//! What the conditions say of a rollout by steps.

use super::super::failing_status;
use super::requests::{ask, asked, at_stage, held, ramping, rolling};
use super::*;
use crate::contract::{Decided, Progress, RolloutView, Stage, StepFailure, Undone, Verb};

pub(super) fn message(plan: &Plan, kind: ConditionType) -> &str {
    let found = status(plan).conditions.iter();
    let mut found = found.filter(|condition| condition.type_ == kind);
    &found.next().unwrap().message
}

/// Progressing, Degraded and Stalled.
pub(super) fn told_of(plan: &Plan) -> [(bool, Reason); 3] {
    [
        ConditionType::Progressing,
        ConditionType::Degraded,
        ConditionType::Stalled,
    ]
    .map(|kind| condition(plan, kind))
}

const WELL: (bool, Reason) = (false, Reason::AsExpected);

#[test]
fn where_a_rollout_stands_is_the_reason_of_progressing() {
    let due = "2026-01-01T00:05:00Z";
    let timed = Progress {
        due: Some(due.parse().unwrap()),
        ..at_stage(Stage::Pausing, 1, 10)
    };
    let few = Progress {
        message: "3 executions have closed, 10 are needed".into(),
        ..at_stage(Stage::Analyzing, 1, 10)
    };
    let lacking = Progress {
        message: "pod p CreateContainerConfigError secret \"db\" not found".into(),
        ..at_stage(Stage::Starting, 0, 0)
    };
    let cases = [
        (None, Reason::RollingOut, "live before"),
        (
            Some(at_stage(Stage::Starting, 0, 0)),
            Reason::RollingOut,
            "live before",
        ),
        (
            Some(lacking),
            Reason::WaitingForWorkers,
            "secret \"db\" not found",
        ),
        (
            Some(at_stage(Stage::Gate, 0, 0)),
            Reason::GateRunning,
            "must complete",
        ),
        (
            Some(at_stage(Stage::WaitingForPromotion, 0, 0)),
            Reason::WaitingForPromotion,
            "until it is promoted",
        ),
        (
            Some(at_stage(Stage::Weighting, 2, 10)),
            Reason::RollingOut,
            "10 %",
        ),
        (Some(timed), Reason::RollingOut, due),
        (
            Some(at_stage(Stage::Pausing, 2, 50)),
            Reason::WaitingForPromotion,
            "takes 50 % of new workflows, step 2 of 3",
        ),
        (Some(few), Reason::Inconclusive, "10 are needed"),
        (
            Some(at_stage(Stage::StepGate, 1, 10)),
            Reason::GateRunning,
            "step 1 of 3",
        ),
        (
            Some(at_stage(Stage::Promoting, 3, 90)),
            Reason::RollingOut,
            "90 %",
        ),
    ];
    for (progress, reason, words) in cases {
        let name = format!("{progress:?}");
        let plan = decide(&mut rolling(progress), &ramping());
        assert_eq!(told_of(&plan), [(true, reason), WELL, WELL], "{name}");
        let told = message(&plan, ConditionType::Progressing);
        assert!(told.contains(words), "{name}: {told:?} has {words:?}");
        assert_eq!(
            condition(&plan, ConditionType::Reconciling),
            (true, reason),
            "{name}"
        );
        assert_eq!(
            condition(&plan, ConditionType::Ready),
            (true, Reason::RollingOut),
            "{name}: the version that serves, serves"
        );
    }
}

#[test]
fn a_paused_rollout_says_who_paused_it() {
    let mut state = rolling(Some(at_stage(Stage::Pausing, 2, 50)));
    let plan = ask(&mut state, &ramping(), &asked(Verb::Pause));
    assert_eq!(told_of(&plan), [(true, Reason::Paused), WELL, WELL]);
    assert_eq!(
        message(&plan, ConditionType::Progressing),
        format!("{V2} is paused by alice (ticket 7)")
    );
    let view = status(&plan).rollout.clone().unwrap();
    assert_eq!(view.message, "paused by alice (ticket 7)");

    let by_spec = ramping().change(|process| process.paused = true);
    let plan = decide(
        &mut rolling(Some(at_stage(Stage::Pausing, 2, 50))),
        &by_spec,
    );
    assert_eq!(told_of(&plan), [(true, Reason::Paused), WELL, WELL]);
    assert_eq!(
        message(&plan, ConditionType::Progressing),
        "spec.rollout.paused is true"
    );
}

#[test]
fn a_held_rollout_is_degraded_but_not_stalled() {
    for (category, reason) in [
        (ErrorCategory::AnalysisFailed, Reason::AnalysisFailed),
        (ErrorCategory::GateFailed, Reason::GateFailed),
        (ErrorCategory::RoutingChanged, Reason::RoutingChanged),
    ] {
        let plan = decide(&mut rolling(Some(held(category))), &ramping());
        assert_eq!(
            told_of(&plan),
            [(true, reason), (true, reason), WELL],
            "somebody may decide, and until then it goes on serving its share"
        );
        for kind in [ConditionType::Progressing, ConditionType::Degraded] {
            assert_eq!(message(&plan, kind), "2 of 10 closed executions failed");
        }
    }
}

#[test]
fn a_rollout_that_was_held_and_paused_is_both() {
    let mut state = rolling(Some(held(ErrorCategory::AnalysisFailed)));
    state.rollout.as_mut().unwrap().paused = Some("by alice".into());
    let plan = decide(&mut state, &ramping());
    assert_eq!(
        told_of(&plan),
        [(true, Reason::Paused), (true, Reason::AnalysisFailed), WELL]
    );
}

#[test]
fn status_shows_the_rollout_while_there_is_one() {
    let mut progress = held(ErrorCategory::GateFailed);
    progress.gate = "smoke failed".into();
    let mut state = rolling(Some(progress));
    let plan = decide(&mut state, &ramping());
    assert_eq!(
        status(&plan).rollout,
        Some(RolloutView {
            stage: "Pausing".into(),
            step: 1,
            steps: 3,
            weight: 10,
            next_step_time: None,
            started_time: Some(Timestamp::UNIX_EPOCH),
            deadline: Some(Timestamp::UNIX_EPOCH),
            message: "2 of 10 closed executions failed; smoke failed".into(),
        })
    );
    state.rollout.as_mut().unwrap().cancelled = true;
    state.failed = None;
    let managed = {
        let mut seen = ramping();
        seen.routing.foreign_manager = Some("somebody".into());
        seen
    };
    assert_eq!(status(&decide(&mut state, &managed)).rollout, None);
}

#[test]
fn a_suspended_rollout_says_that_it_is_suspended() {
    let mut state = rolling(Some(at_stage(Stage::Pausing, 1, 10)));
    let suspended = ramping().change(|process| process.suspend = true);
    let plan = decide(&mut state, &suspended);
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::Suspended)
    );
}

#[test]
fn steps_that_are_heard_of_together_are_told_one_by_one() {
    let mut state = rolling(None);
    let rollout = state.rollout.as_mut().unwrap();
    rollout.take_in(at_stage(Stage::Analyzing, 1, 10));
    rollout.take_in(at_stage(Stage::Analyzing, 2, 50));
    // The end of the rollout is heard of in the same moment.
    let ended = Inbox {
        reports: vec![ChildFinished {
            id: "r".into(),
            kind: ChildKind::Rollout,
            build_id: V2.into(),
            outcome: ChildOutcome::Completed,
            ..ChildFinished::default()
        }],
        ..Inbox::default()
    };
    plan(&mut state, &key(), "run", &ramping(), &ended, now());
    let told: Vec<&str> = state.history.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(
        told[..3],
        ["WeightChanged", "WeightChanged", "VersionCurrent"]
    );
}

#[test]
fn a_lifecycle_without_memory_keeps_to_what_was_decided() {
    let failed = FailedVersion {
        build_id: V2.into(),
        category: ErrorCategory::AnalysisFailed,
        message: "2 of 10 closed executions failed".into(),
        available: false,
    };
    let undone = Undone {
        from: V2.into(),
        to: V1.into(),
        why: "by ada: it is slow, very slow".into(),
    };
    assert_eq!(Undone::from_text(&undone.to_string()), Some(undone.clone()));
    assert_eq!(Undone::from_text("something else"), None);
    for (decided, reason) in [
        (
            Decided {
                failed: Some(failed),
                ..Decided::default()
            },
            Reason::AnalysisFailed,
        ),
        (
            Decided {
                undone: Some(undone),
                ..Decided::default()
            },
            Reason::Undone,
        ),
    ] {
        let seen = Observation {
            decided,
            history: ("an earlier run".into(), Vec::new()),
            ..ramping()
        };
        let plan = decide(&mut State::default(), &seen);
        assert_eq!(condition(&plan, ConditionType::Degraded), (true, reason));
        assert!(
            plan.start
                .iter()
                .all(|it| !matches!(it, Child::Rollout { .. }))
        );
    }
}

#[test]
fn a_version_is_told_to_be_current_before_the_drain_that_follows_and_once() {
    let mut state = State {
        rollout: Some(Rollout {
            id: "rollout".into(),
            build_id: V2.into(),
            ..Rollout::default()
        }),
        ..settled()
    };
    // A look between the change of routing and the report.
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Draining)
        .routed(V2, VersionState::Current);
    let plan = decide(&mut state, &seen);
    let told = |state: &State| -> Vec<String> {
        let history = state.history.iter();
        history
            .map(|it| format!("{} {}", it.what, it.build_id))
            .collect()
    };
    let wanted = [format!("VersionCurrent {V2}"), format!("DrainStarted {V1}")];
    assert_eq!(told(&state), wanted, "{:?}", plan.steps);
    let report = ChildFinished {
        id: "rollout".into(),
        build_id: V2.into(),
        kind: ChildKind::Rollout,
        outcome: ChildOutcome::Completed,
        ..ChildFinished::default()
    };
    let inbox = Inbox {
        reports: vec![report],
        ..Inbox::default()
    };
    super::plan(&mut state, &key(), "run", &seen, &inbox, now());
    assert_eq!(told(&state), wanted, "once");
    assert!(state.rollout.is_none(), "it has ended");
}

/// What the API server refuses comes before the rollout's first step.
#[test]
fn a_rollout_that_cannot_begin_is_no_progress() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    for (category, reconciling) in [
        (ErrorCategory::InvalidSpec, false),
        (ErrorCategory::QuotaExceeded, true),
    ] {
        let mut state = settled();
        decide(&mut state, &seen);
        assert!(state.rollout.is_some());
        state.applied.remove(&format!("l2o-{V2}"));
        let failure = StepFailure::new(category, "applying Deployment l2o: refused");
        state.trouble = Some((failure, 1));
        let step = failing_status(&state, &key(), "run", &seen).unwrap();
        let plan = Plan {
            steps: vec![step],
            ..Plan::default()
        };
        let reason = category.reason();
        assert_eq!(
            told_of(&plan),
            [
                (reconciling, reason),
                (true, reason),
                if reconciling { WELL } else { (true, reason) }
            ]
        );
        let found = condition(&plan, ConditionType::Reconciling);
        assert_eq!(found.0, reconciling, "{found:?}");
        assert!(condition(&plan, ConditionType::Ready).0, "v1 serves");
    }
}
