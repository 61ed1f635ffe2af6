//! Publishes status, only when it says something else than before.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use process_operator_crds::conditions::{
    ConditionStatus, NewCondition, find, is_true, merge_conditions, own_conditions, truncate,
};
use process_operator_crds::crd::PENDING_MESSAGE;
use process_operator_crds::status::{
    DefinitionStatus, DrainingVersion, HistoryEntry, MAX_DRAINING, ProcessStatus, RequestStatus,
    RolloutStatus, VersionStatus as Published, WorkflowRef,
};
use process_operator_crds::{ConditionType, ErrorCategory, Process, Reason, names};
use process_operator_workflows::contract::{
    Decided, FailedVersion, LastRequest, ProcessKey, RolloutView, StatusView, StepFailure,
    Transition, Undone, VersionStatus, VersionView,
};
use serde_json::json;
use strum::IntoEnumIterator as _;

use crate::authorship::own_mark;
use crate::build::hash;
use crate::context::Context;
use crate::error::{Fault, Result};

pub(crate) async fn publish(
    context: &Context,
    process: &Process,
    key: &ProcessKey,
    view: &StatusView,
    now: jiff::Timestamp,
) -> Result<String> {
    let old = process.status.clone().unwrap_or_default();
    let new = render(&old, view, now);
    if same(&old, &new) {
        return Ok(mark(&old));
    }
    let mut mine = new;
    // A condition of somebody else is left to its manager.
    mine.conditions = own_conditions(&old.conditions, &view.conditions, now);
    apply(context, process, key, &mine).await
}

/// Puts into what was published last that it does not go on. Everything else in it stays: nothing newer is
/// known, and what is left out of an apply is given up.
pub(crate) async fn tell_failure(
    context: &Context,
    process: &Process,
    key: &ProcessKey,
    failure: &StepFailure,
    now: jiff::Timestamp,
) -> Result<()> {
    let old = process.status.clone().unwrap_or_default();
    let new = ProcessStatus {
        conditions: hindered(&old, process, failure, now),
        ..old.clone()
    };
    if !same(&old, &new) {
        apply(context, process, key, &new).await?;
    }
    Ok(())
}

/// The operator's conditions with what fails in them.
fn hindered(
    old: &ProcessStatus,
    process: &Process,
    failure: &StepFailure,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let generation = process.metadata.generation.unwrap_or(0);
    let reason = failure.category.reason();
    let about =
        |kind, status: bool| NewCondition::new(kind, status, reason, &failure.message, generation);
    let mut told = vec![about(ConditionType::Degraded, true)];
    // It is tried again; but who waits for a person waits for him still.
    if !is_true(&old.conditions, ConditionType::Stalled) {
        told.push(about(ConditionType::Reconciling, true));
    }
    // As the definition of the resource has it, or not at all: nobody has ever looked.
    let ready = find(&old.conditions, ConditionType::Ready);
    if ready.is_none_or(|ready| ready.status == "Unknown") {
        told.push(about(ConditionType::Ready, false));
    }
    // Nobody has looked at the rest, when it is a first look that fails: what is not there cannot be waited for.
    for kind in ConditionType::iter() {
        let known = find(&old.conditions, kind).is_some() || told.iter().any(|it| it.type_ == kind);
        if !known {
            let unknown = ConditionStatus::Unknown;
            told.push(NewCondition::new(
                kind,
                unknown,
                Reason::Pending,
                PENDING_MESSAGE,
                generation,
            ));
        }
    }
    let mut all = merge_conditions(&old.conditions, &told, now);
    all.retain(|condition| condition.type_.parse::<ConditionType>().is_ok());
    all
}

/// Applies the operator's part of a status; the mark of the whole one after that.
async fn apply(
    context: &Context,
    process: &Process,
    key: &ProcessKey,
    mine: &ProcessStatus,
) -> Result<String> {
    let patch = json!({
        "apiVersion": "ameide.io/v1",
        "kind": "Process",
        // The API server ignores a uid in writes of status: only the version keeps them off a
        // successor of the same name.
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "resourceVersion": process.metadata.resource_version,
        },
        "status": mine,
    });
    let params = PatchParams::apply(names::manager::OPERATOR).force();
    match context
        .processes(&key.namespace)
        .patch_status(&key.name, &params, &Patch::Apply(&patch))
        .await
    {
        Ok(published) => {
            let status = published.data.get("status");
            let status: Option<ProcessStatus> =
                status.and_then(|status| serde_json::from_value(status.clone()).ok());
            let Some(status) = status else {
                return Ok(String::new());
            };
            // Asked for by the watcher, which sees the same write.
            context.cache.published(&key.uid, own_mark(&status));
            Ok(mark(&status))
        }
        // Gone meanwhile: nobody is left to read it.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(String::new()),
        Err(error) => Err(Fault::from(error).about("publishing status")),
    }
}

fn render(old: &ProcessStatus, view: &StatusView, now: jiff::Timestamp) -> ProcessStatus {
    ProcessStatus {
        observed_generation: Some(view.observed_generation),
        conditions: merge_conditions(&old.conditions, &view.conditions, now),
        current_version: view.current.as_ref().map(version),
        target_version: view.target.as_ref().map(version),
        draining: view
            .draining
            .iter()
            .take(MAX_DRAINING)
            .map(draining)
            .collect(),
        task_queue: Some(view.task_queue.clone()).filter(|queue| !queue.is_empty()),
        workflow: Some(WorkflowRef {
            namespace: view.workflow[0].clone(),
            id: view.workflow[1].clone(),
            run_id: Some(view.workflow[2].clone()).filter(|run_id| !run_id.is_empty()),
        }),
        rollout: view.rollout.as_ref().map(rollout),
        definition: view.definition.as_ref().map(|definition| DefinitionStatus {
            version: definition.version,
            checksum: definition.checksum.clone(),
        }),
        last_request: view.last_request.as_ref().map(request),
        history: view.history.iter().map(history).collect(),
        replicas: Some(view.replicas),
        selector: Some(view.selector.clone()).filter(|selector| !selector.is_empty()),
        version_count: Some(view.version_count),
    }
}

/// Mark of a status: another status has another one.
pub(crate) fn mark(status: &ProcessStatus) -> String {
    hash::short(&serde_json::to_vec(status).unwrap_or_default())
}

/// Compared as JSON: what is not written is not a difference.
fn same(old: &ProcessStatus, new: &ProcessStatus) -> bool {
    serde_json::to_value(old).ok() == serde_json::to_value(new).ok()
}

fn version(view: &VersionStatus) -> Published {
    Published {
        build_id: view.build_id.clone(),
        image: view.image.clone(),
        deployment_name: view.deployment_name.clone(),
        replicas: view.replicas,
        ready_replicas: view.ready_replicas,
        since: view.since.map(Time),
    }
}

fn rollout(view: &RolloutView) -> RolloutStatus {
    RolloutStatus {
        stage: view.stage.clone(),
        step: view.step,
        steps: view.steps,
        weight: view.weight,
        next_step_time: view.next_step_time.map(Time),
        started_time: view.started_time.map(Time),
        deadline: view.deadline.map(Time),
        message: truncate(&view.message, 1024).to_owned(),
    }
}

/// The two results of a request.
const ACCEPTED: &str = "Accepted";
const REFUSED: &str = "Refused";

fn request(view: &LastRequest) -> RequestStatus {
    RequestStatus {
        id: truncate(&view.id, 128).to_owned(),
        verb: truncate(&view.verb, 64).to_owned(),
        result: if view.accepted { ACCEPTED } else { REFUSED }.to_owned(),
        message: truncate(&view.message, 1024).to_owned(),
        time: Time(view.time),
    }
}

/// The last request of a published status.
pub(crate) fn last_request(status: &ProcessStatus) -> Option<LastRequest> {
    let published = status.last_request.as_ref()?;
    Some(LastRequest {
        id: published.id.clone(),
        verb: published.verb.clone(),
        accepted: published.result == ACCEPTED,
        message: published.message.clone(),
        time: published.time.0,
    })
}

fn draining(view: &VersionStatus) -> DrainingVersion {
    let drain = view.drain.as_ref();
    DrainingVersion {
        build_id: view.build_id.clone(),
        deployment_name: view.deployment_name.clone(),
        since: view.since.map(Time),
        deadline: drain.and_then(|drain| drain.deadline).map(Time),
        open_workflows: drain
            .and_then(|drain| drain.open)
            .map(|open| i64::try_from(open).unwrap_or(i64::MAX)),
        oldest_start_time: drain.and_then(|drain| drain.oldest).map(Time),
        on_timeout: drain.map(|drain| drain.on_timeout),
    }
}

fn history(transition: &Transition) -> HistoryEntry {
    let some = |text: &str, most: usize| {
        let cut = truncate(text, most);
        (!cut.is_empty()).then(|| cut.to_owned())
    };
    HistoryEntry {
        time: Time(transition.time),
        what: transition.what.clone(),
        build_id: some(&transition.build_id, 255),
        reason: some(&transition.reason, 1024),
        actor: some(&transition.actor, 256),
    }
}

/// The transitions of a published status, and the run that published it: what a lifecycle without
/// memory goes on from.
pub(crate) fn published(status: &ProcessStatus) -> (String, Vec<Transition>) {
    let run = status
        .workflow
        .as_ref()
        .and_then(|workflow| workflow.run_id.clone());
    let entry = |entry: &HistoryEntry| Transition {
        time: entry.time.0,
        what: entry.what.clone(),
        build_id: entry.build_id.clone().unwrap_or_default(),
        reason: entry.reason.clone().unwrap_or_default(),
        actor: entry.actor.clone().unwrap_or_default(),
    };
    (
        run.unwrap_or_default(),
        status.history.iter().map(entry).collect(),
    )
}

/// What was decided about versions: what a lifecycle without memory must not undo.
pub(crate) fn decided(status: &ProcessStatus, versions: &BTreeMap<String, VersionView>) -> Decided {
    let told = |kind: ConditionType| {
        let found = find(&status.conditions, kind);
        found.map_or(("", ""), |condition| {
            (&*condition.reason, &*condition.message)
        })
    };
    let (reason, message) = told(ConditionType::Degraded);
    let given_up = told(ConditionType::Progressing).0 == Reason::RolloutAborted.as_str();
    // Something else that is wrong can stand before it in Degraded.
    let category = reason
        .parse::<ErrorCategory>()
        .ok()
        .filter(|category| !category.retryable())
        .or(given_up.then_some(ErrorCategory::RolloutAborted));
    let last = status.history.iter().rfind(|entry| {
        matches!(
            &*entry.what,
            "RolloutFailed"
                | "RolloutStarted"
                | "RollbackStarted"
                | "VersionCurrent"
                | "RetryRequested"
                | "UndoRequested"
        )
    });
    let failed = last.filter(|last| last.what == "RolloutFailed");
    Decided {
        failed: failed.zip(category).map(|(entry, category)| {
            let build_id = entry.build_id.clone().unwrap_or_default();
            let deployment = versions
                .get(&build_id)
                .and_then(|version| version.deployment.as_ref());
            FailedVersion {
                category,
                message: entry.reason.clone().unwrap_or_default(),
                available: deployment.is_some_and(|deployment| deployment.available),
                build_id,
            }
        }),
        undone: (reason == Reason::Undone.as_str())
            .then(|| Undone::from_text(message))
            .flatten(),
    }
}

#[cfg(test)]
mod tests;
