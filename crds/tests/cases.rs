//! The table of accepted and refused writes, as far as it can be checked without an API server.

use std::collections::BTreeSet;

use process_operator_crds::{
    Process, ProcessStatus,
    cases::{Cases, Verdict, cases},
    crd::crd,
};
use serde_json::Value;

fn table() -> Cases {
    cases().expect("the table can be read")
}

#[test]
fn every_case_has_one_verdict_and_a_name_of_its_own() {
    let table = table();
    let names: BTreeSet<&str> = table.cases.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names.len(), table.cases.len());
    for case in &table.cases {
        assert!(case.is_decided(), "{}", case.name);
    }
}

/// Optional fields are absent, not null, and nothing that was written is lost.
#[test]
fn what_is_accepted_survives_the_types() {
    let table = table();
    for case in table
        .cases
        .iter()
        .filter(|c| c.verdict() == Verdict::Accept)
    {
        let mut manifest = without_nulls(table.manifest(case));
        if let Some(manifest) = manifest.as_object_mut() {
            // The API server drops it on creation.
            manifest.remove("status");
        }
        let process: Process = serde_json::from_value(manifest.clone()).expect(&case.name);
        let written = serde_json::to_value(&process).expect("a Process is JSON");
        assert!(!has_null(&written), "{}: {written}", case.name);
        assert_kept(&manifest["spec"], &written["spec"], &case.name);
        if let Some(status) = &case.status {
            let read: ProcessStatus = serde_json::from_value(status.clone()).expect(&case.name);
            assert_kept(
                status,
                &serde_json::to_value(read).expect("a status is JSON"),
                &case.name,
            );
        }
    }
}

#[test]
fn every_rule_is_refused_by_a_case() {
    let table = table();
    let definition = serde_json::to_value(crd().expect("the definition")).expect("it is JSON");
    let mut messages = Vec::new();
    collect_messages(&definition, &mut messages);
    assert!(messages.len() >= 20, "rules are found");
    for message in messages {
        let covered = table.cases.iter().any(|c| match c.verdict() {
            Verdict::Reject(part) => message.contains(part),
            Verdict::Accept => false,
        });
        assert!(covered, "no case is refused with: {message}");
    }
}

#[test]
fn examples_can_be_read() {
    for example in [
        include_str!("../../examples/process.yaml"),
        include_str!("../../examples/l2o.yaml"),
        include_str!("../../examples/canary.yaml"),
    ] {
        let process: Process = serde_yaml_ng::from_str(example).expect("a Process");
        assert!(process.metadata.name.is_some());
    }
}

fn collect_messages(value: &Value, messages: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for rule in map
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                messages.push(
                    rule["message"]
                        .as_str()
                        .expect("a rule has a message")
                        .to_owned(),
                );
                assert!(rule["reason"].is_string(), "a rule has a reason: {rule}");
            }
            map.values().for_each(|v| collect_messages(v, messages));
        }
        Value::Array(items) => items.iter().for_each(|v| collect_messages(v, messages)),
        _ => {}
    }
}

/// The API server drops a null where a field may not be null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k, without_nulls(v)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}

/// Every value of `before` is in `after`; empty lists and empty maps may be left out, and
/// a number may have become the same number as text (quantities).
fn assert_kept(before: &Value, after: &Value, name: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let empty = value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(serde_json::Map::is_empty);
                match after.get(key) {
                    Some(kept) => assert_kept(value, kept, name),
                    None => assert!(empty, "{name}: {key} is lost"),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{name}");
            before
                .iter()
                .zip(after)
                .for_each(|(b, a)| assert_kept(b, a, name));
        }
        (Value::Number(number), Value::String(text)) => {
            assert_eq!(&number.to_string(), text, "{name}");
        }
        _ => assert_eq!(before, after, "{name}"),
    }
}
