//! Which stage may follow which, in full. A transition that is not listed here fails, and so does
//! one that is listed and that no case takes.

use std::collections::BTreeSet;

use strum::IntoEnumIterator as _;

use super::*;

/// From where, by what, to where. Also a further step of the same stage is a transition.
const LEGAL: &[(Stage, &str, &[Stage])] = {
    use Stage::*;
    &[
        (
            Starting,
            "Served",
            &[Gate, WaitingForPromotion, Weighting, Promoting],
        ),
        (
            Starting,
            "ServedBeside",
            &[Gate, WaitingForPromotion, Weighting, Promoting],
        ),
        (Starting, "Failed", &[Ended]),
        (Starting, "Abort", &[Ended]),
        (Starting, "Cancelled", &[Ended]),
        (
            Gate,
            "GatePassed",
            &[WaitingForPromotion, Weighting, Promoting],
        ),
        (
            Gate,
            "Promote",
            &[WaitingForPromotion, Weighting, Promoting],
        ),
        (Gate, "PromoteFull", &[Promoting]),
        (Gate, "Failed", &[Ended]),
        (Gate, "Abort", &[Ended]),
        (Gate, "Cancelled", &[Ended]),
        (WaitingForPromotion, "Promote", &[Promoting]),
        (WaitingForPromotion, "PromoteFull", &[Promoting]),
        (WaitingForPromotion, "Failed", &[Ended]),
        (WaitingForPromotion, "Abort", &[Ended]),
        (WaitingForPromotion, "Cancelled", &[Ended]),
        (
            Weighting,
            "Weighted",
            &[Pausing, Analyzing, StepGate, Weighting, Promoting],
        ),
        (Weighting, "PromoteFull", &[Promoting]),
        (Weighting, "Failed", &[Unwinding]),
        (Weighting, "Abort", &[Unwinding]),
        (Weighting, "Cancelled", &[Unwinding]),
        (Pausing, "Due", &[Analyzing, StepGate, Weighting, Promoting]),
        (Pausing, "Retry", &[Weighting]),
        (Pausing, "Promote", &[Weighting, Promoting]),
        (Pausing, "PromoteFull", &[Promoting]),
        (Pausing, "Failed", &[Unwinding]),
        (Pausing, "Abort", &[Unwinding]),
        (Pausing, "Cancelled", &[Unwinding]),
        (Analyzing, "Conclusive", &[StepGate, Weighting, Promoting]),
        (Analyzing, "Retry", &[Weighting]),
        (Analyzing, "Promote", &[Weighting, Promoting]),
        (Analyzing, "PromoteFull", &[Promoting]),
        (Analyzing, "Failed", &[Unwinding]),
        (Analyzing, "Abort", &[Unwinding]),
        (Analyzing, "Cancelled", &[Unwinding]),
        (StepGate, "GatePassed", &[Weighting, Promoting]),
        (StepGate, "Retry", &[Weighting]),
        (StepGate, "Promote", &[Weighting, Promoting]),
        (StepGate, "PromoteFull", &[Promoting]),
        (StepGate, "Failed", &[Unwinding]),
        (StepGate, "Abort", &[Unwinding]),
        (StepGate, "Cancelled", &[Unwinding]),
        (Promoting, "Promoted", &[Ended]),
        (Promoting, "Failed", &[Unwinding, Ended]),
        (Promoting, "Abort", &[Unwinding, Ended]),
        (Promoting, "Cancelled", &[Unwinding, Ended]),
        (Unwinding, "Unwound", &[Ended]),
        (Unwinding, "Failed", &[Ended]),
    ]
};

pub(super) fn legal() -> BTreeSet<Transition> {
    let each = |(from, kind, to): &(Stage, &str, &[Stage])| {
        let (from, kind) = (*from, (*kind).to_owned());
        let to = to.iter();
        to.map(move |to| (from, kind.clone(), *to))
            .collect::<Vec<_>>()
    };
    LEGAL.iter().flat_map(each).collect()
}

/// One event of every kind; failures in every category that decides differently.
pub(super) fn every_event() -> Vec<Event> {
    let mut events = vec![
        Event::Served,
        Event::ServedBeside,
        passed(),
        weighted(),
        Event::Due,
        conclusive(),
        Event::Promoted,
        Event::Unwound,
        failed(ErrorCategory::GateFailed),
        failed(ErrorCategory::AnalysisFailed),
        failed(ErrorCategory::RoutingChanged),
        Event::Cancelled,
    ];
    events.extend(Order::iter().map(ordered));
    events
}

#[test]
fn every_legal_transition_has_a_case() {
    let mut taken = BTreeSet::new();
    for case in all() {
        play(&case, &mut taken, &mut Vec::new());
    }
    let missing: Vec<_> = legal().difference(&taken).cloned().collect();
    assert_eq!(missing, [], "no case takes these");
    let unknown: Vec<_> = taken.difference(&legal()).cloned().collect();
    assert_eq!(unknown, [], "a case takes these, which are not listed");
}

#[test]
fn no_event_leads_where_it_must_not_in_any_state_of_any_case() {
    let mut states = Vec::new();
    for case in all() {
        play(&case, &mut BTreeSet::new(), &mut states);
    }
    let reached: BTreeSet<Stage> = states
        .iter()
        .map(|machine| machine.progress().stage)
        .collect();
    let expected: BTreeSet<Stage> = Stage::iter()
        .filter(|stage| *stage != Stage::Unknown)
        .collect();
    assert_eq!(reached, expected, "every stage is looked at");
    let legal = legal();
    for machine in states {
        for event in every_event() {
            let mut machine = machine.clone();
            let before = shown(&machine);
            if let Some(transition) = take(&mut machine, event) {
                assert!(
                    legal.contains(&transition),
                    "{transition:?} is not listed; it began with {before}"
                );
            }
        }
    }
}
