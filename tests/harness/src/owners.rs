//! I2: no write of an operator reaches an object that belongs to another Process.
//!
//! The audit log has the objects of what operators write: which one a request is meant for, what it claims, and
//! whose the object is after that. What it does not have is for which Process a restart or a deletion was meant,
//! which claim nothing: there it is that the object is the one that was looked at, and a Process's.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;
use process_operator_crds::names::{label, manager};
use process_operator_faultproxy::audit::{AuditFilter, Entry, Object, ObjectRef, Owner};

use crate::env::Env;

/// What a Process owns.
const OWNED: [&str; 4] = [
    "configmaps",
    "controllerrevisions",
    "cronjobs",
    "deployments",
];
/// What operators write beside that, and nobody owns.
const NOBODYS: [&str; 2] = ["events", "leases"];
/// Names by which operators write.
const MANAGERS: [&str; 3] = [manager::OPERATOR, manager::RESTART, manager::WATCHER];

/// Holds it of all writes of operators in the namespace of `env`, from its beginning on.
pub(crate) async fn are_respected(env: &Env) -> Result<()> {
    let processes = env.api::<Process>();
    let mut living: Vec<_> = processes
        .list_metadata(&ListParams::default())
        .await?
        .iter()
        .map(|process| (process.name_any(), process.uid().unwrap_or_default()))
        .collect();
    living.extend_from_slice(&crate::guard::lock(&env.untouched));
    let here = AuditFilter::mutating().namespace(&env.namespace);
    judge(&env.audit.select(env.began, &here)?, &living)
}

/// The same of these writes in one namespace; `living` are name and uid of the Processes that are there.
fn judge(entries: &[Entry], living: &[(String, String)]) -> Result<()> {
    let writes = writes(entries);
    let log = Log::read(&writes, living);
    for (entry, about) in &writes {
        log.judge(entry, about)
            .with_context(|| format!("I2: {entry}"))?;
    }
    log.handed_on()
}

/// Those of service accounts that write by a name of the operator.
fn writes(entries: &[Entry]) -> Vec<(&Entry, &ObjectRef)> {
    let accounts: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| {
            let manager = entry.param("fieldManager");
            manager.is_some_and(|manager| MANAGERS.contains(&manager.as_str()))
        })
        .map(Entry::user)
        .filter(|user| user.starts_with("system:serviceaccount:"))
        .collect();
    entries
        .iter()
        .filter(|entry| entry.is_mutating() && accounts.contains(entry.user()))
        .filter_map(|entry| Some((entry, entry.object_ref.as_ref()?)))
        .collect()
}

/// What is refused reaches nothing.
fn done(entry: &Entry) -> bool {
    (200..300).contains(&entry.code())
}

/// The Processes that own an object. A controller of another kind counts as one, of which nobody knows.
fn owners(object: &Object) -> Vec<&Owner> {
    let all = object.owners.iter().flatten();
    all.filter(|owner| owner.controller == Some(true) || owner.kind == "Process")
        .collect()
}

/// uid of the Process that an object is for: by its label, where the garbage collector has taken the owner off.
fn owner(object: &Object) -> Option<&str> {
    let label = object.labels.get(label::PROCESS_UID).map(String::as_str);
    owners(object)
        .first()
        .map(|owner| owner.uid.as_str())
        .or(label)
}

/// A Process that was written to, or is there.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    name: &'a str,
    /// The version at which it was first written to: one of the same name that came later has a later one.
    since: u64,
}

/// What is known from all writes together.
#[derive(Default)]
struct Log<'a> {
    /// By uid.
    processes: BTreeMap<&'a str, Known<'a>>,
    /// Versions of each object, by its uid, with the uid of its owner.
    objects: BTreeMap<&'a str, Vec<(u64, &'a str)>>,
    /// Whom an object was made for.
    made: BTreeMap<&'a str, &'a str>,
    /// Whom what has this resource and name may have been made for: an error of the server does not tell.
    unclear: BTreeMap<(&'a str, &'a str), &'a str>,
}

impl<'a> Log<'a> {
    fn read(writes: &[(&'a Entry, &'a ObjectRef)], living: &'a [(String, String)]) -> Self {
        let mut log = Self::default();
        for (name, uid) in living {
            let since = u64::MAX;
            log.processes.insert(uid, Known { name, since });
        }
        for (entry, about) in writes {
            log.learn(entry, about);
        }
        log
    }

    fn learn(&mut self, entry: &'a Entry, about: &'a ObjectRef) {
        let (kind, name) = (about.resource.as_str(), about.name.as_str());
        if entry.code() == 0 || entry.code() >= 500 {
            let claim = entry.request_object.as_ref().and_then(owner);
            self.unclear
                .extend(claim.map(|claim| ((kind, name), claim)));
        }
        let found = entry.response_object.as_ref().filter(|_| done(entry));
        let Some(found) = found.filter(|found| found.kind != "Status") else {
            return;
        };
        let version = found.resource_version.parse().unwrap_or_default();
        if kind == "processes" {
            let first = Known {
                name,
                since: version,
            };
            let known = self.processes.entry(&found.uid).or_insert(first);
            known.since = known.since.min(version);
        } else if let Some(owner) = owner(found).filter(|_| OWNED.contains(&kind)) {
            let versions = self.objects.entry(&found.uid).or_default();
            versions.push((version, owner));
            if entry.code() == 201 {
                self.made.insert(&found.uid, owner);
            }
        }
    }

    fn judge(&self, entry: &Entry, about: &ObjectRef) -> Result<()> {
        let kind = about.resource.as_str();
        if NOBODYS.contains(&kind) || !done(entry) {
            return Ok(());
        }
        let owned = OWNED.contains(&kind);
        ensure!(
            owned || kind == "processes",
            "operators write nothing of the kind"
        );
        let found = entry.response_object.as_ref().context(
            "the audit log does not tell whose: the testbed runs with an earlier policy, \
             `cargo xtask down` ends it",
        )?;
        let nothing = Object::default();
        let asked = entry.request_object.as_ref().unwrap_or(&nothing);
        ensure!(
            asked.uid.is_empty() || found.uid.is_empty() || asked.uid == found.uid,
            "it was meant for {} and done to {}",
            asked.uid,
            found.uid
        );
        match (entry.verb.as_str(), about.subresource.as_str()) {
            ("delete", "") if owned => self.deleted(about, asked, found),
            ("create" | "patch", "") if owned => self.written(entry, about, asked, found),
            ("patch", "") => {
                ensure!(!asked.uid.is_empty(), "it does not name the uid");
                Ok(())
            }
            ("patch", "status") if !owned => told(about, asked, found),
            _ => bail!("operators do nothing of the kind"),
        }
    }

    fn written(
        &self,
        entry: &Entry,
        about: &ObjectRef,
        asked: &Object,
        found: &Object,
    ) -> Result<()> {
        let (claims, holds) = (owners(asked), owners(found));
        ensure!(
            claims.len() <= 1 && holds.len() <= 1,
            "two owners: claimed for {claims:?}, and then of {holds:?}"
        );
        let (claim, holds) = (claims.first(), holds.first());
        ensure!(
            claim.is_none() || claim.map(|it| &it.uid) == holds.map(|it| &it.uid),
            "claimed for {claim:?}, and then of {holds:?}"
        );
        let (made, named) = (entry.code() == 201, is_named(asked));
        ensure!(
            claim.is_some() || named && !made,
            "it names neither an owner nor the object that it is meant for"
        );
        if !made && !named {
            // What a try before it has made, of which it did not hear, or what a predecessor has left.
            let maker = self.made.get(found.uid.as_str()).copied();
            let maker = maker.or_else(|| self.maybe_made(about));
            let maker = maker.and_then(|maker| self.processes.get(maker));
            ensure!(
                maker.map(|maker| maker.name) == claim.map(|claim| claim.name.as_str()),
                "it was to be made, and what was there is of {maker:?}"
            );
        }
        // Orphaned it has none any more.
        let before = || self.last_owner(&found.uid);
        let owner = owner(found).or_else(before).context("it is nobody's")?;
        let known = self.known(owner)?;
        let told = [
            holds.map(|holds| &holds.name),
            found.labels.get(label::PROCESS),
        ];
        for name in told.into_iter().flatten() {
            ensure!(name == known.name, "{owner} is no uid of {name}");
        }
        let label = found.labels.get(label::PROCESS_UID);
        ensure!(
            label.is_none_or(|label| label == owner),
            "its label says {label:?}, and it is of {owner}"
        );
        Ok(())
    }

    fn deleted(&self, about: &ObjectRef, asked: &Object, found: &Object) -> Result<()> {
        ensure!(
            !asked.uid.is_empty(),
            "it does not name the uid of what is meant"
        );
        let of = self.last_owner(&asked.uid);
        let of = of.or_else(|| self.maybe_made(about));
        let of = of.context("no operator has made it or taken it over")?;
        self.known(of)?;
        // An object that has not gone at once is told.
        ensure!(
            owner(found).is_none_or(|owner| owner == of),
            "it was of {of}, and is of {:?}",
            owner(found)
        );
        Ok(())
    }

    /// Of the newest version.
    fn last_owner(&self, uid: &str) -> Option<&'a str> {
        let versions = self.objects.get(uid)?.iter();
        let newest = versions.max_by_key(|(version, _)| *version)?;
        Some(newest.1)
    }

    fn maybe_made(&self, about: &ObjectRef) -> Option<&'a str> {
        let of = (about.resource.as_str(), about.name.as_str());
        self.unclear.get(&of).copied()
    }

    fn known(&self, uid: &str) -> Result<Known<'a>> {
        let known = self.processes.get(uid).copied();
        known.with_context(|| format!("no Process has or had the uid {uid}"))
    }

    /// An object goes on to a Process only from an earlier one of its name, which cannot be there any more.
    fn handed_on(&self) -> Result<()> {
        for (uid, versions) in &self.objects {
            let mut versions = versions.clone();
            versions.sort_by_key(|(version, _)| *version);
            for pair in versions.windows(2) {
                let [(_, before), (version, after)] = pair else {
                    continue;
                };
                let (from, to) = (self.known(before)?, self.known(after)?);
                ensure!(
                    before == after || from.name == to.name && from.since < to.since,
                    "I2: in version {version} the object {uid} went from {before} ({from:?}) to {after} ({to:?})"
                );
            }
        }
        Ok(())
    }
}

/// Whether the request is for one object only, or for one version of it.
fn is_named(asked: &Object) -> bool {
    !asked.uid.is_empty() || !asked.resource_version.is_empty()
}

/// A status is about the Process whose uid the workflow has that writes it. A uid beside it is not looked at by the
/// server, the version is.
fn told(about: &ObjectRef, asked: &Object, found: &Object) -> Result<()> {
    ensure!(
        !asked.resource_version.is_empty(),
        "it does not name the version of the Process"
    );
    let own = format!("process/{}/{}/{}", about.namespace, about.name, found.uid);
    ensure!(
        asked.workflow.is_empty() || asked.workflow == own,
        "{} has told of {own}",
        asked.workflow
    );
    Ok(())
}

#[cfg(test)]
mod tests;
