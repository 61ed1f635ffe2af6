//! Objects of other operators that a Process depends on. They are read, never written.

use kube::Api;
use kube::api::{ApiResource, GroupVersionKind};
use kube::core::DynamicObject;
use process_operator_crds::spec::ObjectName;
use process_operator_crds::{ConditionType, Process};
use process_operator_workflows::contract::{DependenciesView, ProcessKey};

use crate::context::Context;
use crate::error::Result;

/// Kinds that a Process may depend on. Their definitions need not be installed.
#[derive(Debug, Clone)]
pub struct Kinds {
    /// Of `spec.dependencies.domains`.
    pub domain: ApiResource,
    /// Of `spec.dependencies.agents`.
    pub agent: ApiResource,
}

impl Kinds {
    /// The kind of what one of the lists names.
    pub fn of(&self, list: List) -> &ApiResource {
        match list {
            List::Domains => &self.domain,
            List::Agents => &self.agent,
        }
    }
}

/// The lists of `spec.dependencies` that name objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `domains`.
    Domains,
    /// `agents`.
    Agents,
}

impl List {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Domains, Self::Agents];

    fn field(self) -> &'static str {
        match self {
            Self::Domains => "spec.dependencies.domains",
            Self::Agents => "spec.dependencies.agents",
        }
    }
}

/// An object that a Process names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Where it is named.
    pub list: List,
    /// Its name.
    pub name: String,
}

impl Needed {
    /// The field that names it, its kind and its name: what messages about it begin with.
    pub fn shown(&self, kind: &ApiResource) -> String {
        let (field, name) = (self.list.field(), &self.name);
        format!("{field}[{name}]: {} {name}", kind.kind)
    }
}

/// What is wrong with an object that is not there.
pub const MISSING: &str = "does not exist";

/// What a Process names.
pub fn needed(process: &Process) -> Vec<Needed> {
    let Some(dependencies) = &process.spec.dependencies else {
        return Vec::new();
    };
    let lists = [
        (List::Domains, &dependencies.domains),
        (List::Agents, &dependencies.agents),
    ];
    let of = |(list, names): (List, &Vec<ObjectName>)| {
        let needed = names.iter().map(move |it| Needed {
            list,
            name: it.name.clone(),
        });
        needed.collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(of).collect()
}

/// Reads `<group>/<version>/<Kind>`.
pub fn kind(text: &str) -> std::result::Result<ApiResource, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [group, version, kind] if ![group, version, kind].contains(&"") => Ok(
            ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)),
        ),
        _ => Err("must be <group>/<version>/<Kind>, such as ameide.io/v1/Domain".to_owned()),
    }
}

/// Why an object cannot be depended on; `None` when it is Ready.
pub fn unready(object: &DynamicObject) -> Option<String> {
    if object.metadata.deletion_timestamp.is_some() {
        return Some("is being deleted".to_owned());
    }
    let conditions = object.data["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == ConditionType::Ready.as_str());
    match ready {
        None => Some("does not say that it is Ready".to_owned()),
        Some(ready) if ready["status"] == "True" => None,
        Some(ready) => {
            let reason = ready["reason"].as_str().unwrap_or("no reason given");
            Some(format!("is not Ready ({reason})"))
        }
    }
}

/// Looks at everything that the Process names; `None` when that is nothing.
pub(crate) async fn look(
    context: &Context,
    key: &ProcessKey,
    process: &Process,
) -> Result<Option<DependenciesView>> {
    let named = needed(process);
    if named.is_empty() {
        return Ok(None);
    }
    let count = u32::try_from(named.len()).unwrap_or(u32::MAX);
    let looks = named.into_iter().map(async |needed| {
        let kind = context.kinds.of(needed.list);
        let api: Api<DynamicObject> =
            Api::namespaced_with(context.kube.clone(), &key.namespace, kind);
        let why = match api.get(&needed.name).await {
            Ok(found) => unready(&found),
            // Without a definition of the kind there is no object either; that 404 has no reason.
            Err(kube::Error::Api(answer)) if answer.code == 404 => Some(MISSING.to_owned()),
            Err(error) => return Err(error.into()),
        };
        Ok::<_, crate::error::Fault>(why.map(|why| format!("{} {why}", needed.shown(kind))))
    });
    let lacking = futures::future::try_join_all(looks).await?;
    Ok(Some(DependenciesView {
        named: count,
        lacking: lacking.into_iter().flatten().collect(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(status: &serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "ameide.io/v1", "kind": "Domain", "metadata": { "name": "sales" }, "status": status,
        }))
        .expect("an object")
    }

    #[test]
    fn only_a_ready_condition_that_is_true_counts() {
        let with = |status: &str| {
            let ready = json!({ "type": "Ready", "status": status, "reason": "Provisioning" });
            object(&json!({ "conditions": [{ "type": "Other", "status": "True" }, ready] }))
        };
        assert_eq!(unready(&with("True")), None);
        for status in ["False", "Unknown"] {
            let why = unready(&with(status));
            assert_eq!(why.as_deref(), Some("is not Ready (Provisioning)"));
        }
        for nothing in [json!(null), json!({}), json!({ "conditions": [] })] {
            let why = unready(&object(&nothing));
            assert_eq!(why.as_deref(), Some("does not say that it is Ready"));
        }
    }

    #[test]
    fn what_is_named_is_shown_with_its_field() {
        let domain = kind("ameide.io/v1/Domain").expect("a kind");
        let sales = Needed {
            list: List::Domains,
            name: "sales".into(),
        };
        let shown = sales.shown(&domain);
        assert_eq!(shown, "spec.dependencies.domains[sales]: Domain sales");
    }

    #[test]
    fn a_kind_is_read_with_its_plural_and_anything_else_is_refused() {
        let domain = kind("ameide.io/v1/Domain").expect("a kind");
        assert_eq!(
            (domain.plural.as_str(), domain.api_version.as_str()),
            ("domains", "ameide.io/v1")
        );
        for text in ["Domain", "ameide.io/Domain", "ameide.io//Domain", "a/b/c/d"] {
            assert!(kind(text).is_err(), "{text}");
        }
    }
}
