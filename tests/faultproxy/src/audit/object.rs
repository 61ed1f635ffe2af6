//! What the log tells of the object in a request or in its answer.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object in a few words: which one it is, and whose. What is not said is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Its kind: `Status` where the answer is none of the object itself, `DeleteOptions` in a deletion.
    pub kind: String,
    /// Its uid. In a request the one that the object must have: as precondition of a deletion, or tested by a
    /// JSON patch, too. In a `Status` that of the object that it is about.
    pub uid: String,
    /// Its version; in a request the one that the object must have.
    pub resource_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its owners; `None` where nothing is said of them, so that they stay.
    pub owners: Option<Vec<Owner>>,
    /// `status.workflow.id`: the status of a Process names the workflow that writes it.
    pub workflow: String,
}

/// An owner of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The one that manages the object.
    pub controller: Option<bool>,
}

/// An object, or what is to be changed of it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    kind: Option<String>,
    metadata: Option<Metadata>,
    preconditions: Option<Metadata>,
    details: Option<Metadata>,
    #[serde(deserialize_with = "workflow")]
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: Option<String>,
    resource_version: Option<String>,
    /// A merge patch takes one off with `null`.
    labels: Option<BTreeMap<String, Option<String>>>,
    owner_references: Option<Vec<Owner>>,
}

/// Of a JSON patch.
#[derive(Deserialize)]
struct Operation {
    op: String,
    path: String,
    #[serde(default)]
    value: Value,
}

/// That of a `Status` is a word.
fn workflow<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let status = Value::deserialize(from)?;
    let id = status.pointer("/workflow/id").and_then(Value::as_str);
    Ok(id.unwrap_or_default().to_owned())
}

impl From<Fields> for Object {
    fn from(fields: Fields) -> Self {
        let metadata = fields.metadata.unwrap_or_default();
        let other = fields.preconditions.or(fields.details).unwrap_or_default();
        let labels = metadata.labels.into_iter().flatten();
        let first = |one: Option<String>, or: Option<String>| one.or(or).unwrap_or_default();
        Self {
            kind: fields.kind.unwrap_or_default(),
            uid: first(metadata.uid, other.uid),
            resource_version: first(metadata.resource_version, other.resource_version),
            labels: labels
                .filter_map(|(label, value)| Some((label, value?)))
                .collect(),
            owners: metadata.owner_references,
            workflow: fields.status,
        }
    }
}

impl From<Vec<Operation>> for Object {
    fn from(patch: Vec<Operation>) -> Self {
        let tested = |path: &str| {
            let mut tests = patch.iter().filter(|it| it.op == "test" && it.path == path);
            let value = tests.next().and_then(|it| it.value.as_str());
            value.unwrap_or_default().to_owned()
        };
        Self {
            uid: tested("/metadata/uid"),
            resource_version: tested("/metadata/resourceVersion"),
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// Either an object or a JSON patch, read as it comes: some are of a megabyte.
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a JSON patch")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map)).map(Object::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Object, A::Error> {
                let patch = Vec::<Operation>::deserialize(SeqAccessDeserializer::new(list));
                patch.map(Object::from)
            }
        }

        from.deserialize_any(Either)
    }
}
