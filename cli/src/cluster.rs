//! The cluster, with the rights of whoever calls.

use std::fmt::Display;

use anyhow::Result;
use k8s_openapi::NamespaceResourceScope;
use kube::client::AuthError;
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
        let exec = config.auth_info.exec.as_ref();
        let plugin = exec.and_then(|exec| exec.command.clone());
        let client = Client::try_from(config).map_err(|error| {
            let whose = match (&error, plugin) {
                (kube::Error::Auth(_), Some(plugin)) => format!("{plugin}: "),
                _ => String::new(),
            };
            unasked(format!("kubeconfig: {whose}{}", words(&error)))
        })?;
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
        kube::Error::Auth(inner) => credentials(inner),
        // A token is renewed with a request.
        kube::Error::Service(inner) => match inner.downcast_ref::<AuthError>() {
            Some(inner) => credentials(inner),
            None => format!("Kubernetes cannot be reached: {inner}"),
        },
        kube::Error::HyperError(inner) => format!("Kubernetes cannot be reached: {inner}"),
        other => other.to_string(),
    }
}

/// Why there are no credentials. The error itself would tell what the plugin has written to standard output and
/// the variables it was given, and either may be a secret.
fn credentials(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = match said.trim() {
                "" => String::new(),
                said => format!(": {said}"),
            };
            format!("the plugin for credentials ended with {}{said}", out.status)
        }
        AuthError::AuthExecStart(why) => format!("the plugin for credentials cannot be run: {why}"),
        AuthError::AuthExecParse(_) => "the plugin for credentials wrote no ExecCredential".into(),
        AuthError::Oidc(why) => format!("auth-provider oidc gives no token: {why}"),
        other => format!("no credentials: {other}"),
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{ExitStatus, Output};

    use super::*;

    #[test]
    fn a_plugin_that_fails_is_told_by_its_exit_code_and_without_what_may_be_secret() {
        let failed = |said: &str| {
            let out = Output {
                status: ExitStatus::from_raw(7 << 8),
                stdout: b"a token".to_vec(),
                stderr: said.as_bytes().to_vec(),
            };
            let (cmd, out) = ("TOKEN=\"a token\" login".into(), Box::new(out));
            AuthError::AuthExecRun { cmd, out }
        };
        let ended = "the plugin for credentials ended with exit status: 7";
        let with_words = format!("{ended}: no session");
        assert_eq!(
            words(&kube::Error::Auth(failed("no session\n"))),
            with_words
        );
        // Renewed with a request.
        let later = kube::Error::Service(Box::new(failed("no session\n")));
        assert_eq!(words(&later), with_words);
        // What it says may have gone to the terminal.
        assert_eq!(words(&kube::Error::Auth(failed(""))), ended);
    }
}
