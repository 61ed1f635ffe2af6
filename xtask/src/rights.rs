//! Whether the operator's rights are what it needs: compared, after all suites, with what it asked the
//! API server for. Nothing may have been missing, and nothing may be there that nothing asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use process_operator_tests::testbed::Testbed;
use serde::Deserialize;

use crate::cargo::root;

const RULES: &str = "deploy/rbac.yaml";
/// The account of those rules, with which the suites run the operator.
const ACCOUNT: &str = "system:serviceaccount:process-operator:process-operator";
/// A right that is no request of its own: the admission plugin `OwnerReferencesPermissionEnforcement`, which
/// the testbed has on, asks for it when an object gets another owner.
const ASKED_BY_ADMISSION: [(&str, &str, &str); 1] = [("", "configmaps", "delete")];
/// Where the rules give a right to Leases. A test may tell an operator to keep them where it has none.
const OWN_NAMESPACE: &str = "process-operator";

/// Where the audit log ended.
#[derive(Debug)]
pub(crate) struct Mark {
    log: PathBuf,
    offset: u64,
}

/// Before the suites.
pub(crate) fn mark() -> Result<Mark> {
    let testbed = Testbed::current()?;
    let log = testbed.state().audit_log.clone();
    let log = log.context("The testbed has no audit log.")?;
    let offset = fs::metadata(&log)?.len();
    Ok(Mark { log, offset })
}

/// After all of them.
pub(crate) fn compare(mark: &Mark) -> Result<()> {
    let mut log = BufReader::new(File::open(&mark.log)?);
    log.seek(SeekFrom::Start(mark.offset))?;
    let asked = Asked::read(log)?;
    asked.compare(&given(&root().join(RULES))?)
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    /// With its subresource.
    resource: String,
    verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

/// What the operator asked for.
#[derive(Debug, Default)]
struct Asked {
    used: BTreeSet<Right>,
    /// With one of the requests each.
    forbidden: BTreeMap<Right, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    resource: String,
    namespace: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl Asked {
    fn read(log: impl BufRead) -> Result<Self> {
        let mut asked = Self::default();
        for line in log.lines() {
            let line = line?;
            // Most lines are of others: not worth reading as JSON.
            if !line.contains(ACCOUNT) {
                continue;
            }
            let event: Event = serde_json::from_str(&line)
                .with_context(|| format!("a line of the audit log: {line}"))?;
            if event.stage == "ResponseComplete" && event.user.username == ACCOUNT {
                asked.count(event);
            }
        }
        Ok(asked)
    }

    fn count(&mut self, event: Event) {
        let Some(object) = event.object_ref else {
            return;
        };
        let resource = match object.subresource.as_str() {
            "" => object.resource,
            subresource => format!("{}/{subresource}", object.resource),
        };
        let right = |verb: &str| Right {
            group: object.api_group.clone(),
            resource: resource.clone(),
            verb: verb.to_owned(),
        };
        // A refusal of admission has the same code, but is no question of rights.
        let decision = event.annotations.get("authorization.k8s.io/decision");
        if decision.is_some_and(|decision| decision == "forbid") {
            if resource != "leases" || object.namespace == OWN_NAMESPACE {
                self.forbidden.insert(right(&event.verb), event.request_uri);
            }
            return;
        }
        // Server-side apply of what is not there needs the right to create it as well.
        let created = event.response_status.is_some_and(|it| it.code == 201);
        if event.verb == "patch" && created {
            self.used.insert(right("create"));
        }
        self.used.insert(right(&event.verb));
    }

    fn compare(&self, given: &BTreeSet<Right>) -> Result<()> {
        let mut wrong = Vec::new();
        for (right, request) in &self.forbidden {
            wrong.push(format!("missing: {right} ({request})"));
        }
        for right in given.difference(&self.used) {
            let known = (&*right.group, &*right.resource, &*right.verb);
            if !ASKED_BY_ADMISSION.contains(&known) {
                wrong.push(format!("never used: {right}"));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        bail!(
            "{RULES} is not what the operator needs:\n  {}",
            wrong.join("\n  ")
        )
    }
}

/// Everything that the roles in a file give.
fn given(path: &Path) -> Result<BTreeSet<Right>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rule {
        api_groups: Vec<String>,
        resources: Vec<String>,
        verbs: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default)]
        rules: Vec<Rule>,
    }
    let text = fs::read_to_string(path)?;
    let mut rights = BTreeSet::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        for rule in Manifest::deserialize(document)?.rules {
            for group in &rule.api_groups {
                for resource in &rule.resources {
                    rights.extend(rule.verbs.iter().map(|verb| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                    }));
                }
            }
        }
    }
    Ok(rights)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(right: &Right, decision: &str, code: u16) -> String {
        let (resource, subresource) = right
            .resource
            .split_once('/')
            .unwrap_or((&right.resource, ""));
        json!({
            "stage": "ResponseComplete",
            "requestURI": "/apis/it",
            "verb": right.verb,
            "user": { "username": ACCOUNT },
            "objectRef": {
                "resource": resource,
                "subresource": subresource,
                "apiGroup": right.group,
            },
            "responseStatus": { "metadata": {}, "code": code },
            "annotations": { "authorization.k8s.io/decision": decision },
        })
        .to_string()
    }

    fn said(lines: &[String]) -> String {
        let asked = Asked::read(lines.join("\n").as_bytes()).unwrap();
        let given = given(&root().join(RULES)).unwrap();
        assert!(given.len() > 30, "{given:?}");
        let answer = asked.compare(&given);
        answer.map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_was_forbidden_and_what_nobody_used_is_named() {
        let given = given(&root().join(RULES)).unwrap();
        let applied = ["deployments", "cronjobs", "configmaps", "leases"];
        let mut lines: Vec<String> = given
            .iter()
            // Made by server-side apply alone.
            .filter(|right| right.verb != "create" || !applied.contains(&&*right.resource))
            .map(|right| line(right, "allow", 201))
            .collect();
        assert_eq!(said(&lines), "");
        let without = lines.iter().filter(|line| !line.contains(r#":"status""#));
        let told = said(&without.cloned().collect::<Vec<_>>());
        assert!(
            told.contains("never used: patch processes/status.ameide.io"),
            "{told}"
        );
        let secrets = Right {
            group: String::new(),
            resource: "secrets".into(),
            verb: "get".into(),
        };
        let mut forbidden = lines.clone();
        forbidden.push(line(&secrets, "forbid", 403));
        assert!(said(&forbidden).contains("missing: get secrets (/apis/it)"));
        // Refused by a policy, with the right to ask.
        let pods = Right {
            resource: "pods".into(),
            verb: "list".into(),
            ..secrets
        };
        lines.push(line(&pods, "allow", 403));
        assert_eq!(said(&lines), "");
    }
}
