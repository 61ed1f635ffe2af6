//! What keeps a spec from being acted on.

use super::*;

#[test]
fn what_keeps_a_spec_from_being_acted_on() {
    let base = || world(V1);
    let routing = |state| Observation {
        routing: Routing {
            state,
            ..Routing::default()
        },
        ..base()
    };
    let cases = [
        (
            Observation {
                queue_holder: Some("other/older".into()),
                ..base()
            },
            Reason::TaskQueueConflict,
            "other/older",
        ),
        (
            routing(RoutingState::NamespaceNotFound),
            Reason::NamespaceNotFound,
            "spec.temporal.namespace",
        ),
        (
            routing(RoutingState::Forbidden),
            Reason::Forbidden,
            "sales-process",
        ),
        (
            Observation {
                invalid: Some("spec.image: missing".into()),
                ..base()
            },
            Reason::InvalidSpec,
            "spec.image",
        ),
        (
            Observation {
                routing: Routing {
                    state: RoutingState::Known,
                    foreign_manager: Some("somebody".into()),
                    ..Routing::default()
                },
                ..base()
            },
            Reason::DeploymentOwnedElsewhere,
            "somebody",
        ),
    ];
    for (seen, reason, words) in cases {
        let plan = decide(&mut memory(), &seen);
        assert!(
            applies(&plan).is_empty() && plan.start.is_empty(),
            "{reason}: nothing is deployed"
        );
        assert_eq!(condition(&plan, ConditionType::Ready), (false, reason));
        assert_eq!(condition(&plan, ConditionType::Stalled), (true, reason));
        let message = &status(&plan).conditions[0].message;
        assert!(message.contains(words), "{message:?} names {words:?}");
    }
}

#[test]
fn an_unanswered_server_retires_nothing_and_starts_nothing() {
    let mut seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)));
    seen.routing.state = RoutingState::Unknown;
    let plan = decide(&mut settled(), &seen);
    assert!(plan.start.is_empty());
    assert_eq!(
        condition(&plan, ConditionType::TemporalReachable),
        (false, Reason::TemporalUnavailable)
    );
    assert_eq!(
        condition(&plan, ConditionType::Degraded),
        (true, Reason::TemporalUnavailable)
    );
    assert!(
        condition(&plan, ConditionType::Ready).0,
        "as the running version is"
    );
}
