//! Rights are what is used: nothing was forbidden, and what was not used has a reason.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use process_operator_faultproxy::audit::{AuditFilter, AuditMark};
use process_operator_harness::Env;
use serde_json::Value;

use crate::support::{Release, helm, objects};

/// Group, resource with its subresource, verb.
type Right = (String, String, String);

/// Rights that the story of the release does not use, as `group resource verb`, and what does.
const ELSEWHERE: [(&str, &str); 11] = [
    (
        "apps deployments create",
        "server-side apply needs it and is logged as patch",
    ),
    (
        "apps controllerrevisions delete",
        "versions beyond revisionHistoryLimit: there is one too few of them here",
    ),
    (
        "coordination.k8s.io leases create",
        "server-side apply needs it and is logged as patch",
    ),
    (
        "coordination.k8s.io leases get",
        "read while Temporal is away",
    ),
    ("ameide.io domains get", "cluster::dependencies"),
    ("ameide.io domains list", "cluster::dependencies"),
    ("ameide.io domains watch", "cluster::dependencies"),
    ("ameide.io agents get", "cluster::dependencies"),
    ("ameide.io agents list", "cluster::dependencies"),
    ("ameide.io agents watch", "cluster::dependencies"),
    (" pods list", "faults: why pods are not ready"),
];
/// The same for whole kinds that only some Processes have.
const KINDS_ELSEWHERE: [(&str, &str); 2] = [
    (" configmaps ", "cluster::definition, rollouts::modes"),
    ("batch cronjobs ", "cluster::cron_jobs"),
];

/// Everything that the roles of a release give.
fn given(manifest: &str) -> Result<BTreeSet<Right>> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let values = rule[field].as_array().into_iter().flatten();
        values
            .filter_map(|value| Some(value.as_str()?.to_owned()))
            .collect()
    };
    let mut rights = BTreeSet::new();
    for object in objects(manifest)? {
        let is_role = object["kind"] == "Role" || object["kind"] == "ClusterRole";
        let labels = &object["metadata"]["labels"];
        // Roles of people.
        let of_people = labels
            .as_object()
            .into_iter()
            .flatten()
            .any(|(key, _)| key.contains("aggregate-to"));
        if !is_role || of_people {
            continue;
        }
        for rule in object["rules"].as_array().into_iter().flatten() {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    for verb in texts(rule, "verbs") {
                        rights.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    Ok(rights)
}

/// Compares the rules of a release with what its service account has done since `mark`.
pub(crate) fn are_what_was_used(env: &Env, release: &Release, mark: AuditMark) -> Result<()> {
    let account = AuditFilter::any().service_account(&release.namespace, "op-process-operator");
    let mut used = BTreeSet::new();
    for entry in env.audit.select(mark, &account)? {
        ensure!(
            entry.code() != 403,
            "forbidden: {} {}",
            entry.verb,
            entry.request_uri
        );
        let Some(object) = entry.object_ref else {
            continue;
        };
        let resource = match object.subresource.as_str() {
            "" => object.resource,
            subresource => format!("{}/{subresource}", object.resource),
        };
        used.insert((object.api_group, resource, entry.verb));
    }
    ensure!(used.len() > 10, "{used:?}");
    let shown = helm(&[
        "get",
        "manifest",
        &release.name,
        "--namespace",
        &release.namespace,
    ])?;
    let given = given(&shown)?;
    let unused: Vec<String> = given
        .difference(&used)
        .map(|(group, resource, verb)| format!("{group} {resource} {verb}"))
        .filter(|right| !ELSEWHERE.iter().any(|(known, _)| known == right))
        .filter(|right| {
            !KINDS_ELSEWHERE
                .iter()
                .any(|(kind, _)| right.starts_with(kind))
        })
        .collect();
    ensure!(unused.is_empty(), "rights that nobody uses: {unused:#?}");
    Ok(())
}
