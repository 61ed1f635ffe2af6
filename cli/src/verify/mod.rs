//! `verify`: what is wrong with a Process or its installation, and how to mend it.
//!
//! Facts are gathered here; what they mean is decided in [`checks`], which is pure.

mod checks;
mod fixes;

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use process_operator_crds::{Process, names};

use crate::args::{Format, VerifyArgs};
use crate::cluster::{Cluster, explain, forbidden, unknown_kind, words};
use crate::commands::objects;
use crate::exit::no;
use crate::model::{Objects, tree, versioned};
use crate::out::{Out, data, write};
use crate::render::table::table;
use crate::render::tree::sign;
use crate::render::{Line, Tone};
use crate::temporal::{Pollers, Routing, Temporal};
use checks::{Check, Level};

/// What is known of an installation.
#[derive(Clone, Debug, Default)]
struct Installation {
    /// The kind is not served.
    unknown_kind: bool,
    /// Leases of operators, by name: when each was renewed, and for how long that counts.
    leases: Leases,
}

/// The Leases of operators.
#[derive(Clone, Debug, Default)]
enum Leases {
    /// Name, last renewal, seconds that it counts.
    Seen(Vec<(String, Option<Timestamp>, i32)>),
    /// They may not be read.
    #[default]
    Unseen,
}

/// What a Temporal server says about one Process.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The server cannot be reached.
    unreachable: Option<String>,
    /// The Temporal namespace exists.
    namespace: Option<Result<bool, String>>,
    /// Who polls the task queue.
    pollers: Option<Result<Pollers, String>>,
    /// The routing of the Worker Deployment; not asked for where Temporal does not hold it.
    routing: Option<Result<Option<Routing>, String>>,
    /// Type of the probe, and how it went.
    probe: Option<(String, Result<String, String>)>,
}

pub(crate) async fn run(cluster: &Cluster, args: &VerifyArgs) -> Result<()> {
    let (processes, unknown) = processes(cluster, args).await?;
    let installation = Installation {
        unknown_kind: unknown,
        leases: leases(cluster, &args.operator_namespace).await?,
    };
    let temporal = Temporal::connect(&args.temporal).await;
    let now = Timestamp::now();
    let mut found = Vec::new();
    if processes.is_empty() {
        found.extend(checks::installation(
            &installation,
            &args.operator_namespace,
            now,
        ));
    }
    for process in processes {
        let objects = objects::of(cluster, process).await?;
        let told = match &temporal {
            None => None,
            Some(Ok(temporal)) => Some(ask(temporal, args, &objects).await),
            Some(Err(why)) => Some(Told {
                unreachable: Some(why.clone()),
                ..Told::default()
            }),
        };
        let (lease, of) = (&installation, &args.operator_namespace);
        found.extend(checks::process(lease, of, &objects, told.as_ref(), now));
    }
    print(args, &found)?;
    let failed = found
        .iter()
        .filter(|check| check.level == Level::Fail)
        .count();
    match failed {
        0 => Ok(()),
        1 => Err(no("1 check has failed")),
        count => Err(no(format!("{count} checks have failed"))),
    }
}

/// The Processes that are meant, and whether the kind is unknown.
async fn processes(cluster: &Cluster, args: &VerifyArgs) -> Result<(Vec<Process>, bool)> {
    let api = cluster.api::<Process>();
    let found = match &args.name {
        Some(name) => api.get(name).await.map(|found| vec![found]),
        None => api
            .list(&ListParams::default())
            .await
            .map(|found| found.items),
    };
    match (found, &args.name) {
        (Ok(found), _) => Ok((found, false)),
        (Err(error), _) if unknown_kind(&error) => Ok((Vec::new(), true)),
        (Err(error), Some(name)) => Err(cluster.about_process(name, &error)),
        (Err(error), None) => Err(explain(&"processes", &error)),
    }
}

async fn leases(cluster: &Cluster, namespace: &str) -> Result<Leases> {
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), namespace);
    let found = match api.list(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(error) if forbidden(&error) => return Ok(Leases::Unseen),
        Err(error) => anyhow::bail!("Leases in namespace {namespace}: {}", words(&error)),
    };
    let prefix = names::lease_name("");
    let ours = found
        .into_iter()
        .filter(|lease| lease.name_any().starts_with(&prefix));
    let told = ours.map(|lease| {
        let name = lease.name_any();
        let spec = lease.spec.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.unwrap_or(30);
        (name, spec.renew_time.map(|at| at.0), seconds)
    });
    Ok(Leases::Seen(told.collect()))
}

/// Asks Temporal about one Process.
async fn ask(temporal: &Temporal, args: &VerifyArgs, objects: &Objects) -> Told {
    let tree = tree(objects);
    let namespace = tree.temporal_namespace.as_str();
    let exists = temporal.namespace(namespace).await;
    if exists != Ok(true) {
        return Told {
            namespace: Some(exists),
            ..Told::default()
        };
    }
    let routing = if versioned(&objects.process) {
        let deployment = format!("{}/{}", tree.namespace, tree.name);
        Some(temporal.routing(namespace, &deployment).await)
    } else {
        None
    };
    let probe = match &args.probe {
        Some(kind) => {
            let limit: Duration = args.probe_timeout;
            let answer = temporal
                .probe(namespace, &tree.task_queue, kind, limit)
                .await;
            Some((kind.clone(), answer))
        }
        None => None,
    };
    Told {
        unreachable: None,
        namespace: Some(exists),
        pollers: Some(temporal.pollers(namespace, &tree.task_queue).await),
        routing,
        probe,
    }
}

fn print(args: &VerifyArgs, found: &[Check]) -> Result<()> {
    match args.output {
        Some(format @ (Format::Json | Format::Yaml)) => return data(&found, format),
        Some(Format::Name) => {
            let failed = found.iter().filter(|check| check.level == Level::Fail);
            let names = failed.map(|check| format!("{} {}\n", check.about, check.check));
            return write(&names.collect::<String>());
        }
        None | Some(Format::Wide) => {}
    }
    let rows = found.iter().map(|check| {
        let (tone, word) = match check.level {
            Level::Ok => (Tone::Good, "ok"),
            Level::Warn => (Tone::Busy, "warn"),
            Level::Fail => (Tone::Bad, "fail"),
            Level::Skip => (Tone::Dim, "skip"),
        };
        let fix = match check.fix.as_str() {
            "" => Line::default(),
            fix => Line::toned(format!("; to mend it: {fix}"), Tone::Strong),
        };
        vec![
            Line::toned(format!("{} {word}", sign(tone)), tone),
            Line::plain(&check.about),
            Line::plain(check.check),
            Line::plain(&check.told).and(fix),
        ]
    });
    Out::stdout().lines(&table(rows.collect()))
}
