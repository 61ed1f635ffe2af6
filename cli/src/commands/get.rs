//! `get`: the tree of one Process.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::objects;
use super::watch::Watch;
use crate::args::{Format, GetArgs};
use crate::cluster::Cluster;
use crate::model::{Objects, tree};
use crate::out::{Out, data, form, write};
use crate::render;
use crate::render::Line;
use crate::render::words::clock;

/// Changes that come together are shown together.
const SETTLE: Duration = Duration::from_millis(150);
/// Between two drawings without a change: ages and timers go on.
const TICK: Duration = Duration::from_secs(1);

pub(crate) async fn run(cluster: &Cluster, args: &GetArgs) -> Result<()> {
    if args.watch {
        return watch(cluster, args).await;
    }
    let objects = objects::read(cluster, &args.name).await?;
    print(&Out::stdout(), &objects, args.output.output)
}

fn print(out: &Out, objects: &Objects, format: Option<Format>) -> Result<()> {
    let now = Timestamp::now();
    match format {
        None => out.lines(&render::tree::tree(&tree(objects), now, false)),
        Some(Format::Wide) => out.lines(&render::tree::tree(&tree(objects), now, true)),
        Some(format) => write(&told(objects, format)?),
    }
}

/// For programs.
pub(super) fn told(objects: &Objects, format: Format) -> Result<String> {
    let tree = tree(objects);
    if format == Format::Name {
        return Ok(format!("process.ameide.io/{}\n", tree.name));
    }
    form(&tree, format)
}

/// Shows it until it is gone or nobody looks any more.
async fn watch(cluster: &Cluster, args: &GetArgs) -> Result<()> {
    // A watch would wait for a cluster that cannot be reached.
    cluster.process(&args.name).await?;
    let mut out = Out::stdout();
    let mut watch = Watch::start(cluster, &args.name);
    let mut shown = String::new();
    let mut due = Instant::now() + SETTLE;
    let mut dirty = false;
    loop {
        tokio::select! {
            going = watch.changed() => {
                if !going? {
                    return gone(cluster, args, shown.is_empty());
                }
                if !dirty {
                    due = Instant::now() + SETTLE;
                }
                dirty = true;
                continue;
            }
            () = sleep_until(due) => {}
        }
        due = Instant::now() + TICK;
        let Some(objects) = watch.objects() else {
            continue;
        };
        if out.is_terminal() && matches!(args.output.output, None | Some(Format::Wide)) {
            let wide = args.output.output.is_some();
            out.redraw(render::tree::tree(&tree(&objects), Timestamp::now(), wide))?;
            shown.push('.');
            dirty = false;
            continue;
        }
        if !std::mem::take(&mut dirty) {
            continue;
        }
        show_change(&out, args, &objects, &mut shown)?;
    }
}

/// Prints a change, if it is one of what is shown.
fn show_change(out: &Out, args: &GetArgs, objects: &Objects, shown: &mut String) -> Result<()> {
    let tree = tree(objects);
    let now = match args.output.output {
        None | Some(Format::Wide) => render::tree::summary(&tree).text(false),
        _ => serde_json::to_string(&tree)?,
    };
    if *shown == now {
        return Ok(());
    }
    *shown = now;
    match args.output.output {
        None | Some(Format::Wide) => {
            let time = Line::plain(format!("{}  ", clock(Timestamp::now())));
            out.lines(&[time.and(render::tree::summary(&tree))])
        }
        // One line for each, so that a program can read them one after the other.
        Some(Format::Json) => write(&format!("{shown}\n")),
        Some(Format::Yaml) => {
            write("---\n")?;
            data(&tree, Format::Yaml)
        }
        Some(Format::Name) => print(out, objects, args.output.output),
    }
}

/// It is not there; an end like any other when it has been.
fn gone(cluster: &Cluster, args: &GetArgs, never: bool) -> Result<()> {
    if never {
        return Err(cluster.absent(&args.name));
    }
    write(&format!("process {} is gone\n", args.name))
}
