//! Kinds such as other operators bring, and an account of the operator that may read them.

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::SOON;
use crate::env::Env;
use crate::wait::until;

/// A kind of another operator.
#[derive(Clone)]
pub struct Foreign {
    kube: Client,
    namespace: String,
    group: String,
    kind: String,
}

impl Foreign {
    /// `<group>/v1/<Kind>`, with objects in the namespace of `env`. Not installed yet.
    pub fn new(env: &Env, group: &str, kind: &str) -> Self {
        Self {
            kube: env.kube.clone(),
            namespace: env.namespace.clone(),
            group: group.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// Value of `--domain-kind` and `--agent-kind`.
    pub fn flag(&self) -> String {
        format!("{}/v1/{}", self.group, self.kind)
    }

    /// Its plural.
    pub fn plural(&self) -> String {
        format!("{}s", self.kind.to_lowercase())
    }

    fn name(&self) -> String {
        format!("{}.{}", self.plural(), self.group)
    }

    fn definition(&self) -> Value {
        json!({
            "metadata": { "name": self.name() },
            "spec": {
                "group": self.group,
                "scope": "Namespaced",
                "names": {
                    "kind": self.kind, "plural": self.plural(), "singular": self.kind.to_lowercase(),
                },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "subresources": { "status": {} },
                    "schema": { "openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    } },
                }],
            },
        })
    }

    /// Installs the definition and waits until it is served.
    pub async fn install(&self) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.kube.clone());
        let wanted: CustomResourceDefinition = serde_json::from_value(self.definition())?;
        api.create(&PostParams::default(), &wanted).await?;
        let name = wanted.name_any();
        until(&format!("{name} is served"), SOON, async || {
            let found = api.get(&name).await?;
            let conditions = found.status.and_then(|status| status.conditions);
            let served = conditions.into_iter().flatten();
            let mut served = served.filter(|it| it.type_ == "Established" && it.status == "True");
            ensure!(served.next().is_some(), "not yet");
            Ok(())
        })
        .await
    }

    /// Takes the definition away with all objects, if it is there.
    pub async fn remove(&self) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.kube.clone());
        let name = self.name();
        if api.get_opt(&name).await?.is_some() {
            api.delete(&name, &DeleteParams::default()).await?;
        }
        until(&format!("{name} is gone"), SOON, async || {
            ensure!(api.get_opt(&name).await?.is_none(), "still there");
            Ok(())
        })
        .await
    }

    /// Its objects.
    pub fn objects(&self) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(&self.group, "v1", &self.kind);
        let kind = ApiResource::from_gvk_with_plural(&gvk, &self.plural());
        Api::namespaced_with(self.kube.clone(), &self.namespace, &kind)
    }

    /// Makes the object if need be, and says that it is Ready.
    pub async fn ready(&self, name: &str) -> Result<()> {
        self.say(name, "True", "Settled").await
    }

    /// Makes the object if need be, and says why it is not Ready.
    pub async fn unready(&self, name: &str, reason: &str) -> Result<()> {
        self.say(name, "False", reason).await
    }

    async fn say(&self, name: &str, status: &str, reason: &str) -> Result<()> {
        let api = self.objects();
        if api.get_opt(name).await?.is_none() {
            let object = json!({
                "apiVersion": format!("{}/v1", self.group), "kind": self.kind,
                "metadata": { "name": name }, "spec": {},
            });
            let object: DynamicObject = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object).await?;
        }
        let status = json!({ "status": { "conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] } });
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        Ok(())
    }

    /// Deletes an object.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.objects()
            .delete(name, &DeleteParams::default())
            .await?;
        Ok(())
    }
}

/// An account of the operator with the rights of `deploy/rbac.yaml` and further ones in the namespace of the
/// test: what is asked for with those is nothing that the rules have to give.
pub struct ForeignAccount {
    namespace: String,
}

impl ForeignAccount {
    const NAME: &'static str = "foreign";

    /// Makes it, without a right to any foreign kind.
    pub fn new(env: &Env) -> Result<Self> {
        let group = "rbac.authorization.k8s.io";
        let version = format!("{group}/v1");
        let subjects = json!([{
            "kind": "ServiceAccount", "name": Self::NAME, "namespace": env.namespace,
        }]);
        let bind = |kind: &str, name: &str, namespace: &str, role: &str| {
            let (of, role) = role.split_once('/').unwrap_or_default();
            let mut metadata = json!({ "name": name });
            if !namespace.is_empty() {
                metadata["namespace"] = namespace.into();
            }
            json!({
                "apiVersion": version, "kind": kind, "metadata": metadata, "subjects": subjects,
                "roleRef": { "apiGroup": group, "kind": of, "name": role },
            })
        };
        let (own, operator) = (env.namespace.as_str(), "process-operator");
        let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
            {
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": Self::NAME, "namespace": own },
            },
            bind("ClusterRoleBinding", own, "", "ClusterRole/process-operator"),
            bind("RoleBinding", own, operator, "Role/process-operator"),
            bind("RoleBinding", Self::NAME, own, "Role/foreign"),
        ] });
        apply(env, &objects)?;
        Ok(Self {
            namespace: env.namespace.clone(),
        })
    }

    /// Gives it these rights to foreign kinds, and no others.
    pub fn may(&self, env: &Env, verbs: &[&str], kinds: &[&Foreign]) -> Result<()> {
        let rules = kinds.iter().map(|kind| {
            json!({ "apiGroups": [kind.group], "resources": [kind.plural()], "verbs": verbs })
        });
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": Self::NAME, "namespace": self.namespace },
            "rules": rules.collect::<Vec<_>>(),
        });
        apply(env, &role)
    }

    /// Namespace and name.
    pub fn account(&self) -> (String, String) {
        (self.namespace.clone(), Self::NAME.to_owned())
    }

    /// Takes away what outlives the namespace.
    pub fn remove(&self, env: &Env) -> Result<()> {
        let mut kubectl = env.testbed.kubectl();
        let bindings = kubectl.args(["delete", "rolebinding", "-n", "process-operator"]);
        let done = bindings.arg(&self.namespace).output()?;
        ensure!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        env.kubectl(&["delete", "clusterrolebinding", &self.namespace], "")?;
        Ok(())
    }
}

/// Objects of any namespace.
fn apply(env: &Env, objects: &Value) -> Result<()> {
    use std::io::Write as _;
    let mut child = env
        .testbed
        .kubectl()
        .args(["apply", "-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(objects.to_string().as_bytes())?;
    }
    let done = child.wait_with_output()?;
    let why = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{why}");
    Ok(())
}
