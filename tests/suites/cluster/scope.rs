//! An operator that looks after one namespace, with rights in that namespace only.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams};
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditFilter, Entry};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, SOON, condition, manifest,
};
use serde_json::{Value, json};

/// Account of the operator.
const ACCOUNT: &str = "limited";

/// The rights of `deploy/rbac.yaml`, given as a Role; of what has no namespace only two names may be read.
fn give_rights(env: &Env) -> Result<()> {
    let text = include_str!("../../../deploy/rbac.yaml");
    let documents = serde_yaml_ng::Deserializer::from_str(text)
        .map(<Value as serde::Deserialize>::deserialize)
        .collect::<Result<Vec<_>, _>>()?;
    let of = |kind: &str| {
        let mut found = documents.iter().filter(|object| object["kind"] == kind);
        found
            .next()
            .and_then(|object| object["rules"].as_array().cloned())
            .context("rules")
    };
    let mut rules = of("ClusterRole")?;
    let all = rules.len();
    rules.retain(|rule| rule["resources"] != json!(["namespaces"]));
    ensure!(
        rules.len() + 1 == all,
        "namespaces have a rule of their own"
    );
    rules.extend(of("Role")?);
    let subject =
        json!([{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": env.namespace }]);
    let group = "rbac.authorization.k8s.io";
    let cluster = format!("{}-{ACCOUNT}", env.namespace);
    let role = |kind: &str, name: &str| json!({ "apiGroup": group, "kind": kind, "name": name });
    let version = format!("{group}/v1");
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT } },
        { "apiVersion": version, "kind": "Role", "metadata": { "name": ACCOUNT }, "rules": rules },
        {
            "apiVersion": version, "kind": "RoleBinding", "metadata": { "name": ACCOUNT },
            "roleRef": role("Role", ACCOUNT), "subjects": subject,
        },
        {
            "apiVersion": version, "kind": "ClusterRole", "metadata": { "name": cluster },
            "rules": [{
                "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"],
                "resourceNames": ["kube-system", env.namespace],
            }],
        },
        {
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": { "name": cluster },
            "roleRef": role("ClusterRole", &cluster), "subjects": subject,
        },
    ] });
    env.kubectl(&["apply", "-f", "-"], &objects.to_string())?;
    Ok(())
}

/// What a request was about, for a message.
fn about(entry: &Entry) -> String {
    format!("{} {} {}", entry.verb, entry.request_uri, entry.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_rights_in_one_namespace_it_serves_that_one_and_asks_for_nothing_else() -> Result<()> {
    let env = Env::new("scope").await?;
    let other = Env::new("scope-other").await?;
    let (mark, invariants) = (env.audit.mark()?, Invariants::start(&env)?);
    give_rights(&env)?;
    // The definition that is asked for is in the other namespace.
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "l2o-v3" }, "data": { "l2o.bpmn": "<other/>" },
    }))?;
    other.api().create(&PostParams::default(), &map).await?;
    let mut elsewhere = manifest(&other, "l2o", "v1");
    elsewhere["spec"]["temporal"]["taskQueue"] = json!("other-tq");
    other.apply(&elsewhere).await?;

    let options = OperatorOptions {
        account: Some((env.namespace.clone(), ACCOUNT.to_owned())),
        args: vec!["--namespace".into(), env.namespace.clone()],
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&env, options).await?;
    let mut process = manifest(&env, "l2o", "v1");
    process["spec"]["definitionRef"]["configMapRef"] = json!({ "name": "l2o-v3" });
    env.apply(&process).await?;
    env.wait_process("l2o", "its definition is missing", SOON, |process| {
        condition(process, "Ready").1 == "DefinitionNotFound"
    })
    .await?;
    let mut own = map;
    own.data = Some([("l2o.bpmn".to_owned(), "<own/>".to_owned())].into());
    env.api().create(&PostParams::default(), &own).await?;
    env.wait_settled("l2o", "v1").await?;
    env.set_tag("l2o", "v2").await?;
    env.wait_settled("l2o", "v2").await?;
    let answer = env.temporal.quick(&env.apps, "l2o-tq", "own").await?;
    ensure!(
        answer.definition.get("l2o.bpmn").map(String::as_str) == Some("<own/>"),
        "{answer:?}"
    );
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.api::<Process>()
        .delete("l2o", &DeleteParams::default())
        .await?;
    env.wait_gone("l2o").await?;

    let untouched = other.api::<Process>().get("l2o").await?;
    ensure!(
        condition(&untouched, "Ready").1 == "Pending" && untouched.metadata.finalizers.is_none(),
        "{untouched:?}"
    );
    ensure!(other.deployments("l2o").await?.is_empty(), "no Deployment");
    let account = AuditFilter::any().service_account(&env.namespace, ACCOUNT);
    let asked = env.audit.select(mark, &account)?;
    ensure!(asked.len() > 20, "{} requests are in the log", asked.len());
    let namespaces = ["kube-system", env.namespace.as_str()];
    let beyond: Vec<_> = asked
        .iter()
        .filter(|entry| {
            // What the server offers is no object.
            let Some(object) = &entry.object_ref else {
                return false;
            };
            let a_name = object.resource == "namespaces"
                && entry.verb == "get"
                && namespaces.contains(&object.name.as_str());
            let within = object.namespace == env.namespace && object.resource != "secrets";
            !(a_name || within) || entry.code() == 403
        })
        .map(about)
        .collect();
    ensure!(beyond.is_empty(), "{beyond:#?}");
    for kind in ["clusterrolebinding", "clusterrole"] {
        let name = format!("{}-{ACCOUNT}", env.namespace);
        env.kubectl(&["delete", kind, &name], "")?;
    }
    other.remove().await?;
    env.remove().await
}
