//! Every field of the spec has an effect: each is set, changed and unset, and what the operator makes of
//! the Process differs each time. A field that is added without one fails here.

use std::collections::BTreeSet;

use process_operator_crds::crd::crd;
use process_operator_workflows::contract::DrainPolicy;
use serde_json::{Map, Value, json};

use super::*;
use crate::build::revision::Kept;
use crate::build::{cron_job, template};
use crate::context::WorkerDefaults;
use crate::dependencies::{Kinds, kind, needed};

mod shown;

use shown::{ELSEWHERE, SHOWN};

fn schema() -> Value {
    let definition = serde_json::to_value(crd().expect("the definition")).expect("JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Paths of all fields that hold a value, with whether each may be left out.
fn leaves(path: &str, schema: &Value, optional: bool, found: &mut Vec<(String, bool)>) {
    let items = &schema["items"];
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            let optional = !required(schema).contains(&name.as_str());
            leaves(&format!("{path}.{name}"), field, optional, found);
        }
    } else if items["properties"].is_object() {
        leaves(&format!("{path}[]"), items, false, found);
    } else {
        found.push((path.to_owned(), optional));
    }
}

fn required(schema: &Value) -> Vec<&str> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}

/// A value of this type; another one for another number.
fn sample(schema: &Value, n: usize) -> Value {
    if let Some(words) = schema["enum"].as_array() {
        return words[n % words.len()].clone();
    }
    match schema["type"].as_str() {
        Some("string") => ["a", "b"][n].into(),
        Some("boolean") => json!(n == 0),
        Some("array") if schema["items"]["properties"].is_object() => {
            json!([filled(&schema["items"], None, n)])
        }
        Some("array") => Value::from(vec![["a", "b"][n]]),
        Some("object") if schema["properties"].is_object() => filled(schema, None, n),
        Some("object") => Map::from_iter([("a".to_owned(), ["1", "2"][n].into())]).into(),
        // A number, or a number or a text, such as a port or a quantity.
        _ => json!(n + 1),
    }
}

/// An object with what it must have, and with the field at `path` if one is given. `n` is for that field;
/// 2 leaves it out.
fn filled(schema: &Value, path: Option<&str>, n: usize) -> Value {
    let mut object = Map::new();
    for name in required(schema) {
        object.insert(name.to_owned(), sample(&schema["properties"][name], 0));
    }
    let Some(path) = path else {
        return object.into();
    };
    let path = path.strip_prefix('.').unwrap_or(path);
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let field = &schema["properties"][name];
    let value = if rest.is_empty() {
        (n < 2).then(|| sample(field, n))
    } else if let Some(rest) = rest.strip_prefix("[]") {
        Some(json!([filled(&field["items"], Some(rest), n)]))
    } else {
        Some(filled(field, Some(rest), n))
    };
    match value {
        Some(value) => object.insert(name.to_owned(), value),
        None => object.remove(name),
    };
    object.into()
}

fn key() -> ProcessKey {
    ProcessKey {
        namespace: "apps".into(),
        name: "l2o".into(),
        uid: "u-1".into(),
    }
}

/// What the operator makes of a Process.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    /// Of pods and CronJobs, as they are applied.
    objects: Value,
    /// What is decided by, which only shows when something happens.
    decisions: Value,
}

/// Without the hash of what was written.
fn made_of(spec: &Value) -> Made {
    let process: Process = serde_json::from_value(json!({
        "apiVersion": "ameide.io/v1", "kind": "Process", "metadata": { "name": "l2o", "uid": "u-1" }, "spec": spec,
    }))
    .unwrap_or_else(|error| panic!("{error}: {spec}"));
    let workers = WorkerDefaults::default();
    let kept = Kept {
        build_id: "v1-0".into(),
        template: template::template(&process, &key(), ("v1-0", "l2o-0"), None, &workers),
    };
    let jobs = process.spec.cron_jobs.iter();
    let jobs: Vec<_> = jobs
        .map(|job| cron_job::cron_job(&key(), job, &kept))
        .collect();
    let mut view = view(&DrainPolicy::default(), &process, &key(), None).expect("a view");
    view.build_id = String::new();
    view.deployment_name = String::new();
    let kinds = Kinds {
        domain: kind("ameide.io/v1/Domain").expect("a kind"),
        agent: kind("ameide.io/v1/Agent").expect("a kind"),
    };
    let named: Vec<_> = needed(&process)
        .into_iter()
        .map(|needed| needed.shown(kinds.of(needed.list)))
        .collect();
    let source = crate::registry::Source::of(&process);
    Made {
        objects: json!([kept.template, jobs]),
        decisions: json!({
            // As the registry is asked.
            "registry": format!("{source:?}"),
            "view": view,
            "dependencies": named,
            // As a deletion is told of it.
            "deletion": process.spec.deletion,
        }),
    }
}

#[test]
fn every_field_has_an_effect_when_it_is_set_changed_and_unset() {
    let schema = schema();
    let mut fields = Vec::new();
    leaves("", &schema, false, &mut fields);
    assert!(fields.len() > 150, "{}", fields.len());
    let (mut idle, mut unshown) = (Vec::new(), BTreeSet::new());
    for (path, optional) in fields {
        if ELSEWHERE.contains(&path.as_str()) {
            unshown.insert(path);
            continue;
        }
        let spec = |n| {
            let mut spec = filled(&schema, Some(&path), n);
            if path != ".rollout.strategy" {
                // Steps, gates and evidence belong to it.
                spec["rollout"]["strategy"] = "Canary".into();
            }
            made_of(&spec)
        };
        let (one, other) = (spec(0), spec(1));
        let single = path == ".worker.volumes[].emptyDir.medium";
        if !single && one == other {
            idle.push(format!("{path}: a change has no effect"));
        }
        let without = optional.then(|| spec(2));
        if without.as_ref() == Some(&one) && without.as_ref() == Some(&other) {
            idle.push(format!("{path}: to set it has no effect"));
        }
        if one.objects == other.objects && !single {
            unshown.insert(path);
        }
    }
    assert!(idle.is_empty(), "{}", idle.join("\n"));
    let named = SHOWN.iter().map(|(path, _)| (*path).to_owned()).collect();
    let lacking: Vec<_> = unshown.difference(&named).collect();
    assert!(
        lacking.is_empty(),
        "no test shows the effect of {lacking:#?}"
    );
    let needless: Vec<_> = named.difference(&unshown).collect();
    assert!(
        needless.is_empty(),
        "objects show the effect of {needless:#?}"
    );
}

/// The tests are there, and speak of the field.
#[test]
fn what_no_object_shows_is_shown_by_a_real_test() {
    let suites = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/suites"));
    for (path, test) in SHOWN {
        let [suite, file, name] = test.split("::").collect::<Vec<_>>()[..] else {
            panic!("{test} is no test");
        };
        let file = suites.join(suite).join(format!("{file}.rs"));
        let code = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            code.contains(&format!("fn {name}(")),
            "{path}: there is no {test}"
        );
        let field = path.rsplit('.').next().unwrap_or_default();
        let field = field.trim_end_matches("[]");
        assert!(code.contains(field), "{path}: {test} does not speak of it");
    }
}
