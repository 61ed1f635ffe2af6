//! Schedules that start workflows on the task queue of a Process that goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use process_operator_workflows::contract::ProcessKey;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::IntoRequest;
use temporalio_common::protos::temporal::api::schedule::v1::{
    ScheduleListEntry, SchedulePatch, schedule_action::Action,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeScheduleRequest, ListSchedulesRequest, PatchScheduleRequest,
};

use super::{call, unless_gone};
use crate::context::Context;
use crate::error::Result;

/// Schedules on one page.
const PAGE: i32 = 200;
/// Pages looked at: ten thousand schedules.
const PAGES: usize = 50;
/// Looked at or paused side by side.
const AT_ONCE: usize = 8;

/// The schedules of a Temporal namespace, by what matters here.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    /// Ids of those that are not paused, by the task queue that they start workflows on.
    active: BTreeMap<String, Vec<String>>,
    /// Ids of those that a deletion has paused, by their note.
    paused: BTreeMap<String, Vec<String>>,
}

/// How all notes begin.
const NOTE: &str = "Paused by process-operator: Process ";

/// What a schedule says of why it is paused.
fn note(key: &ProcessKey) -> String {
    format!(
        "{NOTE}{}/{} (uid {}), which serves its task queue, is being deleted",
        key.namespace, key.name, key.uid
    )
}

/// Pauses the schedules that start workflows on a queue. The ids of all that are paused for this
/// Process, also by an earlier try.
pub(crate) async fn pause(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    queues: &[String],
) -> Result<Vec<String>> {
    let shared = context.schedules_of(namespace);
    let found = shared.ask(look(context, namespace)).await?;
    let note = note(key);
    let mut paused = found.paused.get(&note).cloned().unwrap_or_default();
    let active: Vec<String> = queues
        .iter()
        .filter_map(|queue| found.active.get(queue))
        .flatten()
        .cloned()
        .collect();
    let results = futures::stream::iter(active)
        .map(|id| {
            let note = note.clone();
            async move { patch(context, namespace, key, id, note).await }
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    for result in results {
        paused.extend(result?);
    }
    paused.sort();
    paused.dedup();
    Ok(paused)
}

/// Lists the schedules, and asks each one that is active for its queue: the list does not tell.
async fn look(context: &Context, namespace: &str) -> Result<Arc<Schedules>> {
    let mut found = Schedules::default();
    let mut next_page_token = Vec::new();
    for _ in 0..PAGES {
        context.read_turn(namespace).await;
        let request = ListSchedulesRequest {
            namespace: namespace.to_owned(),
            maximum_page_size: PAGE,
            next_page_token,
            ..Default::default()
        };
        let mut connection = context.connection.clone();
        let page = call(
            "list schedules",
            WorkflowService::list_schedules(&mut connection, request.into_request()),
        )
        .await?;
        let active = page
            .schedules
            .into_iter()
            .filter_map(|entry| found.sort(entry));
        let active: Vec<String> = active.collect();
        let queues = futures::stream::iter(active)
            .map(|id| queue_of(context, namespace, id))
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for queue in queues {
            if let Some((queue, id)) = queue? {
                found.active.entry(queue).or_default().push(id);
            }
        }
        next_page_token = page.next_page_token;
        if next_page_token.is_empty() {
            return Ok(Arc::new(found));
        }
    }
    tracing::warn!(
        temporal_namespace = namespace,
        "more schedules than are looked at: the rest is not paused"
    );
    Ok(Arc::new(found))
}

impl Schedules {
    /// Keeps one that a deletion has paused; gives back the id of one that is active.
    fn sort(&mut self, entry: ScheduleListEntry) -> Option<String> {
        let info = entry.info.unwrap_or_default();
        if !info.paused {
            return Some(entry.schedule_id);
        }
        if info.notes.starts_with(NOTE) {
            let paused = self.paused.entry(info.notes).or_default();
            paused.push(entry.schedule_id);
        }
        None
    }
}

/// The queue that a schedule starts workflows on. `None` when it is gone or paused by now, or starts
/// nothing.
async fn queue_of(
    context: &Context,
    namespace: &str,
    schedule_id: String,
) -> Result<Option<(String, String)>> {
    let request = DescribeScheduleRequest {
        namespace: namespace.to_owned(),
        schedule_id: schedule_id.clone(),
    };
    let mut connection = context.connection.clone();
    let answer = call(
        "look at a schedule",
        WorkflowService::describe_schedule(&mut connection, request.into_request()),
    )
    .await;
    let Some(found) = unless_gone(answer)? else {
        return Ok(None);
    };
    let schedule = found.schedule.unwrap_or_default();
    if schedule.state.is_some_and(|state| state.paused) {
        return Ok(None);
    }
    let action = schedule.action.and_then(|action| action.action);
    let Some(Action::StartWorkflow(starts)) = action else {
        return Ok(None);
    };
    let queue = starts.task_queue.map(|queue| queue.name);
    Ok(queue.map(|queue| (queue, schedule_id)))
}

/// Pauses one; its id, unless it is gone.
async fn patch(
    context: &Context,
    namespace: &str,
    key: &ProcessKey,
    schedule_id: String,
    note: String,
) -> Result<Option<String>> {
    let request = PatchScheduleRequest {
        namespace: namespace.to_owned(),
        schedule_id: schedule_id.clone(),
        patch: Some(SchedulePatch {
            pause: note,
            ..Default::default()
        }),
        identity: context.manager_identity(&key.uid),
        request_id: format!("{}/{schedule_id}/{}", key.uid, jiff::Timestamp::now()),
    };
    let mut connection = context.connection.clone();
    let answer = call(
        "pause a schedule",
        WorkflowService::patch_schedule(&mut connection, request.into_request()),
    )
    .await;
    Ok(unless_gone(answer)?.map(|_| schedule_id))
}
