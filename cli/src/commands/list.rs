//! `list`: one line for each Process.

use anyhow::Result;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use process_operator_crds::Process;
use serde::Serialize;

use crate::args::{Format, ListArgs};
use crate::cluster::{Cluster, explain};
use crate::out::{Out, form, write};
use crate::phase::{Phase, phase};
use crate::render::table::table;
use crate::render::tree::{sign, tone};
use crate::render::words::age;
use crate::render::{Line, Tone};

/// What is told of each.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    phase: Phase,
    current: String,
    target: String,
    weight: Option<i32>,
    draining: Vec<String>,
    image: String,
    #[serde(skip)]
    created: Option<Timestamp>,
}

pub(crate) async fn run(cluster: &Cluster, args: &ListArgs) -> Result<()> {
    let api: Api<Process> = if args.all_namespaces {
        Api::all(cluster.client.clone())
    } else {
        cluster.api()
    };
    let mut params = ListParams::default();
    params.label_selector.clone_from(&args.selector);
    let found = api.list(&params).await;
    let found = found.map_err(|error| explain(&"processes", &error))?;
    match args.output.output {
        Some(format @ (Format::Name | Format::Json | Format::Yaml)) => {
            write(&told(&found.items, format)?)
        }
        None if found.items.is_empty() => {
            eprintln!("no Process found");
            Ok(())
        }
        format => {
            let rows = rows(&found.items);
            Out::stdout().lines(&lines(&rows, args.all_namespaces, format.is_some()))
        }
    }
}

/// For programs.
pub(super) fn told(found: &[Process], format: Format) -> Result<String> {
    let rows = rows(found);
    if format == Format::Name {
        let names = rows
            .iter()
            .map(|row| format!("process.ameide.io/{}\n", row.name));
        return Ok(names.collect());
    }
    form(&rows, format)
}

fn rows(found: &[Process]) -> Vec<Row> {
    let mut rows: Vec<Row> = found.iter().map(row).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    rows
}

fn row(process: &Process) -> Row {
    let status = process.status.clone().unwrap_or_default();
    let build_id = |version: Option<process_operator_crds::status::VersionStatus>| {
        version.map(|version| version.build_id).unwrap_or_default()
    };
    Row {
        namespace: process.namespace().unwrap_or_default(),
        name: process.name_any(),
        phase: phase(process),
        current: build_id(status.current_version),
        target: build_id(status.target_version),
        weight: status.rollout.map(|rollout| rollout.weight),
        draining: status
            .draining
            .into_iter()
            .map(|drain| drain.build_id)
            .collect(),
        image: process.spec.image.clone(),
        created: process.metadata.creation_timestamp.as_ref().map(|at| at.0),
    }
}

fn lines(rows: &[Row], all: bool, wide: bool) -> Vec<Line> {
    let now = Timestamp::now();
    let mut heading = vec![
        "NAME", "STATE", "CURRENT", "TARGET", "WEIGHT", "DRAINING", "AGE",
    ];
    if all {
        heading.insert(0, "NAMESPACE");
    }
    if wide {
        heading.extend(["IMAGE", "TOLD"]);
    }
    let heading = heading.into_iter().map(|name| Line::toned(name, Tone::Dim));
    let mut lines = vec![heading.collect::<Vec<_>>()];
    for row in rows {
        let tone = tone(row.phase.word);
        let target = if row.target == row.current {
            ""
        } else {
            &row.target
        };
        let weight = row.weight.map(|weight| format!("{weight} %"));
        let mut cells = vec![
            Line::toned(&row.name, Tone::Strong),
            Line::toned(format!("{} {:?}", sign(tone), row.phase.word), tone),
            Line::plain(&row.current),
            Line::plain(target),
            Line::plain(weight.unwrap_or_default()),
            Line::plain(row.draining.join(",")),
            Line::plain(age(row.created, now)),
        ];
        if all {
            cells.insert(0, Line::plain(&row.namespace));
        }
        if wide {
            cells.extend([Line::plain(&row.image), Line::plain(&row.phase.words)]);
        }
        lines.push(cells);
    }
    table(lines)
}
