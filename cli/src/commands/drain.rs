//! `drain`: what drains, and the end of it.

use anyhow::Result;
use clap::ValueEnum as _;
use jiff::Timestamp;

use super::objects;
use super::verbs::{self, Wanted};
use crate::args::{DrainArgs, Format};
use crate::cluster::Cluster;
use crate::model::{VersionState, tree};
use crate::out::{Out, data, write};
use crate::render;

pub(crate) async fn run(cluster: &Cluster, args: &DrainArgs) -> Result<()> {
    if args.force {
        let action = args.action.to_possible_value();
        let action = action.map_or_else(String::new, |value| value.get_name().to_owned());
        let wanted = Wanted::force_drain(&args.build_id, action, args.sure.yes);
        return verbs::run(cluster, &args.sure.verb, wanted).await;
    }
    let name = &args.sure.verb.name;
    let mut tree = tree(&objects::read(cluster, name).await?);
    tree.versions
        .retain(|version| version.state == VersionState::Draining);
    match args.sure.verb.output.output {
        Some(Format::Name) => {
            let names = tree
                .versions
                .iter()
                .map(|version| version.build_id.clone() + "\n");
            write(&names.collect::<String>())
        }
        Some(format @ (Format::Json | Format::Yaml)) => data(&tree.versions, format),
        None | Some(Format::Wide) if tree.versions.is_empty() => write("nothing is draining\n"),
        None | Some(Format::Wide) => {
            Out::stdout().lines(&render::tree::versions(&tree, Timestamp::now()))
        }
    }
}
