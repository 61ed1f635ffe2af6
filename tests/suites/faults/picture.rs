//! I8: what a scenario leaves behind, without what differs from run to run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt as _;
use kube::api::ListParams;
use process_operator_crds::Process;

use crate::world::{NAME, World};

/// The world after a phase. Names that hold a hash are told by the image tag of their version.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Deployments: image tag, wanted and ready pods, whether the Process controls it.
    deployments: BTreeSet<(String, Option<i32>, Option<i32>, bool)>,
    /// ControllerRevisions, by image tag.
    revisions: BTreeSet<String>,
    /// Status and reason of each condition.
    conditions: BTreeMap<String, (String, String)>,
    /// Tags of the current and of the target version, and of those that drain.
    versions: [Vec<String>; 3],
    /// Transitions in `status.history`.
    history: Vec<String>,
    /// Events about the Process.
    events: BTreeMap<String, usize>,
    /// Tag of the current version in Temporal; nothing when there is no record.
    #[allow(
        clippy::option_option,
        reason = "no record, and a record that routes to nobody, differ"
    )]
    routed: Option<Option<String>>,
    /// Rollouts and drains that were ever started, by version.
    children: BTreeMap<String, usize>,
    /// Objects that the operator created and deleted.
    counts: BTreeMap<String, [usize; 2]>,
}

/// `v1` of the build id `v1-3f2a91bc`.
fn tag(build_id: &str) -> String {
    build_id.split('-').next().unwrap_or_default().to_owned()
}

impl Picture {
    /// Looks at everything of the Process with this uid.
    pub(crate) async fn take(world: &World, process: &Process) -> Result<Self> {
        let env = &world.env;
        let uid = process.uid().unwrap_or_default();
        let mut picture = Self::default();
        let mut names = BTreeMap::new();
        for deployment in env.deployments(NAME).await? {
            let tag = tag(deployment
                .labels()
                .get("ameide.io/build-id")
                .map_or("", String::as_str));
            names.insert(deployment.name_any(), tag.clone());
            let ready = deployment
                .status
                .as_ref()
                .and_then(|status| status.ready_replicas);
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            picture
                .deployments
                .insert((tag, wanted, ready, controlled(&deployment, &uid)));
        }
        let revisions = env.api::<ControllerRevision>();
        for revision in revisions.list(&ListParams::default()).await? {
            if controlled(&revision, &uid) {
                let name = revision.name_any();
                let of = match names.get(&name) {
                    Some(tag) => tag.as_str(),
                    None if name == process_operator_crds::names::sentinel_name(NAME) => "sentinel",
                    None => "lost",
                };
                picture.revisions.insert(of.to_owned());
            }
        }
        for (reason, note) in env.events(process).await? {
            // Why workers are stopped is told as it is seen then: they may be gone already.
            let about = match reason.as_str() {
                "StoppingWorkers" => String::new(),
                _ => tag(&note),
            };
            *picture
                .events
                .entry(format!("{reason} {about}"))
                .or_default() += 1;
        }
        let record = env
            .temporal
            .worker_deployment(&env.apps, &format!("{}/{NAME}", env.namespace))
            .await?;
        picture.routed = record.map(|record| {
            let routing = record.routing_config;
            let current = routing.and_then(|routing| routing.current_deployment_version);
            current.map(|version| tag(&version.build_id))
        });
        for kind in ["rollout", "drain"] {
            let prefix = format!("{kind}/{}/{NAME}/{uid}/", env.namespace);
            for id in env.workflows(&prefix).await? {
                let version = tag(id.trim_start_matches(&prefix));
                *picture
                    .children
                    .entry(format!("{kind} {version}"))
                    .or_default() += 1;
            }
        }
        picture.counts = counts(world)?;
        let live = env.api::<Process>().get_opt(NAME).await?;
        if let Some(status) = live.and_then(|live| live.status) {
            for condition in &status.conditions {
                let said = (condition.status.clone(), condition.reason.clone());
                picture.conditions.insert(condition.type_.clone(), said);
            }
            let versions = [status.current_version, status.target_version];
            let [current, target] =
                versions.map(|version| version.iter().map(|v| tag(&v.build_id)).collect());
            let draining = status.draining.iter().map(|v| tag(&v.build_id)).collect();
            picture.versions = [current, target, draining];
            let mut history: Vec<String> = status
                .history
                .iter()
                .map(|entry| {
                    let version = entry.build_id.as_deref().map(tag).unwrap_or_default();
                    format!("{} {version}", entry.what)
                })
                .collect();
            // Which of two things that happen at once is told first is chance.
            history.sort();
            picture.history = history;
        }
        Ok(picture)
    }

    /// Compares with the run in which nothing went wrong.
    pub(crate) fn same_as(&self, reference: &Self) -> Result<()> {
        let fields = |picture: &Self| {
            [
                format!("deployments {:?}", picture.deployments),
                format!("revisions {:?}", picture.revisions),
                format!("conditions {:?}", picture.conditions),
                format!("versions {:?}", picture.versions),
                format!("history {:?}", picture.history),
                format!("events {:?}", picture.events),
                format!("routed {:?}", picture.routed),
                format!("children {:?}", picture.children),
                format!("counts {:?}", picture.counts),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(reference));
        let other: Vec<String> = pairs
            .filter(|(is, was)| is != was)
            .map(|(is, was)| format!("{is}\n  without faults: {was}"))
            .collect();
        ensure!(
            other.is_empty(),
            "I8: another end state\n{}",
            other.join("\n")
        );
        Ok(())
    }
}

fn controlled(object: &impl kube::ResourceExt, uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// What a Process owns.
const OWNED: [&str; 3] = ["controllerrevisions", "configmaps", "deployments"];

/// How many objects of each kind the operator created, and how many it deleted. A lost answer is
/// followed by a second try, which the server refuses or which changes nothing: only what was done
/// counts.
fn counts(world: &World) -> Result<BTreeMap<String, [usize; 2]>> {
    let mut objects: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    let mut total: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    // Of writes side by side one ends the operator, and another may be done without an answer.
    let mut unanswered: BTreeSet<(String, String)> = BTreeSet::new();
    for entry in world.invariants.writes(&world.env)? {
        let Some(object) = &entry.object_ref else {
            continue;
        };
        let which = match (entry.verb.as_str(), entry.code()) {
            ("create" | "patch", 201) => 0,
            ("delete", 200) => 1,
            ("create" | "patch", 504) if OWNED.contains(&object.resource.as_str()) => {
                unanswered.insert((object.resource.clone(), object.name.clone()));
                continue;
            }
            _ => continue,
        };
        if object.resource == "events" {
            continue;
        }
        objects.entry(object.resource.clone()).or_default()[which].insert(object.name.clone());
        total.entry(object.resource.clone()).or_default()[which] += 1;
    }
    for (resource, name) in unanswered {
        // What was not done was done by the next try; what it changed had been created before.
        let created = |found: &[BTreeSet<String>; 2]| found[0].contains(&name);
        if !objects.get(&resource).is_some_and(created) {
            total.entry(resource).or_default()[0] += 1;
        }
    }
    // Deleting again what is being deleted is answered with success until it is gone.
    for (resource, counts) in &mut total {
        counts[1] = objects.get(resource).map_or(0, |found| found[1].len());
    }
    Ok(total)
}
