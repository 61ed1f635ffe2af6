//! What the ConfigMaps with fetched definitions say, and what is written into them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use process_operator_activities::build::belongs;
use process_operator_activities::build::fetched::{self, Kept, Outcome};
use process_operator_activities::cache::Neighbour;
use process_operator_crds::names;
use process_operator_workflows::contract::ProcessKey;

use super::{Shared, answered};

/// What the ConfigMaps say, by namespace and name, with the mark of the source that is meant.
pub(in super::super) type Known = Arc<Mutex<HashMap<(String, String), Entry>>>;

/// What one ConfigMap says.
#[derive(Debug, Clone)]
pub(in super::super) struct Entry {
    pub(super) mark: String,
    pub(super) kept: Kept,
    /// It is somebody else's.
    pub(super) foreign: bool,
}

pub(super) fn remember(
    shared: &Shared,
    process: &Neighbour,
    mark: &str,
    found: Option<&ConfigMap>,
) -> Entry {
    let key = process.key();
    let entry = Entry {
        mark: mark.to_owned(),
        kept: found.map(|found| Kept::of(found, mark)).unwrap_or_default(),
        foreign: found.is_some_and(|found| foreign(&key, found)),
    };
    let mut known = shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
    known.insert(about(process), entry.clone());
    entry
}

fn foreign(key: &ProcessKey, found: &ConfigMap) -> bool {
    !belongs(key, &found.metadata) && !fetched::left(found)
}

pub(super) fn about(process: &Neighbour) -> (String, String) {
    (
        process.namespace.clone(),
        names::fetched_name(&process.name),
    )
}

/// What the ConfigMaps say: as the watch has shown it, or read where it has not yet.
pub(super) async fn look(
    shared: &Shared,
    mark: &str,
    processes: &[Neighbour],
) -> kube::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for process in processes {
        let known = {
            let known = shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&about(process)).cloned()
        };
        let entry = if let Some(entry) = known.filter(|entry| entry.mark == mark) {
            entry
        } else {
            let found = answered(api(shared, process).get_opt(&about(process).1)).await?;
            remember(shared, process, mark, found.as_ref())
        };
        entries.push(entry);
    }
    Ok(entries)
}

fn api(shared: &Shared, process: &Neighbour) -> Api<ConfigMap> {
    Api::namespaced(shared.client.clone(), &process.namespace)
}

/// The `ETag` that all have.
pub(super) fn common(entries: &[Entry]) -> Option<String> {
    let mut own = entries.iter().filter(|entry| !entry.foreign);
    let first = own.next()?.kept.etag.clone()?;
    own.all(|entry| entry.kept.etag.as_ref() == Some(&first))
        .then_some(first)
}

/// Whether the ConfigMap needs no look before this is known to be in it. The words of a failure may differ
/// from one time to the next; its kind is what is told.
pub(super) fn says_already(
    shared: &Shared,
    process: &Neighbour,
    mark: &str,
    outcome: Outcome<'_>,
) -> bool {
    let known = shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = known.get(&about(process));
    let Some(entry) = entry.filter(|entry| entry.mark == mark) else {
        return false;
    };
    let failed = entry.kept.failure.as_ref().map(|failure| failure.reason);
    match outcome {
        _ if entry.foreign => true,
        Outcome::Unchanged => failed.is_none(),
        Outcome::Failed(failure) => failed == Some(failure.trouble.reason()),
        Outcome::Fetched(definition) => {
            let wanted = fetched::with(&process.key(), mark, outcome, None);
            let wanted = Kept::of(&wanted, mark);
            failed.is_none()
                && entry.kept.checksum == wanted.checksum
                && entry.kept.version == definition.version
                && entry.kept.unversioned == definition.unversioned
                && entry.kept.etag == definition.etag
        }
    }
}

pub(super) async fn keep(
    shared: &Shared,
    process: &Neighbour,
    mark: &str,
    outcome: Outcome<'_>,
) -> kube::Result<()> {
    let api = api(shared, process);
    let (key, (_, name)) = (process.key(), about(process));
    let found = answered(api.get_opt(&name)).await?;
    let entry = remember(shared, process, mark, found.as_ref());
    if entry.foreign {
        return Ok(());
    }
    let wanted = fetched::with(&key, mark, outcome, found.as_ref());
    let written = match &found {
        // Gone meanwhile: the next question is for all of it.
        None if matches!(outcome, Outcome::Unchanged) => return Ok(()),
        None => {
            let params = PostParams {
                field_manager: Some(names::manager::OPERATOR.into()),
                ..PostParams::default()
            };
            answered(api.create(&params, &wanted)).await?
        }
        Some(found) => {
            let Some(change) = fetched::change(found, &wanted) else {
                return Ok(());
            };
            let params = PatchParams {
                field_manager: Some(names::manager::OPERATOR.into()),
                ..PatchParams::default()
            };
            answered(api.patch(&name, &params, &Patch::Merge(&change))).await?
        }
    };
    remember(shared, process, mark, Some(&written));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_have_is_asked_with() {
        let with = |etag: &str, foreign| Entry {
            mark: "m".into(),
            kept: Kept {
                etag: Some(etag.to_owned()).filter(|etag| !etag.is_empty()),
                ..Kept::default()
            },
            foreign,
        };
        assert_eq!(common(&[with("a", false)]).as_deref(), Some("a"));
        assert_eq!(
            common(&[with("a", false), with("x", true)]).as_deref(),
            Some("a")
        );
        assert_eq!(common(&[with("a", false), with("b", false)]), None);
        assert_eq!(common(&[with("a", false), with("", false)]), None);
        assert_eq!(common(&[]), None);
    }
}
