//! Events about conditions that the watcher has a part in: one for each transition, whoever wrote it and
//! however many replicas see it.

use process_operator_activities::Meter as _;
use process_operator_activities::cache::Neighbour;
use process_operator_activities::events::{self, Note};
use process_operator_workflows::contract::EventType;

use super::{Shared, answered};

/// `TemporalReachable` has become False, or is so no more. Times of transitions are whole seconds, so what
/// comes again within one is told once.
pub(super) fn reachable(shared: &Shared, before: &Neighbour, now: &Neighbour) {
    let (was, is) = (&before.unreachable, &now.unreachable);
    let (since, kind, reason, text) = match (was, is) {
        (None, Some(is)) => (
            is.since,
            EventType::Warning,
            "TemporalUnreachable",
            is.message.clone(),
        ),
        (Some(was), None) => (
            was.since,
            EventType::Normal,
            "TemporalReachable",
            "Temporal answers again".to_owned(),
        ),
        _ => return,
    };
    let id = format!("{}/{reason}/{since}", now.uid);
    record(shared, Note::new(id, now.key(), kind, reason, text));
}

/// Records an Event, beside everything else.
pub(super) fn record(shared: &Shared, note: Note) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let recorded = events::create(&shared.client, &shared.config.instance, &note);
        match answered(recorded).await {
            Ok(true) => shared.metrics.event(&note.reason),
            Ok(false) => {}
            Err(error) => tracing::warn!(
                process = note.key.name,
                namespace = note.key.namespace,
                reason = note.reason,
                "Event not recorded: {error}"
            ),
        }
    });
}
