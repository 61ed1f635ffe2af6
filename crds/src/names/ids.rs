//! Ids of workflows and identities in Temporal.

use std::{fmt, str::FromStr};

use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::BuildId;
use crate::Process;

const LIFECYCLE: &str = "process";
const ROLLOUT: &str = "rollout";
const DRAIN: &str = "drain";
const OPERATOR: &str = "process-operator";

/// Text that is not an id of the expected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

impl IdError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            expected,
        }
    }
}

/// One Process, told from a successor of the same name by its uid.
///
/// As text it is `<namespace>/<name>/<uid>`. None of the parts can contain a slash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessKey {
    /// Kubernetes namespace.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl ProcessKey {
    /// The key of `process`; `None` for an object that has not been stored yet.
    pub fn of(process: &Process) -> Option<Self> {
        Some(Self {
            namespace: process.namespace()?,
            name: process.metadata.name.clone()?,
            uid: process.uid()?,
        })
    }

    /// Name of the Worker Deployment in Temporal. It has no uid: a Process that is created again
    /// under the same name takes over the versions of its predecessor.
    pub fn worker_deployment(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Id of the `ProcessLifecycle` workflow.
    pub fn lifecycle(&self) -> WorkflowId {
        WorkflowId::Lifecycle(self.clone())
    }

    /// Id of the `ProcessRollout` workflow that brings `build_id` into service; `attempt` counts
    /// from 1.
    pub fn rollout(&self, build_id: &BuildId, attempt: u32) -> WorkflowId {
        WorkflowId::Rollout {
            process: self.clone(),
            build_id: build_id.clone(),
            attempt,
        }
    }

    /// Id of the `ProcessDrain` workflow of `build_id`; `n` counts from 1.
    pub fn drain(&self, build_id: &BuildId, n: u32) -> WorkflowId {
        WorkflowId::Drain {
            process: self.clone(),
            build_id: build_id.clone(),
            n,
        }
    }
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.uid)
    }
}

impl FromStr for ProcessKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace, name, uid] if ![namespace, name, uid].contains(&"") => Ok(Self {
                namespace: namespace.into(),
                name: name.into(),
                uid: uid.into(),
            }),
            _ => Err(IdError::new(text, "<namespace>/<name>/<uid>")),
        }
    }
}

/// Id of one of the operator's workflows. `Display` and `FromStr` are inverse to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkflowId {
    /// Looks after a Process as long as it exists.
    Lifecycle(ProcessKey),
    /// Brings one version into service.
    Rollout {
        /// The Process.
        process: ProcessKey,
        /// The version.
        build_id: BuildId,
        /// Counts from 1.
        attempt: u32,
    },
    /// Takes one version out of service.
    Drain {
        /// The Process.
        process: ProcessKey,
        /// The version.
        build_id: BuildId,
        /// Counts from 1.
        n: u32,
    },
}

impl WorkflowId {
    /// The Process that the workflow works for.
    pub fn process(&self) -> &ProcessKey {
        match self {
            Self::Lifecycle(process)
            | Self::Rollout { process, .. }
            | Self::Drain { process, .. } => process,
        }
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifecycle(process) => write!(f, "{LIFECYCLE}/{process}"),
            Self::Rollout {
                process,
                build_id,
                attempt,
            } => write!(f, "{ROLLOUT}/{process}/{build_id}/{attempt}"),
            Self::Drain {
                process,
                build_id,
                n,
            } => write!(f, "{DRAIN}/{process}/{build_id}/{n}"),
        }
    }
}

impl FromStr for WorkflowId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || IdError::new(text, "the id of one of the operator's workflows");
        let (kind, rest) = text.split_once('/').ok_or_else(error)?;
        if kind == LIFECYCLE {
            return Ok(Self::Lifecycle(rest.parse().map_err(|_| error())?));
        }
        let mut parts = rest.rsplitn(3, '/');
        let (Some(count), Some(build_id), Some(process)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(error());
        };
        let process = process.parse().map_err(|_| error())?;
        let count: u32 = count.parse().map_err(|_| error())?;
        if build_id.is_empty() {
            return Err(error());
        }
        let build_id = BuildId::from_observed(build_id);
        let id = match kind {
            ROLLOUT => Self::Rollout {
                process,
                build_id,
                attempt: count,
            },
            DRAIN => Self::Drain {
                process,
                build_id,
                n: count,
            },
            _ => return Err(error()),
        };
        // "007" and "+7" are numbers too, but not ours.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(error())
        }
    }
}

/// Who manages a Worker Deployment: set with every change of routing and every deletion, so that
/// two Processes, or two clusters, do not work against each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagerIdentity {
    /// `metadata.uid` of namespace `kube-system`, which stands for the cluster.
    pub cluster_uid: String,
    /// `metadata.uid` of the Process.
    pub process_uid: String,
}

impl ManagerIdentity {
    /// The identity of a Process in a cluster.
    pub fn new(cluster_uid: impl Into<String>, process_uid: impl Into<String>) -> Self {
        Self {
            cluster_uid: cluster_uid.into(),
            process_uid: process_uid.into(),
        }
    }
}

impl fmt::Display for ManagerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPERATOR}/{}/{}", self.cluster_uid, self.process_uid)
    }
}

impl FromStr for ManagerIdentity {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [OPERATOR, cluster, process] if !cluster.is_empty() && !process.is_empty() => {
                Ok(Self::new(cluster, process))
            }
            _ => Err(IdError::new(
                text,
                "process-operator/<cluster uid>/<process uid>",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_are_refused() {
        for text in [
            "",
            "process",
            "process/a/b",
            "process/a//c",
            "process/a/b/c/d",
            "rollout/a/b/c/v1-0123abcd",
            "rollout/a/b/c/v1-0123abcd/x",
            "rollout/a/b/c/v1-0123abcd/01",
            "drain/a/b/c//1",
            "other/a/b/c/d/1",
        ] {
            assert!(text.parse::<WorkflowId>().is_err(), "{text}");
        }
        for text in [
            "",
            "temporal-cli:me@host",
            "process-operator/a",
            "process-operator//b",
            "process-operator/a/b/c",
        ] {
            assert!(text.parse::<ManagerIdentity>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_says_what_was_expected() {
        let error = "a/b".parse::<ProcessKey>().expect_err("two parts");
        assert_eq!(
            error.to_string(),
            r#""a/b" is not <namespace>/<name>/<uid>"#
        );
    }
}
