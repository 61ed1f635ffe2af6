//! The table of writes that the API server must accept or refuse: `crds/validation-cases.yaml`.
//!
//! It is here so that a suite with a real API server can run what this crate only reads.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The whole table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The manifest that each case starts from.
    pub base: Value,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// One case: a creation, then perhaps a write of the status, then perhaps an update. The last of
/// them is what the case is about; those before it must be accepted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is tried.
    pub name: String,
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    remove: Vec<String>,
    /// Merged into `/status` after the creation.
    pub status: Option<Value>,
    /// Applied to the created object.
    pub update: Option<Change>,
    accept: Option<bool>,
    reject: Option<String>,
}

/// A change of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// JSON pointers to new values; missing objects on the way are made.
    #[serde(default)]
    set: Map<String, Value>,
    /// JSON pointers to what is taken out.
    #[serde(default)]
    remove: Vec<String>,
}

/// How a write must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is accepted.
    Accept,
    /// It is refused with a message that contains this text.
    Reject(&'a str),
}

/// Reads the table.
pub fn cases() -> Result<Cases, serde_yaml_ng::Error> {
    serde_yaml_ng::from_str(include_str!("../validation-cases.yaml"))
}

impl Cases {
    /// The manifest that `case` creates.
    pub fn manifest(&self, case: &Case) -> Value {
        let change = Change {
            set: case.set.clone(),
            remove: case.remove.clone(),
        };
        change.apply(self.base.clone())
    }
}

impl Case {
    /// How the last write must end.
    pub fn verdict(&self) -> Verdict<'_> {
        self.reject
            .as_deref()
            .map_or(Verdict::Accept, Verdict::Reject)
    }

    /// Whether the case says exactly one of `accept: true` and `reject`.
    pub fn is_decided(&self) -> bool {
        matches!(
            (self.accept, &self.reject),
            (Some(true), None) | (None, Some(_))
        )
    }
}

impl Change {
    /// `manifest` with the change.
    pub fn apply(&self, mut manifest: Value) -> Value {
        for (pointer, value) in &self.set {
            *place(&mut manifest, pointer) = value.clone();
        }
        for pointer in &self.remove {
            if let Some((parent, key)) = pointer.rsplit_once('/')
                && let Some(Value::Object(parent)) = manifest.pointer_mut(parent)
            {
                parent.remove(&unescape(key));
            }
        }
        manifest
    }
}

/// The place that `pointer` names, made if need be.
fn place<'a>(root: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(root, |value, key| {
        if !value.is_object() {
            *value = json!({});
        }
        &mut value[unescape(key)]
    })
}

fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_makes_what_is_missing() {
        let change: Change =
            serde_json::from_value(json!({"set": {"/a/b~1c": 1}, "remove": ["/d", "/x/y"]}))
                .expect("a change");
        assert_eq!(
            change.apply(json!({"d": 2, "e": 3})),
            json!({"a": {"b/c": 1}, "e": 3})
        );
    }
}
