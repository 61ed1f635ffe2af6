//! What is kept of a Process that the watch shows.

use kube::Resource as _;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use process_operator_activities::authorship::Authorship;
use process_operator_activities::cache::{Draining, Neighbour, Unreachable};
use process_operator_activities::definition;
use process_operator_activities::dependencies::needed;
use process_operator_activities::registry::Source;
use process_operator_crds::status::DrainingVersion;
use process_operator_crds::{ConditionType, Process, conditions, names};
use process_operator_workflows::plan::fingerprint;

/// `None` for an object without a namespace or uid, which no API server shows.
pub(super) fn neighbour(object: &DeserializeGuard<Process>) -> Option<Neighbour> {
    let process = object.0.as_ref().ok();
    let status = process.and_then(|process| process.status.as_ref());
    // The reason of a condition, if it is so.
    let says = |kind: ConditionType, so: &str| {
        let found = conditions::find(&status?.conditions, kind)?;
        (found.status == so).then(|| found.reason.clone())
    };
    let stalled = says(ConditionType::Stalled, "True");
    let reachable = status
        .and_then(|status| conditions::find(&status.conditions, ConditionType::TemporalReachable));
    Some(Neighbour {
        namespace: object.namespace()?,
        name: object.name_any(),
        uid: object.uid()?,
        created: object
            .creation_timestamp()
            .map(|time| time.0)
            .unwrap_or_default(),
        generation: object.meta().generation.unwrap_or(0),
        deleting: object.meta().deletion_timestamp.is_some(),
        finalizer: object
            .finalizers()
            .iter()
            .any(|name| name == names::finalizer::PROCESS),
        forced: names::annotation::lets_go(object.annotations()),
        temporal_namespace: process
            .map(|process| process.spec.temporal.namespace.clone())
            .unwrap_or_default(),
        task_queue: process
            .map(|process| process.spec.temporal.task_queue.clone())
            .unwrap_or_default(),
        versioning: process
            .map(|process| process.spec.rollout.versioning)
            .unwrap_or_default(),
        depends: process.map(needed).unwrap_or_default(),
        depends_ready: status
            .and_then(|status| {
                conditions::find(&status.conditions, ConditionType::DependenciesReady)
            })
            .filter(|found| found.status != "Unknown")
            .map(|found| (found.status == "True", found.message.clone())),
        // What other controllers have added would be label values without end.
        conditions: status
            .into_iter()
            .flat_map(|status| &status.conditions)
            .filter(|condition| condition.type_.parse::<ConditionType>().is_ok())
            .map(|condition| (condition.type_.clone(), condition.status.clone()))
            .collect(),
        draining: status
            .into_iter()
            .flat_map(|status| &status.draining)
            .filter_map(draining)
            .collect(),
        rolling: status.is_some_and(|status| status.rollout.is_some()),
        definition: process.and_then(|process| definition::named(process, &process.name_any())),
        source: process.and_then(Source::of),
        resolved: status
            .and_then(|status| {
                conditions::find(&status.conditions, ConditionType::DefinitionResolved)
            })
            .map(|found| (found.reason.clone(), found.message.clone()))
            .unwrap_or_default(),
        definition_version: status
            .and_then(|status| status.definition.as_ref())
            .and_then(|definition| definition.version),
        checksum: status
            .and_then(|status| status.definition.as_ref())
            .map(|definition| definition.checksum.clone())
            .unwrap_or_default(),
        current: status
            .and_then(|status| status.current_version.as_ref())
            .map(|version| version.build_id.clone()),
        target: status
            .and_then(|status| status.target_version.as_ref())
            .map(|version| version.build_id.clone()),
        ready: status
            .into_iter()
            .flat_map(|status| [&status.current_version, &status.target_version])
            .flatten()
            .map(|version| (version.build_id.clone(), version.ready_replicas))
            .collect(),
        stalled,
        request: object
            .annotations()
            .get(names::annotation::REQUEST)
            .map(|text| fingerprint(text))
            .unwrap_or_default(),
        authorship: Authorship::of(object.meta(), status),
        unreachable: reachable
            .filter(|condition| condition.status == "False")
            .map(|condition| Unreachable {
                reason: condition.reason.clone(),
                message: condition.message.clone(),
                since: condition.last_transition_time.0,
            }),
        degraded: says(ConditionType::Degraded, "True").is_some(),
        worked_from: status
            .and_then(|status| status.workflow.as_ref())
            .map(|workflow| workflow.namespace.clone()),
        resource_version: object.resource_version().unwrap_or_default(),
    })
}

fn draining(version: &DrainingVersion) -> Option<Draining> {
    Some(Draining {
        build_id: version.build_id.clone(),
        since: version.since.as_ref()?.0,
        deadline: version.deadline.as_ref().map(|time| time.0),
        open: version.open_workflows.map_or(0, i64::from),
    })
}
