//! What is said when the time is up.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{WaitServingInput, WaitServingOutcome};
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueType;

use super::{missing, pods_of, served, workload_name};
use crate::cache::Workload;
use crate::context::Context;
use crate::error::{Fault, Result, within};
use crate::pods;
use crate::temporal::versions;
use crate::watched::workload;

/// What a version polls of what it has to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Polls {
    All,
    /// What the version that serves polls besides.
    Lacks(Vec<String>),
    Nothing,
    /// It cannot be found out.
    Hidden(String),
}

/// What was missing when the time was up, unless nothing is.
pub(super) async fn late(
    context: &Context,
    input: &WaitServingInput,
) -> Result<WaitServingOutcome> {
    let seen = deployment(context, input).await?;
    let mut found = Polls::Nothing;
    if seen.as_ref().is_some_and(|seen| seen.available) {
        found = match polls(context, input).await {
            Ok(Polls::All) => return served(context, input).await,
            Ok(polls) => polls,
            // Nothing is known against the version: the next try looks.
            Err(fault) if is_away(&fault) => return Err(fault),
            Err(fault) => Polls::Hidden(fault.message),
        };
    }
    let pods = pods::trouble(context, pods_of(input)).await;
    let message = shortcoming(input, seen.as_ref(), &found, &pods);
    Ok(WaitServingOutcome {
        category: Some(ErrorCategory::ProgressDeadlineExceeded),
        message: format!("progress deadline exceeded: {message}"),
        ..WaitServingOutcome::default()
    })
}

/// By the watcher's cache if that knows of ready pods: it may be behind, and empty in a process that has just started.
async fn deployment(context: &Context, input: &WaitServingInput) -> Result<Option<Workload>> {
    let (namespace, name) = (&input.key.namespace, workload_name(input));
    let ours = |seen: &Workload| seen.owner_uid == input.key.uid;
    let cached = context.cache.workload(namespace, name).filter(ours);
    if cached.as_ref().is_some_and(|seen| seen.available) {
        return Ok(cached);
    }
    let api: Api<Deployment> = Api::namespaced(context.kube.clone(), namespace);
    match within(async { Ok(api.get_opt(name).await?) }).await {
        Ok(found) => Ok(found.as_ref().and_then(workload).filter(ours)),
        Err(_) if cached.is_some() => Ok(cached),
        Err(fault) => Err(fault),
    }
}

fn is_away(fault: &Fault) -> bool {
    matches!(
        fault.category,
        ErrorCategory::TemporalUnavailable | ErrorCategory::RateLimited
    )
}

async fn polls(context: &Context, input: &WaitServingInput) -> Result<Polls> {
    let namespace = &input.temporal_namespace;
    let polls = |so: bool| if so { Polls::All } else { Polls::Nothing };
    if !input.versioning.is_default() {
        let pollers = versions::unversioned_pollers(context, namespace, &input.task_queue);
        return Ok(polls(pollers.await? > 0));
    }
    let record = versions::record(context, namespace, &input.key, &input.build_id).await?;
    // With no queue at all it polls nothing, which the message for ready pods says.
    let Some(record) = record.filter(|record| !record.queues.is_empty()) else {
        return Ok(Polls::Nothing);
    };
    let lacks = missing(context, input, &record).await?;
    if !lacks.is_empty() {
        return Ok(Polls::Lacks(lacks));
    }
    let queue = (input.task_queue.clone(), TaskQueueType::Workflow);
    Ok(polls(record.queues.contains(&queue)))
}

fn shortcoming(
    input: &WaitServingInput,
    seen: Option<&Workload>,
    polls: &Polls,
    pods: &str,
) -> String {
    let (name, build_id) = (workload_name(input), &input.build_id);
    let Some(seen) = seen else {
        return format!("there is no Deployment {name}");
    };
    if !seen.available {
        let (ready, all) = (seen.ready_replicas, seen.replicas);
        return format!("{ready}/{all} pods of {name} are ready{pods}");
    }
    match polls {
        Polls::Lacks(lacks) => format!(
            "no worker of {build_id} polls what {} polls: {}",
            input.stable.as_deref().unwrap_or_default(),
            lacks.join(", ")
        ),
        Polls::Hidden(why) => {
            format!("the pods of {name} are ready, but what they poll cannot be read: {why}")
        }
        Polls::All | Polls::Nothing => format!(
            "the pods of {name} are ready, but no worker of {build_id} polls {}",
            input.task_queue
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missing_is_said_by_what_came_last() {
        let input = WaitServingInput {
            build_id: "v2".into(),
            deployment_name: "l2o-2".into(),
            task_queue: "q".into(),
            stable: Some("v1".into()),
            ..WaitServingInput::default()
        };
        let of = |available: bool| Workload {
            available,
            ready_replicas: 1,
            replicas: 2,
            ..Workload::default()
        };
        let lacks = Polls::Lacks(vec!["mail".into(), "bills".into()]);
        let hidden = Polls::Hidden("not allowed".into());
        for (seen, polls, expected) in [
            (None, &Polls::Nothing, "there is no Deployment l2o-2"),
            (
                Some(of(false)),
                &Polls::Nothing,
                "1/2 pods of l2o-2 are ready: pod p waits",
            ),
            (
                Some(of(true)),
                &Polls::Nothing,
                "the pods of l2o-2 are ready, but no worker of v2 polls q",
            ),
            (
                Some(of(true)),
                &lacks,
                "no worker of v2 polls what v1 polls: mail, bills",
            ),
            (
                Some(of(true)),
                &hidden,
                "the pods of l2o-2 are ready, but what they poll cannot be read: not allowed",
            ),
        ] {
            let said = shortcoming(&input, seen.as_ref(), polls, ": pod p waits");
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn only_a_server_that_is_away_puts_the_answer_off() {
        for (category, expected) in [
            (ErrorCategory::TemporalUnavailable, true),
            (ErrorCategory::RateLimited, true),
            (ErrorCategory::Forbidden, false),
            (ErrorCategory::NamespaceNotFound, false),
        ] {
            assert_eq!(is_away(&Fault::new(category, "")), expected, "{category}");
        }
    }
}
