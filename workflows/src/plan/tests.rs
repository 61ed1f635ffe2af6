//! The plan as a table: each case is a sentence, a world, and what must follow.

mod annotation;
mod check;
mod cron_jobs;
mod definition;
mod deletion;
mod dependencies;
mod drains;
mod modes;
mod requests;
mod standing;
mod told;
mod undo;
mod walk;
mod workers;

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::{ConditionType, ErrorCategory, Reason};

use super::{Child, Inbox, Plan, plan};
use crate::contract::{
    ChildFinished, ChildKind, ChildOutcome, CurrentVersion, DeploymentView, Drain, FailedVersion,
    Observation, Order, ProcessKey, ProcessView, Rollout, Routing, RoutingState, Settings, State,
    StatusView, Step, VersionState, VersionView,
};

const V1: &str = "v1-00000001";
const V2: &str = "v2-00000002";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn key() -> ProcessKey {
    ProcessKey {
        namespace: "sales".into(),
        name: "l2o".into(),
        uid: "u1".into(),
    }
}

fn process(build_id: &str) -> ProcessView {
    ProcessView {
        generation: 3,
        finalizer: true,
        replicas: 2,
        image: format!("worker:{build_id}"),
        temporal_namespace: "sales-process".into(),
        task_queue: "l2o-tq".into(),
        build_id: build_id.into(),
        deployment_name: format!("l2o-{build_id}"),
        progress_deadline_seconds: 600,
        ..ProcessView::default()
    }
}

fn orders(plan: &Plan) -> Vec<(&str, Order)> {
    let given = plan.orders.iter();
    given
        .map(|(id, order)| (id.as_str(), order.order))
        .collect()
}

fn told(report: ChildFinished) -> Inbox {
    Inbox {
        reports: vec![report],
        ..Inbox::default()
    }
}

fn deployment(ready: i32) -> DeploymentView {
    DeploymentView {
        uid: "d".into(),
        generation: 1,
        replicas: 2,
        ready_replicas: ready,
        available: ready == 2,
        applied: "want".into(),
        fields: "fields".into(),
        ..DeploymentView::default()
    }
}

/// A world in which the spec asks for `build_id`.
fn world(build_id: &str) -> Observation {
    Observation {
        process: Some(process(build_id)),
        routing: Routing {
            state: RoutingState::Known,
            ..Routing::default()
        },
        settings: Settings {
            search_attributes: true,
            scale_down_delay_seconds: 60,
            ..Settings::default()
        },
        ..Observation::default()
    }
}

trait World: Sized {
    fn with(self, build_id: &str, deployment: Option<DeploymentView>) -> Self;
    fn routed(self, build_id: &str, state: VersionState) -> Self;
    fn change(self, f: impl FnOnce(&mut ProcessView)) -> Self;
}

impl World for Observation {
    fn with(mut self, build_id: &str, deployment: Option<DeploymentView>) -> Self {
        self.versions.insert(
            build_id.into(),
            VersionView {
                name: format!("l2o-{build_id}"),
                image: format!("worker:{build_id}"),
                revision: true,
                desired: "want".into(),
                definition_lost: false,
                deployment,
                retired: None,
                workload: None,
            },
        );
        self
    }

    fn routed(mut self, build_id: &str, state: VersionState) -> Self {
        if state == VersionState::Current {
            self.routing.current = Some(build_id.into());
        }
        self.routing.versions.insert(build_id.into(), state);
        self
    }

    fn change(mut self, f: impl FnOnce(&mut ProcessView)) -> Self {
        f(self.process.as_mut().unwrap());
        self
    }
}

/// A memory in which everything seen was applied by us.
fn memory() -> State {
    State {
        adopted: true,
        applied: [
            (format!("l2o-{V1}"), "fields".into()),
            (format!("l2o-{V2}"), "fields".into()),
        ]
        .into(),
        ..State::default()
    }
}

fn settled() -> State {
    State {
        current: Some(CurrentVersion {
            build_id: V1.into(),
            since: now(),
        }),
        target: Some((V1.into(), now())),
        ..memory()
    }
}

fn decide(state: &mut State, seen: &Observation) -> Plan {
    plan(state, &key(), "run", seen, &Inbox::default(), now())
}

fn applies(plan: &Plan) -> Vec<&str> {
    plan.steps
        .iter()
        .filter_map(|step| match step {
            Step::ApplyVersion { build_id, .. } => Some(build_id.as_str()),
            _ => None,
        })
        .collect()
}

fn starts(plan: &Plan) -> Vec<String> {
    plan.start
        .iter()
        .map(|child| match child {
            Child::Rollout { build_id, .. } => format!("rollout {build_id}"),
            Child::Drain { build_id, .. } => format!("drain {build_id}"),
        })
        .collect()
}

fn status(plan: &Plan) -> &StatusView {
    plan.steps
        .iter()
        .find_map(|step| match step {
            Step::PublishStatus { status } => Some(status.as_ref()),
            _ => None,
        })
        .expect("a status")
}

fn condition(plan: &Plan, kind: ConditionType) -> (bool, Reason) {
    let found = status(plan)
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .expect("the condition");
    (found.status == true.into(), found.reason)
}

#[test]
fn a_new_process_gets_finalizer_then_deployment_then_status_and_a_rollout() {
    let mut state = State::default();
    let plan = decide(
        &mut state,
        &world(V1).change(|process| process.finalizer = false),
    );
    assert!(
        matches!(plan.steps[0], Step::EnsureFinalizer),
        "{:?}",
        plan.steps
    );
    assert!(matches!(
        plan.steps[1],
        Step::ApplyVersion {
            uid: None,
            revision: false,
            ..
        }
    ));
    assert!(matches!(plan.steps[2], Step::PublishStatus { .. }));
    assert_eq!(starts(&plan), [format!("rollout {V1}")]);
    assert_eq!(
        state.rollout.unwrap().deadline,
        now() + SignedDuration::from_secs(600)
    );
    assert_eq!(plan.settled, None);
}

#[test]
fn a_settled_process_is_only_published_and_the_digest_is_offered() {
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.steps.len(), 1, "{:?}", plan.steps);
    assert!(plan.start.is_empty() && plan.cancel.is_empty());
    assert!(plan.settled.is_some());
    assert_eq!(
        condition(&plan, ConditionType::Ready),
        (true, Reason::Settled)
    );
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::Settled)
    );
    assert_eq!(
        condition(&plan, ConditionType::Stalled),
        (false, Reason::AsExpected)
    );
    let again = decide(&mut state, &seen);
    assert_eq!(
        plan, again,
        "deciding twice on the same world is the same decision"
    );
    state.published = Some((plan.status.clone().unwrap(), seen.status.clone()));
    assert_eq!(
        decide(&mut state, &seen).steps,
        [],
        "what is published is not published again"
    );
}

#[test]
fn what_has_to_be_restored() {
    struct Case {
        name: &'static str,
        seen: Observation,
        applied: &'static [&'static str],
    }
    let base = || world(V1).routed(V1, VersionState::Current);
    let edited = DeploymentView {
        fields: "other".into(),
        ..deployment(2)
    };
    let outdated = DeploymentView {
        applied: "old".into(),
        ..deployment(2)
    };
    let foreign = DeploymentView {
        foreign: true,
        ..edited.clone()
    };
    let leaving = DeploymentView {
        deleting: true,
        ..edited.clone()
    };
    let cases = [
        Case {
            name: "a lost Deployment of the current version",
            seen: base().with(V1, None),
            applied: &[V1],
        },
        Case {
            name: "one edited by hand",
            seen: base().with(V1, Some(edited)),
            applied: &[V1],
        },
        Case {
            name: "one with other replicas than wanted",
            seen: base().with(V1, Some(outdated)),
            applied: &[V1],
        },
        Case {
            name: "not one that belongs to another uid",
            seen: base().with(V1, Some(foreign)),
            applied: &[],
        },
        Case {
            name: "not one on its way out",
            seen: base().with(V1, Some(leaving)),
            applied: &[],
        },
        Case {
            name: "a lost Deployment that pinned runs need",
            seen: base()
                .with(V1, Some(deployment(2)))
                .with(V2, None)
                .routed(V2, VersionState::Draining),
            applied: &[V2],
        },
        Case {
            name: "not one of a drained version",
            seen: base()
                .with(V1, Some(deployment(2)))
                .with(V2, None)
                .routed(V2, VersionState::Drained),
            applied: &[],
        },
        Case {
            name: "nothing while suspended",
            seen: base()
                .with(V1, None)
                .change(|process| process.suspend = true),
            applied: &[],
        },
        Case {
            name: "the current version though the spec is in conflict",
            seen: Observation {
                queue_holder: Some("a/b".into()),
                ..base().with(V1, None)
            },
            applied: &[V1],
        },
    ];
    for case in cases {
        let plan = decide(&mut settled(), &case.seen);
        assert_eq!(applies(&plan), case.applied, "{}", case.name);
    }
}

#[test]
fn a_changed_spec_rolls_out_beside_the_running_version() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = decide(&mut settled(), &seen);
    assert_eq!(applies(&plan), [V2]);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
    assert_eq!(
        condition(&plan, ConditionType::Ready),
        (true, Reason::RollingOut)
    );
}

#[test]
fn a_further_change_supersedes_the_rollout_and_the_half_made_version_goes() {
    let mut state = settled();
    state.rollout = Some(Rollout {
        id: "rollout-2".into(),
        build_id: V2.into(),
        since: now(),
        deadline: now(),
        cancelled: false,
        ..Rollout::default()
    });
    let seen = world("v3-00000003")
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(0)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Inactive);
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.cancel, ["rollout-2"]);
    assert_eq!(
        starts(&plan),
        ["rollout v3-00000003".to_owned(), format!("drain {V2}")]
    );
}

#[test]
fn the_old_version_drains_once_the_new_one_is_current() {
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Draining)
        .routed(V2, VersionState::Current);
    let mut state = settled();
    let plan = decide(&mut state, &seen);
    assert_eq!(starts(&plan), [format!("drain {V1}")]);
    assert_eq!(
        condition(&plan, ConditionType::Draining),
        (true, Reason::DrainingVersions)
    );
    assert_eq!(
        condition(&plan, ConditionType::Progressing),
        (false, Reason::Settled)
    );
    let again = decide(&mut state, &seen);
    assert!(
        again.start.is_empty(),
        "a drain in flight is not started twice"
    );
}

#[test]
fn back_to_a_draining_version_calls_the_drain_off() {
    let mut state = settled();
    state.drains.insert(
        V2.into(),
        Drain {
            id: "drain-2".into(),
            ..Drain::default()
        },
    );
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(2)))
        .routed(V1, VersionState::Current)
        .routed(V2, VersionState::Draining);
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.cancel, ["drain-2"]);
    assert_eq!(starts(&plan), [format!("rollout {V2}")]);
}

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

#[test]
fn a_failed_rollout_stalls_and_leaves_the_running_version_alone() {
    let mut state = settled();
    state.target = Some((V2.into(), now()));
    state.rollout = Some(Rollout {
        id: "r".into(),
        build_id: V2.into(),
        ..Rollout::default()
    });
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(0)))
        .routed(V1, VersionState::Current);
    let report = ChildFinished {
        id: "r".into(),
        kind: ChildKind::Rollout,
        build_id: V2.into(),
        outcome: ChildOutcome::Failed,
        category: ErrorCategory::ProgressDeadlineExceeded
            .metric_label()
            .into(),
        message: "0/2 pods ready".into(),
    };
    let failed = plan(&mut state, &key(), "run", &seen, &told(report), now());
    assert!(condition(&failed, ConditionType::Ready).0);
    assert_eq!(
        condition(&failed, ConditionType::Stalled),
        (true, Reason::ProgressDeadlineExceeded)
    );
    assert!(
        failed.start.is_empty(),
        "not tried again while nothing has changed"
    );
    assert_eq!(
        state.failed.as_ref().map(|failed| failed.available),
        Some(false)
    );

    let ready = seen.with(V2, Some(deployment(2)));
    let retried = decide(&mut state, &ready);
    assert_eq!(
        starts(&retried),
        [format!("rollout {V2}")],
        "pods that become ready late are taken"
    );
}

#[test]
fn late_and_doubled_reports_are_ignored() {
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    for (kind, outcome) in [
        (ChildKind::Rollout, ChildOutcome::Failed),
        (ChildKind::Rollout, ChildOutcome::Completed),
        (ChildKind::Drain, ChildOutcome::Completed),
        (ChildKind::Drain, ChildOutcome::Failed),
    ] {
        let report = ChildFinished {
            id: "nobody".into(),
            kind,
            build_id: V1.into(),
            outcome,
            ..ChildFinished::default()
        };
        let mut state = settled();
        let before = state.clone();
        plan(&mut state, &key(), "run", &seen, &told(report), now());
        assert_eq!(state.history, before.history, "{kind:?} {outcome:?}");
        assert_eq!(state.failed, None);
    }
}

#[test]
fn suspend_holds_a_rollout_where_it_is_and_lets_it_go_on() {
    let mut state = settled();
    state.rollout = Some(Rollout {
        id: "r".into(),
        build_id: V2.into(),
        ..Rollout::default()
    });
    let seen = world(V2)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(deployment(0)))
        .routed(V1, VersionState::Current);
    let suspended = seen.clone().change(|process| process.suspend = true);
    let paused = decide(&mut state, &suspended);
    assert_eq!(orders(&paused), [("r", Order::Pause)]);
    assert!(paused.cancel.is_empty() && applies(&paused).is_empty());
    assert!(condition(&paused, ConditionType::Ready).0);
    assert_eq!(
        condition(&paused, ConditionType::Progressing).1,
        Reason::Suspended
    );
    assert!(
        orders(&decide(&mut state, &suspended)).is_empty(),
        "told once"
    );
    let resumed = decide(&mut state, &seen);
    assert_eq!(orders(&resumed), [("r", Order::Resume)]);
    assert!(resumed.start.is_empty());
}

#[test]
fn what_cannot_be_read_goes_at_once_with_what_is_ours() {
    let foreign = DeploymentView {
        foreign: true,
        ..deployment(2)
    };
    let seen = world(V1)
        .with(V1, Some(deployment(2)))
        .with(V2, Some(foreign))
        .change(|process| process.deleting = true);
    let mut state = settled();
    state.rollout = Some(Rollout {
        id: "r".into(),
        ..Rollout::default()
    });
    let plan = decide(&mut state, &seen);
    assert_eq!(plan.cancel, ["r"]);
    assert!(plan.finish);
    assert!(matches!(plan.steps.last(), Some(Step::RemoveFinalizer)));
    let deleted: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::DeleteVersion { name, uid } => Some((name.as_str(), uid.as_deref())),
            _ => None,
        })
        .collect();
    assert!(deleted.contains(&("l2o-v1-00000001", Some("d"))));
    assert!(
        deleted
            .iter()
            .all(|(name, uid)| *name != "l2o-v2-00000002" || uid.is_none())
    );
}

#[test]
fn a_process_that_is_gone_ends_its_lifecycle() {
    let plan = decide(&mut settled(), &Observation::default());
    assert!(plan.finish && plan.steps.is_empty());
}

#[test]
fn a_fresh_lifecycle_takes_over_the_children_of_a_terminated_one() {
    let seen = Observation {
        children: vec![
            format!("rollout/sales/l2o/u1/{V2}/4"),
            format!("drain/sales/l2o/u1/{V1}/7"),
            "rollout/sales/l2o/other/x/1".into(),
        ],
        ..world(V2)
            .with(V1, Some(deployment(2)))
            .with(V2, Some(deployment(2)))
            .routed(V1, VersionState::Draining)
    };
    let mut state = State::default();
    let plan = decide(&mut state, &seen);
    assert!(plan.start.is_empty(), "{:?}", plan.start);
    assert_eq!(state.children, 7, "the next child gets an id of its own");
}

#[test]
fn correcting_the_spec_clears_the_failure() {
    let mut state = settled();
    state.failed = Some(FailedVersion {
        build_id: V2.into(),
        category: ErrorCategory::WorkerNotVersioned,
        message: "no".into(),
        available: true,
    });
    let seen = world("v3-00000003")
        .with(V1, Some(deployment(2)))
        .routed(V1, VersionState::Current);
    let plan = decide(&mut state, &seen);
    assert_eq!(state.failed, None);
    assert_eq!(starts(&plan), ["rollout v3-00000003"]);
}
