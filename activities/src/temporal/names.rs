//! Which Worker Deployments there are in a Temporal namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use temporalio_client::Connection;
use temporalio_client::grpc::WorkflowService;
use temporalio_client::tonic::{IntoRequest, Status};
use temporalio_common::protos::temporal::api::workflowservice::v1::ListWorkerDeploymentsRequest;

use super::CALL;
use crate::context::Context;
use crate::error::{Fault, Result};

/// Current build id of every Worker Deployment in a Temporal namespace, as the server's index has them.
///
/// # Errors
///
/// What the server answers; `NotFound` when there is no such namespace.
pub async fn list(
    connection: &Connection,
    namespace: &str,
) -> std::result::Result<BTreeMap<String, Option<String>>, Status> {
    let mut found = BTreeMap::new();
    let mut next_page_token = Vec::new();
    loop {
        let request = ListWorkerDeploymentsRequest {
            namespace: namespace.to_owned(),
            page_size: 1000,
            next_page_token,
            ..Default::default()
        };
        let mut connection = connection.clone();
        let page =
            WorkflowService::list_worker_deployments(&mut connection, request.into_request())
                .await?
                .into_inner();
        for deployment in page.worker_deployments {
            let current = deployment
                .routing_config
                .and_then(|routing| routing.current_deployment_version)
                .map(|version| version.build_id);
            found.insert(deployment.name, current);
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        next_page_token = page.next_page_token;
    }
}

/// Whether the namespace is there and had no such Worker Deployment a short while ago. Many who ask share one list,
/// and the list of the last sweep will do.
pub(crate) async fn was_free(context: &Context, namespace: &str, deployment: &str) -> Result<bool> {
    let known = || context.cache.worker_deployments(namespace);
    let look = async {
        if let Some(names) = known() {
            return Ok(names);
        }
        let listed = tokio::time::timeout(CALL, list(&context.connection, namespace));
        let listed = listed
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let listed =
            listed.map_err(|status| Fault::from(status).about("list Worker Deployments"))?;
        let names: BTreeSet<String> = listed.into_keys().collect();
        Ok(context.cache.put_worker_deployments(namespace, names))
    };
    let names: Arc<BTreeSet<String>> = match known() {
        Some(names) => names,
        None => context.names_in(namespace).ask(look).await?,
    };
    Ok(!names.contains(deployment))
}
