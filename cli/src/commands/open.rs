//! `open`: where a Process is in the Temporal UI.

use std::fmt::Write as _;

use anyhow::Result;
use process_operator_crds::status::WorkflowRef;
use process_operator_workflows::address::path_part;

use crate::args::OpenArgs;
use crate::cluster::Cluster;
use crate::exit::{not_yet, unasked};
use crate::out::write;

pub(crate) async fn run(cluster: &Cluster, args: &OpenArgs) -> Result<()> {
    let process = cluster.process(&args.name).await?;
    let workflow = process.status.and_then(|status| status.workflow);
    let workflow = workflow.ok_or_else(|| {
        not_yet(format!(
            "process {} has no workflow yet: no operator has seen it",
            args.name
        ))
    })?;
    let url = address(&args.ui, &workflow);
    write(&format!("{url}\n"))?;
    if args.browser {
        open::that_detached(&url)
            .map_err(|error| unasked(format!("no browser could be opened: {error}")))?;
    }
    Ok(())
}

/// The page of a workflow.
fn address(ui: &str, workflow: &WorkflowRef) -> String {
    let mut url = format!(
        "{}/namespaces/{}/workflows/{}",
        ui.trim_end_matches('/'),
        path_part(&workflow.namespace),
        path_part(&workflow.id)
    );
    if let Some(run_id) = &workflow.run_id {
        let _ = write!(url, "/{}/history", path_part(run_id));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_one_part_of_the_path() {
        let workflow = WorkflowRef {
            namespace: "control".into(),
            id: "process/shop/l2o/4f".into(),
            run_id: Some("0190-a".into()),
        };
        assert_eq!(
            address("http://ui:8233/", &workflow),
            "http://ui:8233/namespaces/control/workflows/process%2Fshop%2Fl2o%2F4f/0190-a/history"
        );
    }
}
