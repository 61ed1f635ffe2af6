//! Which Deployment a version has, and with how many pods.

use process_operator_crds::names;
use process_operator_crds::spec::Versioning;

use crate::contract::{ProcessView, Routing, RoutingState};

/// The Deployment of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Its name.
    pub name: String,
    /// Its pods.
    pub replicas: i32,
}

/// The Deployment of a version; `None` when it has none now. `own` is the name of the Deployment that
/// is the version's alone.
///
/// With `versioning: None` there is one Deployment for all versions, named after the Process, and
/// during a canary a second one beside it; they share `spec.replicas` by weight, with at least one pod
/// each.
pub fn placement(
    process: &ProcessView,
    name: &str,
    routing: &Routing,
    build_id: &str,
    own: &str,
) -> Option<Placement> {
    if process.versioning != Versioning::None {
        return Some(Placement {
            name: own.to_owned(),
            replicas: process.replicas,
        });
    }
    let stable = stable(process, routing)?;
    let canary = canary_pods(process.replicas, routing.percent);
    if build_id == stable {
        let beside = routing.ramping.is_some() && routing.promoting.is_none();
        let replicas = if beside {
            (process.replicas - canary).max(process.replicas.min(1))
        } else {
            process.replicas
        };
        return Some(Placement {
            name: name.to_owned(),
            replicas,
        });
    }
    (routing.ramping.as_deref() == Some(build_id)).then(|| Placement {
        name: names::canary_name(name),
        replicas: canary,
    })
}

/// The version in the Deployment that stays.
fn stable<'a>(process: &'a ProcessView, routing: &'a Routing) -> Option<&'a str> {
    if routing.state != RoutingState::Known {
        return None;
    }
    let first = process.build_id.as_str();
    let serving = routing.promoting.as_deref().or(routing.current.as_deref());
    Some(serving.unwrap_or(first))
}

/// Pods of the canary: its share, rounded, but one at least and not all.
fn canary_pods(replicas: i32, percent: i32) -> i32 {
    if replicas <= 0 {
        return 0;
    }
    let share = (i64::from(replicas) * i64::from(percent) + 50) / 100;
    let most = (replicas - 1).max(1);
    i32::try_from(share).unwrap_or(most).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(replicas: i32) -> ProcessView {
        ProcessView {
            replicas,
            build_id: "v2".into(),
            versioning: Versioning::None,
            ..ProcessView::default()
        }
    }

    fn routing(current: Option<&str>, ramping: Option<&str>, percent: i32) -> Routing {
        Routing {
            state: RoutingState::Known,
            current: current.map(str::to_owned),
            ramping: ramping.map(str::to_owned),
            percent,
            ..Routing::default()
        }
    }

    fn of(process: &ProcessView, routing: &Routing, build_id: &str) -> Option<(String, i32)> {
        placement(process, "p", routing, build_id, "p-12345678")
            .map(|placement| (placement.name, placement.replicas))
    }

    #[test]
    fn a_version_of_its_own_has_a_deployment_of_its_own() {
        for versioning in [
            Versioning::WorkerVersioning,
            Versioning::TaskQueuePerVersion,
        ] {
            let process = ProcessView {
                versioning,
                ..process(3)
            };
            let found = of(&process, &Routing::default(), "v1");
            assert_eq!(found, Some(("p-12345678".into(), 3)));
        }
    }

    #[test]
    fn pods_are_shared_by_weight() {
        for (replicas, percent, stable, canary) in [
            (10, 10, 9, 1),
            (10, 25, 7, 3),
            (10, 50, 5, 5),
            (10, 99, 1, 9),
            (4, 1, 3, 1),
            (2, 90, 1, 1),
            // A single pod is not taken away from what serves.
            (1, 10, 1, 1),
            (0, 50, 0, 0),
        ] {
            let routing = routing(Some("v1"), Some("v2"), percent);
            let process = process(replicas);
            let found = (of(&process, &routing, "v1"), of(&process, &routing, "v2"));
            let wanted = (
                Some(("p".to_owned(), stable)),
                Some(("p-canary".to_owned(), canary)),
            );
            assert_eq!(found, wanted, "{replicas} pods, {percent} %");
        }
    }

    #[test]
    fn a_version_without_a_share_has_no_pods() {
        let process = process(4);
        let routing = routing(Some("v1"), None, 0);
        assert_eq!(of(&process, &routing, "v2"), None);
        assert_eq!(of(&process, &routing, "v1"), Some(("p".into(), 4)));
    }

    #[test]
    fn the_first_version_and_one_being_promoted_take_the_deployment_that_stays() {
        let process = process(4);
        let first = routing(None, None, 0);
        assert_eq!(of(&process, &first, "v2"), Some(("p".into(), 4)));
        let promoting = Routing {
            promoting: Some("v2".into()),
            ..routing(Some("v1"), None, 0)
        };
        assert_eq!(of(&process, &promoting, "v2"), Some(("p".into(), 4)));
        assert_eq!(of(&process, &promoting, "v1"), None);
    }

    #[test]
    fn nothing_is_placed_by_a_routing_that_is_not_known() {
        let unknown = Routing::default();
        assert_eq!(of(&process(4), &unknown, "v2"), None);
    }
}
