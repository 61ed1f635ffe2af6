//! Whose words a status has: the operator's own, or somebody else's in their place.
//!
//! A write of status changes no generation, so nothing else tells of it. Two things do, both on the object
//! itself: others hold fields that are the operator's, and what the fields say has changed since the
//! operator wrote last.

use std::str::FromStr as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use process_operator_crds::status::ProcessStatus;
use process_operator_crds::{ConditionType, names};
use serde_json::{Map, Value};

use crate::build::hash;

/// The operator's part of a status as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorship {
    /// Mark of what it says.
    says: String,
    /// Mark of what it said when the operator's last write was first seen.
    said: String,
    /// When the operator wrote last, to the second.
    written: Option<Timestamp>,
    /// Who else holds a part of it, and since when.
    others: String,
}

impl Authorship {
    /// Reads it from an object.
    pub fn of(meta: &ObjectMeta, status: Option<&ProcessStatus>) -> Self {
        let entries = || {
            meta.managed_fields
                .iter()
                .flatten()
                .filter(|entry| about_status(entry))
        };
        let says = status.map(own_mark).unwrap_or_default();
        let others: Vec<String> = entries()
            .filter(|entry| !ours(entry) && holds_ours(entry))
            .map(|entry| {
                let since = entry.time.as_ref().map(|time| time.0).unwrap_or_default();
                format!("{} {since}", entry.manager.as_deref().unwrap_or_default())
            })
            .collect();
        Self {
            said: says.clone(),
            says,
            written: entries()
                .filter(|entry| ours(entry))
                .filter_map(|entry| Some(entry.time.as_ref()?.0))
                .max(),
            others: others.join(" "),
        }
    }

    /// The same, knowing what was seen before: without a new write of the operator it still said then
    /// what it said last.
    #[must_use]
    pub(crate) fn after(mut self, before: &Self) -> Self {
        // A replace leaves no word of when the operator wrote.
        if self.written == before.written || self.written.is_none() {
            self.said.clone_from(&before.said);
        }
        self
    }

    /// Mark of what others have put into the operator's part; `None` when all of it is the operator's own.
    /// `published`: mark of what this replica wrote last, perhaps twice in a second.
    pub(crate) fn foreign(&self, published: Option<&String>) -> Option<String> {
        let altered = self.says != self.said && published != Some(&self.says);
        match (altered, self.others.as_str()) {
            (false, "") => None,
            (false, others) => Some(others.to_owned()),
            (true, others) => Some(format!("{others} {}", self.says)),
        }
    }
}

/// Mark of the operator's part of a status: conditions of other types are somebody else's.
pub(crate) fn own_mark(status: &ProcessStatus) -> String {
    let mut own = status.clone();
    own.conditions
        .retain(|condition| ConditionType::from_str(&condition.type_).is_ok());
    hash::short(&serde_json::to_vec(&own).unwrap_or_default())
}

fn about_status(entry: &ManagedFieldsEntry) -> bool {
    entry.subresource.as_deref() == Some("status")
}

fn ours(entry: &ManagedFieldsEntry) -> bool {
    matches!(
        entry.manager.as_deref(),
        Some(names::manager::OPERATOR | names::manager::WATCHER)
    )
}

/// Whether a manager holds anything in status but conditions of types that are not the operator's.
fn holds_ours(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref();
    let status = fields.and_then(|fields| fields.0.get("f:status")?.as_object());
    let Some(status) = status else { return false };
    status.iter().any(|(field, held)| match field.as_str() {
        "." => false,
        "f:conditions" => held.as_object().is_some_and(holds_our_condition),
        _ => true,
    })
}

/// Conditions are listed by their key, as in `k:{"type":"Ready"}`.
fn holds_our_condition(conditions: &Map<String, Value>) -> bool {
    let of_type = |key: &str| -> Option<String> {
        let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
        Some(key["type"].as_str()?.to_owned())
    };
    conditions
        .keys()
        .filter_map(|key| of_type(key))
        .any(|type_| ConditionType::from_str(&type_).is_ok())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, Time};
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, second: i64, status: &Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.into()),
            subresource: Some("status".into()),
            time: Some(Time(Timestamp::from_second(second).unwrap())),
            fields_v1: Some(FieldsV1(json!({ "f:status": status }))),
            ..ManagedFieldsEntry::default()
        }
    }

    fn seen(queue: &str, entries: Vec<ManagedFieldsEntry>) -> Authorship {
        let meta = ObjectMeta {
            managed_fields: Some(entries),
            ..ObjectMeta::default()
        };
        let status = ProcessStatus {
            task_queue: Some(queue.into()),
            ..ProcessStatus::default()
        };
        Authorship::of(&meta, Some(&status))
    }

    fn ours(second: i64) -> ManagedFieldsEntry {
        entry(
            names::manager::OPERATOR,
            second,
            &json!({ "f:taskQueue": {} }),
        )
    }

    #[test]
    fn what_the_operator_wrote_is_its_own() {
        let first = seen("a", vec![ours(1)]);
        assert_eq!(first.foreign(None), None);
        let second = seen("b", vec![ours(2)]).after(&first);
        assert_eq!(second.foreign(None), None);
    }

    #[test]
    fn a_change_without_a_write_of_the_operator_is_foreign_until_its_next() {
        let first = seen("a", vec![ours(1)]);
        let edited = seen("b", vec![ours(1)]).after(&first);
        let mark = edited.foreign(None).unwrap();
        let again = seen("b", vec![ours(1)]).after(&edited);
        assert_eq!(again.foreign(None).as_ref(), Some(&mark), "the same mark");
        let other = seen("c", vec![ours(1)]).after(&again);
        assert_ne!(other.foreign(None), Some(mark), "another edit");
        let restored = seen("a", vec![ours(2)]).after(&other);
        assert_eq!(restored.foreign(None), None);
    }

    #[test]
    fn what_was_taken_away_as_a_whole_is_foreign_too() {
        let first = seen("a", vec![ours(1)]);
        let emptied = seen("", Vec::new()).after(&first);
        assert!(emptied.foreign(None).is_some());
        assert_eq!(
            seen("", Vec::new()).foreign(None),
            None,
            "nobody has written yet"
        );
    }

    #[test]
    fn two_writes_in_one_second_are_known_by_what_was_published() {
        let first = seen("a", vec![ours(1)]);
        let second = seen("b", vec![ours(1)]).after(&first);
        let published = second.says.clone();
        assert_eq!(second.foreign(Some(&published)), None);
        assert!(second.foreign(Some(&first.says)).is_some());
    }

    #[test]
    fn who_holds_a_field_of_ours_is_named_also_without_a_view_from_before() {
        let held = [
            json!({ "f:history": {} }),
            json!({ "f:conditions": { "k:{\"type\":\"Ready\"}": { "f:status": {} } } }),
        ];
        for held in held {
            let found = seen("a", vec![ours(1), entry("kubectl-patch", 5, &held)]);
            let mark = found.foreign(None).unwrap();
            assert!(mark.contains("kubectl-patch"), "{mark}");
        }
    }

    #[test]
    fn a_condition_of_another_type_is_not_ours() {
        let held = json!({ ".": {}, "f:conditions": { ".": {}, "k:{\"type\":\"Scanned\"}": { ".": {} } } });
        let found = seen("a", vec![ours(1), entry("scanner", 5, &held)]);
        assert_eq!(found.foreign(None), None);
        let mut status = ProcessStatus::default();
        let bare = own_mark(&status);
        let scanned = json!([{
            "type": "Scanned", "status": "True", "reason": "Clean", "message": "",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }]);
        status.conditions = serde_json::from_value(scanned).unwrap();
        assert_eq!(own_mark(&status), bare);
    }
}
