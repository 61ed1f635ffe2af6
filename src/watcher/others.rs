//! Whether somebody else does the same work: another installation in the operator's Temporal namespace, or
//! an operator with another Temporal namespace that looks after the same Processes. Neither is mended here;
//! both are said.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use process_operator_activities::cache::Neighbour;
use process_operator_activities::events::Note;
use process_operator_workflows::contract::EventType;

use super::{Shared, transitions};
use crate::installation;

/// For so long a Process counts as contested after the last write of another operator.
const LATELY: Duration = Duration::from_secs(600);

/// When an operator elsewhere last wrote the status of a Process after this one, by uid.
#[derive(Clone, Default)]
pub(super) struct Contested(Arc<Mutex<HashMap<String, Instant>>>);

/// Looks at each sweep who works in the operator's Temporal namespace.
pub(super) async fn run(shared: Shared) {
    let Some(link) = shared.link().await else {
        return;
    };
    let namespace = &shared.config.temporal_namespace;
    let mut known = BTreeSet::new();
    loop {
        tokio::time::sleep(shared.config.sweep()).await;
        count(&shared, |_| ());
        // While Temporal is away it is not known.
        let found = installation::others(&link.connection, namespace, &link.installation).await;
        let Ok(found) = found else { continue };
        shared.metrics.others(found.len());
        if found != known && !found.is_empty() {
            tracing::error!("{}", installation::told(namespace, &found));
        }
        known = found;
    }
}

/// The status of a Process that told of a lifecycle of ours tells of one elsewhere. One that has moved here
/// with its operator does not: there the change goes the other way.
pub(super) fn seen(shared: &Shared, before: &Neighbour, now: &Neighbour) {
    let own = &shared.config.temporal_namespace;
    let Some(other) = now.worked_from.as_ref().filter(|other| *other != own) else {
        return;
    };
    if before.worked_from.as_ref() != Some(own) {
        return;
    }
    count(shared, |contested| {
        contested.insert(now.uid.clone(), Instant::now());
    });
    let text = format!(
        "an operator with Temporal namespace {other} looks after this Process too, beside the one with {own}: \
         let each Kubernetes namespace be watched by one only (--watch-namespace)"
    );
    tracing::error!(process = now.name, namespace = now.namespace, "{text}");
    let id = format!("{}/OtherOperator/{own}/{other}", now.uid);
    let note = Note::new(id, now.key(), EventType::Warning, "OtherOperator", text);
    transitions::record(shared, note);
}

/// Changes what is known, without what is long past, and shows how much it is.
fn count(shared: &Shared, change: impl FnOnce(&mut HashMap<String, Instant>)) {
    let mut contested = shared
        .contested
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    contested.retain(|_, at| at.elapsed() < LATELY);
    change(&mut contested);
    let count = i64::try_from(contested.len()).unwrap_or(i64::MAX);
    shared.metrics.contested.set(count);
}
