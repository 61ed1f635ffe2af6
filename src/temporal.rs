//! The connection to the Temporal server, and what the operator needs there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use process_operator_activities::error::Fault;
use process_operator_crds::{ErrorCategory, Reason};
use process_operator_workflows::contract::{SA_BUILD_ID, SA_NAME, SA_NAMESPACE, SA_PHASE};
use temporalio_client::envconfig::{
    ClientConfigProfile, ConfigError, LoadClientConfigProfileOptions,
};
use temporalio_client::grpc::{OperatorService, WorkflowService};
use temporalio_client::tonic::{IntoRequest, Status};
use temporalio_client::{Connection, ConnectionOptions};
use temporalio_common::envconfig::load_client_config_profile;
use temporalio_common::protos::temporal::api::enums::v1::IndexedValueType;
use temporalio_common::protos::temporal::api::operatorservice::v1::{
    AddSearchAttributesRequest, ListSearchAttributesRequest,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeNamespaceRequest;
use tokio::sync::watch;

use crate::config::Config;
use crate::health::{Part, Readiness};

/// How long one probe may take.
const PROBE: Duration = Duration::from_secs(3);
/// How long the client itself tries a call again that an activity makes: less than the activity waits for
/// an answer, so that it learns what the server says. Retries belong to Temporal, which shows them.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// Pause between tries to connect.
const RETRY: Duration = Duration::from_secs(2);
/// Pause between two looks at files with the API key or certificates. The kubelet takes a minute to change them.
pub(crate) const AGAIN: Duration = Duration::from_secs(10);

fn wrong(error: &ConfigError) -> anyhow::Error {
    anyhow::anyhow!("Temporal's environment configuration: {error}")
}

/// The profile that a file has, with what variables say instead.
fn profile() -> anyhow::Result<ClientConfigProfile> {
    let options = LoadClientConfigProfileOptions::default();
    load_client_config_profile(options, None).map_err(|error| wrong(&error))
}

/// The Temporal namespace that it names.
pub(crate) fn profile_namespace() -> anyhow::Result<Option<String>> {
    Ok(profile()?.namespace)
}

/// Options of the connection, from Temporal's environment configuration.
pub(crate) fn options(config: &Config) -> anyhow::Result<ConnectionOptions> {
    let mut profile = profile()?;
    if let Some(file) = &config.temporal_api_key_file {
        profile.api_key = Some(api_key(file)?);
    }
    let mut connection = ConnectionOptions::try_from(profile).map_err(|error| wrong(&error))?;
    connection.connect_timeout = Some(Duration::from_secs(5));
    Ok(connection)
}

/// The same for what activities ask.
pub(crate) fn impatient(options: &ConnectionOptions) -> ConnectionOptions {
    let mut options = options.clone();
    options.retry_options.max_elapsed_time = Some(PATIENCE);
    options
}

fn api_key(file: &Path) -> anyhow::Result<String> {
    let flag = "flag --temporal-api-key-file";
    let text = fs::read_to_string(file).with_context(|| format!("{flag}: {}", file.display()))?;
    let key = text.trim();
    anyhow::ensure!(!key.is_empty(), "{flag}: {} is empty", file.display());
    Ok(key.to_owned())
}

/// Gives connections the API key that the file holds, for ever. One that cannot be read changes nothing.
pub(crate) async fn renew(file: &Path, connections: &[Connection]) {
    let mut known = None;
    let mut said = String::new();
    loop {
        match api_key(file) {
            Ok(key) if known.as_ref() != Some(&key) => {
                for connection in connections {
                    connection.set_api_key(Some(key.clone()));
                }
                // The first time it is the one that they were made with.
                if known.replace(key).is_some() {
                    tracing::info!("the API key for Temporal is a new one");
                }
                said.clear();
            }
            Ok(_) => said.clear(),
            Err(error) => {
                let why = format!("{error:#}");
                if why != said {
                    tracing::warn!("{why}; the API key stays what it was");
                    said = why;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Host and port for workers that are told nothing else.
pub(crate) fn worker_address(config: &Config, options: &ConnectionOptions) -> String {
    config.worker_temporal_address.clone().unwrap_or_else(|| {
        let target = &options.target;
        let host = target.host_str().unwrap_or("localhost");
        format!("{host}:{}", target.port().unwrap_or(7233))
    })
}

/// Connects, for as long as it takes, and finds the operator's namespace.
pub(crate) async fn connect(
    config: &Config,
    mut options: ConnectionOptions,
    readiness: &Readiness,
) -> Connection {
    let mut said = String::new();
    loop {
        // One that cannot be read is tried as it was: what the server says names the trouble.
        let renewed = config.temporal_api_key_file.as_deref().map(api_key);
        if let Some(Ok(key)) = renewed {
            options.api_key = Some(key);
        }
        let why = match Connection::connect(options.clone()).await {
            Ok(connection) => match namespace(&connection, &config.temporal_namespace).await {
                Ok(()) => {
                    readiness.up(Part::Temporal);
                    return connection;
                }
                Err(why) => why,
            },
            Err(error) => format!("cannot connect to Temporal at {}: {error}", place(&options)),
        };
        if why != said {
            tracing::warn!("{why}; trying again every {} s", RETRY.as_secs());
            said.clone_from(&why);
        }
        readiness.down(Part::Temporal, why);
        tokio::time::sleep(RETRY).await;
    }
}

/// What the server is asked as.
fn place(options: &ConnectionOptions) -> String {
    let origin = options.override_origin.as_ref();
    origin.map_or_else(|| options.target.to_string(), ToString::to_string)
}

async fn namespace(connection: &Connection, namespace: &str) -> Result<(), String> {
    let request = DescribeNamespaceRequest {
        namespace: namespace.to_owned(),
        ..Default::default()
    };
    let mut connection = connection.clone();
    match WorkflowService::describe_namespace(&mut connection, request.into_request()).await {
        Ok(_) => Ok(()),
        Err(status) => Err(format!(
            "Temporal namespace {namespace} (flag --temporal-namespace) cannot be used: {}; \
             create it with: temporal operator namespace create -n {namespace}",
            status.message()
        )),
    }
}

/// Why a ping failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silence {
    /// `NamespaceNotFound`, `Forbidden` or `TemporalUnavailable`.
    pub reason: Reason,
    /// In the server's words, if it said some.
    pub why: String,
}

impl Silence {
    /// The server does not answer.
    pub(crate) fn away(why: impl Into<String>) -> Self {
        Self {
            reason: Reason::TemporalUnavailable,
            why: why.into(),
        }
    }
}

/// One cheap call that shows whether the server answers for a namespace: one record is read.
pub(crate) async fn ping(connection: &Connection, namespace: &str) -> Result<(), Silence> {
    let mut request = DescribeNamespaceRequest {
        namespace: namespace.to_owned(),
        ..Default::default()
    }
    .into_request();
    // Proxies before a server may find the namespace by it; the client does the same.
    if let Ok(name) = namespace.parse() {
        request.metadata_mut().insert("temporal-namespace", name);
    }
    // Past the client's own retries, which would hide an outage for ten seconds.
    let mut service = connection.workflow_service();
    match tokio::time::timeout(PROBE, service.describe_namespace(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(silence(status)),
        Err(_) => Err(Silence::away(format!("no answer in {} s", PROBE.as_secs()))),
    }
}

/// A server that knows no such namespace or refuses it is there, but does not serve it. One that is too busy
/// for this, each time for so long, does not either.
fn silence(status: Status) -> Silence {
    let why = status.message().to_owned();
    let reason = match Fault::from(status).category {
        ErrorCategory::NamespaceNotFound => Reason::NamespaceNotFound,
        ErrorCategory::Forbidden => Reason::Forbidden,
        _ => Reason::TemporalUnavailable,
    };
    Silence { reason, why }
}

/// Registers the search attributes that make lists in the Temporal UI useful. They are optional: a
/// server that refuses is used without them.
pub(crate) async fn register_search_attributes(
    connection: &Connection,
    namespace: &str,
    registered: &watch::Sender<bool>,
) {
    let names = [SA_NAME, SA_NAMESPACE, SA_PHASE, SA_BUILD_ID];
    let request = AddSearchAttributesRequest {
        namespace: namespace.to_owned(),
        search_attributes: names
            .into_iter()
            .map(|name| (name.to_owned(), IndexedValueType::Keyword.into()))
            .collect(),
        ..Default::default()
    };
    let mut client = connection.clone();
    if let Err(status) =
        OperatorService::add_search_attributes(&mut client, request.into_request()).await
        && status.code() != temporalio_client::tonic::Code::AlreadyExists
    {
        tracing::info!("search attributes not registered: {}", status.message());
    }
    let request = ListSearchAttributesRequest {
        namespace: namespace.to_owned(),
        ..Default::default()
    };
    match OperatorService::list_search_attributes(&mut client, request.into_request()).await {
        Ok(response) => {
            let known = response.into_inner().custom_attributes;
            let complete = names.iter().all(|name| known.contains_key(*name));
            if !complete {
                tracing::warn!(
                    "search attributes {names:?} (Keyword) are missing in Temporal namespace {namespace}; \
                     lifecycles are not indexed until an administrator adds them"
                );
            }
            registered.send_replace(complete);
        }
        Err(status) => tracing::warn!("search attributes cannot be listed: {}", status.message()),
    }
}

#[cfg(test)]
mod tests {
    use temporalio_client::tonic::Code;

    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_server_that_is_away() {
        for (code, reason) in [
            (Code::PermissionDenied, Reason::Forbidden),
            (Code::Unavailable, Reason::TemporalUnavailable),
            (Code::ResourceExhausted, Reason::TemporalUnavailable),
            // Without the details that a missing namespace comes with.
            (Code::NotFound, Reason::TemporalUnavailable),
        ] {
            assert_eq!(silence(Status::new(code, "why")).reason, reason, "{code:?}");
        }
    }
}
