//! The cluster, with the rights of whoever calls.

use std::fmt::Display;

use anyhow::Result;
use k8s_openapi::NamespaceResourceScope;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use process_operator_crds::Process;

use crate::args::Target;
use crate::exit::unasked;

/// A cluster and the namespace that is meant there.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The connection.
    pub(crate) client: Client,
    /// The namespace.
    pub(crate) namespace: String,
}

impl Cluster {
    /// The cluster that the kubeconfig and the arguments name.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let options = KubeConfigOptions {
            context: target.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &target.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path)
                    .map_err(|error| unasked(format!("--kubeconfig: {error}")))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None if target.context.is_some() => Config::from_kubeconfig(&options).await,
            None => match Config::infer().await {
                Ok(config) => return Self::with(config, target),
                // Of the two ways that were tried, the kubeconfig is the one that is meant here.
                Err(_) => Config::from_kubeconfig(&options).await,
            },
        };
        let config = config.map_err(|error| unasked(format!("kubeconfig: {error}")))?;
        Self::with(config, target)
    }

    fn with(config: Config, target: &Target) -> Result<Self> {
        let namespace = target
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| unasked(format!("kubeconfig: {error}")))?;
        Ok(Self { client, namespace })
    }

    /// A kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One Process.
    pub(crate) async fn process(&self, name: &str) -> Result<Process> {
        let found = self.api::<Process>().get(name).await;
        found.map_err(|error| self.about_process(name, &error))
    }

    /// Why a Process could not be read or changed.
    pub(crate) fn about_process(&self, name: &str, error: &kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound" => {
                self.absent(name)
            }
            error => explain(&format!("process {name}"), error),
        }
    }

    /// There is no such Process.
    pub(crate) fn absent(&self, name: &str) -> anyhow::Error {
        unasked(format!(
            "process {name} not found in namespace {}; `kubectl process list -A` shows all",
            self.namespace
        ))
    }
}

/// Whether it is the caller's rights that are missing.
pub(crate) fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 || status.code == 401)
}

/// Whether the cluster does not know the kind at all. A missing object has a reason, a missing kind none.
pub(crate) fn unknown_kind(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && status.reason != "NotFound")
}

/// In few words.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Service(inner) => format!("Kubernetes cannot be reached: {inner}"),
        kube::Error::HyperError(inner) => format!("Kubernetes cannot be reached: {inner}"),
        other => other.to_string(),
    }
}

/// Why something about `what` could not be asked.
pub(crate) fn explain(what: &impl Display, error: &kube::Error) -> anyhow::Error {
    if unknown_kind(error) {
        return unasked(
            "the kind Process is not installed in this cluster: apply crds/processes.ameide.io.yaml of the \
             operator",
        );
    }
    unasked(format!("{what}: {}", words(error)))
}
