//! `history`: the last transitions.

use anyhow::Result;
use jiff::Timestamp;

use crate::args::{Format, HistoryArgs};
use crate::cluster::Cluster;
use crate::model::history;
use crate::out::{Out, data, write};
use crate::render::table::table;
use crate::render::words::{age, clock};
use crate::render::{Line, Tone};

pub(crate) async fn run(cluster: &Cluster, args: &HistoryArgs) -> Result<()> {
    let process = cluster.process(&args.name).await?;
    let entries = history(&process.status.unwrap_or_default());
    match args.output.output {
        Some(Format::Name) => {
            let names = entries.iter().map(|entry| entry.what.clone() + "\n");
            return write(&names.collect::<String>());
        }
        Some(format @ (Format::Json | Format::Yaml)) => return data(&entries, format),
        None | Some(Format::Wide) => {}
    }
    let now = Timestamp::now();
    let wide = args.output.output.is_some();
    let heading = ["TIME", "WHAT", "VERSION", "BY", "WHY"];
    let mut rows = vec![heading.map(|name| Line::toned(name, Tone::Dim)).to_vec()];
    for entry in entries {
        let time = if wide {
            clock(entry.time)
        } else {
            format!("{} ago", age(Some(entry.time), now))
        };
        rows.push(vec![
            Line::plain(time),
            Line::toned(entry.what, Tone::Strong),
            Line::plain(entry.build_id),
            Line::plain(entry.actor),
            Line::plain(entry.reason),
        ]);
    }
    Out::stdout().lines(&table(rows))
}
