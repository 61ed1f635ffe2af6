//! The plan as a table: each case is a sentence, a world, and what must follow.

mod annotation;
mod blocked;
mod changes;
mod check;
mod cron_jobs;
mod definition;
mod deletion;
mod dependencies;
mod drains;
mod ended;
mod first;
mod gone;
mod lacking;
mod leaving;
mod modes;
mod pace;
mod proven;
mod requests;
mod settling;
mod standing;
mod steps;
mod told;
mod undo;
mod unrecorded;
mod walk;
mod workers;

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::{ConditionType, ErrorCategory, Reason};
use strum::IntoEnumIterator as _;

use super::{Child, Inbox, Plan};
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
            rules: Settings::RULES,
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
                needed: false,
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

/// A plan whose Events are recorded.
fn plan(
    state: &mut State,
    key: &ProcessKey,
    run_id: &str,
    seen: &Observation,
    inbox: &Inbox,
    now: Timestamp,
) -> Plan {
    let plan = super::plan(state, key, run_id, seen, inbox, now);
    tells_all(&plan);
    let events: Vec<String> = plan.steps.iter().filter_map(Step::event).collect();
    state.told(&events, None);
    plan
}

/// A condition that is left out of a status is taken from the object: each has all of them, once.
fn tells_all(plan: &Plan) {
    let statuses = plan.steps.iter().filter_map(|step| match step {
        Step::PublishStatus { status } => Some(status),
        _ => None,
    });
    for status in statuses {
        let mut told: Vec<ConditionType> = status.conditions.iter().map(|it| it.type_).collect();
        told.sort();
        let mut all: Vec<ConditionType> = ConditionType::iter().collect();
        all.sort();
        assert_eq!(told, all);
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
