//! The worker's environment variables. The README has them as a table.

use crate::{
    eventing::{self, Bound},
    faults::Faults,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, str::FromStr};

/// Activities running at once when `MAX_CONCURRENCY_PER_TENANT` is not set.
pub const DEFAULT_MAX_ACTIVITIES: usize = 10;

/// Why the environment cannot be used; shown to a person as it is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A variable without which there is nothing to do.
    #[error("environment variable {name} is not set: it must hold {what}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What belongs into it.
        what: &'static str,
    },
    /// A variable that is set to something else than it takes.
    #[error("environment variable {name} is {value:?}: it must be {what}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it is set to.
        value: String,
        /// What it takes.
        what: &'static str,
    },
}

/// What moves a running workflow to a newer version of the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behavior {
    /// Nothing: a run ends on the version it was started on.
    #[default]
    Pinned,
    /// The next workflow task after a newer version became current.
    AutoUpgrade,
}

/// The Worker Deployment Version that this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The Worker Deployment's name.
    pub deployment_name: String,
    /// The build id.
    pub build_id: String,
    /// How running workflows meet a newer version.
    pub behavior: Behavior,
}

/// Everything the worker takes from its environment, except for TLS and the API key, which the
/// Temporal client reads by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `TEMPORAL_ADDRESS`: host and port, or a URL.
    pub address: String,
    /// `TEMPORAL_NAMESPACE`.
    pub namespace: String,
    /// `TASK_QUEUE`, otherwise `TEMPORAL_TASK_QUEUE`.
    pub task_queue: String,
    /// `TEMPORAL_DEPLOYMENT_NAME`, or empty.
    pub deployment_name: String,
    /// `TEMPORAL_WORKER_BUILD_ID`, or empty.
    pub build_id: String,
    /// `VERSIONING_BEHAVIOR`.
    pub behavior: Behavior,
    /// `PROCESS_NAME`, or empty.
    pub process: String,
    /// `PROCESS_DEFINITION_ID`, or empty.
    pub definition_id: String,
    /// `PROCESS_TENANT_ID`, or empty.
    pub tenant_id: String,
    /// `MAX_CONCURRENCY_PER_TENANT`: how many activities run at once.
    pub max_activities: usize,
    /// `PROCESS_DEFINITION_PATH`: the files in it, by name.
    pub definition: BTreeMap<String, String>,
    /// `PROCESS_EVENTING_FILE`: the topics in it.
    pub bindings: BTreeMap<String, Bound>,
    /// `METRICS_TAGS`: labels put on every metric.
    pub metrics_tags: BTreeMap<String, String>,
    /// `METRICS_PORT`: where Prometheus finds `/metrics`.
    pub metrics_port: Option<u16>,
    /// `HEALTH_PORT`: where probes find `/readyz` and `/livez`.
    pub health_port: Option<u16>,
    /// `POD_NAME`, otherwise the host name.
    pub pod: String,
    /// The faults that are switched on.
    pub faults: Faults,
}

impl Config {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads an environment given as a function, so that tests need not touch the real one.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let env = Env(lookup);
        Ok(Self {
            address: env.required("TEMPORAL_ADDRESS", "the Temporal frontend's host:port")?,
            namespace: env.required("TEMPORAL_NAMESPACE", "the Temporal namespace")?,
            task_queue: match env.text("TASK_QUEUE") {
                Some(queue) => queue,
                None => env
                    .text("TEMPORAL_TASK_QUEUE")
                    .ok_or(ConfigError::Missing {
                        name: "TASK_QUEUE",
                        what: "the task queue to poll",
                    })?,
            },
            deployment_name: env.text("TEMPORAL_DEPLOYMENT_NAME").unwrap_or_default(),
            build_id: env.text("TEMPORAL_WORKER_BUILD_ID").unwrap_or_default(),
            behavior: env.behavior("VERSIONING_BEHAVIOR")?,
            process: env.text("PROCESS_NAME").unwrap_or_default(),
            definition_id: env.text("PROCESS_DEFINITION_ID").unwrap_or_default(),
            tenant_id: env.text("PROCESS_TENANT_ID").unwrap_or_default(),
            max_activities: env
                .number::<u16>(
                    "MAX_CONCURRENCY_PER_TENANT",
                    "a number from 1 to 65535",
                    |n| n > 0,
                )?
                .map_or(DEFAULT_MAX_ACTIVITIES, usize::from),
            definition: match env.text("PROCESS_DEFINITION_PATH") {
                Some(path) => definition(&path)?,
                None => BTreeMap::new(),
            },
            bindings: match env.text("PROCESS_EVENTING_FILE") {
                Some(path) => eventing::read(&path)?,
                None => BTreeMap::new(),
            },
            metrics_tags: env.tags("METRICS_TAGS")?,
            metrics_port: env.port("METRICS_PORT")?,
            health_port: env.port("HEALTH_PORT")?,
            pod: env
                .text("POD_NAME")
                .or_else(|| env.text("HOSTNAME"))
                .or_else(kernel_host_name)
                .unwrap_or_else(|| "unknown".to_owned()),
            faults: Faults {
                fail_percent: env.percent("FAIL_PERCENT")?,
                fail_task_percent: env.percent("FAIL_TASK_PERCENT")?,
                fail_verify: env.switch("FAIL_VERIFY")?,
                crash_at_start: env.switch("CRASH_AT_START")?,
                crash_after_ms: env
                    .number("CRASH_AFTER_MS", "a number of milliseconds", |_| true)?
                    .unwrap_or_default(),
                never_poll: env.switch("NEVER_POLL")?,
                ignore_versioning: env.switch("IGNORE_VERSIONING")?,
                break_determinism: env.switch("BREAK_DETERMINISM")?,
                start_delay_ms: env
                    .number("START_DELAY_MS", "a number of milliseconds", |_| true)?
                    .unwrap_or_default(),
            },
        })
    }

    /// The version this worker polls as; none when it polls unversioned.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let named = !self.deployment_name.is_empty() && !self.build_id.is_empty();
        (named && !self.faults.ignore_versioning).then(|| Version {
            deployment_name: self.deployment_name.clone(),
            build_id: self.build_id.clone(),
            behavior: self.behavior,
        })
    }

    /// The name under which Temporal knows this process, in the form that SDKs use by default.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}@{}", std::process::id(), self.pod)
    }

    /// `METRICS_TAGS` with keys that Prometheus accepts as label names. The exporter writes them
    /// as they are, and one bad or doubled label name makes the whole page unreadable.
    #[must_use]
    pub fn metric_labels(&self) -> BTreeMap<String, String> {
        self.metrics_tags
            .iter()
            .map(|(key, value)| (label_name(key), value.clone()))
            .collect()
    }
}

/// Label names that the client library's metrics carry themselves.
const TAKEN_LABELS: [&str; 12] = [
    "activity_type",
    "eager",
    "failure_reason",
    "le",
    "namespace",
    "operation",
    "poller_type",
    "service_name",
    "status_code",
    "task_queue",
    "worker_type",
    "workflow_type",
];

fn label_name(key: &str) -> String {
    let mut name: String = key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if name.chars().next().is_none_or(|c| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    if TAKEN_LABELS.contains(&name.as_str()) {
        name.insert_str(0, "tag_");
    }
    name
}

/// Reads the files of a definition.
fn definition(path: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let invalid = || ConfigError::Invalid {
        name: "PROCESS_DEFINITION_PATH",
        value: path.to_owned(),
        what: "a directory with text files",
    };
    let names = eventing::files(path).ok_or_else(invalid)?;
    let read = |name: String| {
        let text = std::fs::read_to_string(std::path::Path::new(path).join(&name));
        text.map(|text| (name, text)).map_err(|_| invalid())
    };
    names.into_iter().map(read).collect()
}

/// Kubernetes sets the host name to the pod's name; the image has no program to ask for it.
fn kernel_host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

struct Env<F>(F);

impl<F: Fn(&str) -> Option<String>> Env<F> {
    /// An empty variable counts as unset, as a manifest can blank a variable but not remove it.
    fn text(&self, name: &str) -> Option<String> {
        self.0(name).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &'static str, what: &'static str) -> Result<String, ConfigError> {
        self.text(name).ok_or(ConfigError::Missing { name, what })
    }

    fn number<N: FromStr + Copy>(
        &self,
        name: &'static str,
        what: &'static str,
        allowed: impl Fn(N) -> bool,
    ) -> Result<Option<N>, ConfigError> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) if allowed(number) => Ok(Some(number)),
            _ => Err(ConfigError::Invalid { name, value, what }),
        }
    }

    fn port(&self, name: &'static str) -> Result<Option<u16>, ConfigError> {
        self.number(name, "a port from 1 to 65535", |port| port > 0)
    }

    fn percent(&self, name: &'static str) -> Result<u8, ConfigError> {
        let percent = self.number(name, "a number from 0 to 100", |percent| percent <= 100)?;
        Ok(percent.unwrap_or_default())
    }

    fn switch(&self, name: &'static str) -> Result<bool, ConfigError> {
        match self.text(name).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(value) => Err(ConfigError::Invalid {
                name,
                value: value.to_owned(),
                what: "1 or 0",
            }),
        }
    }

    fn behavior(&self, name: &'static str) -> Result<Behavior, ConfigError> {
        match self.text(name).as_deref() {
            None | Some("Pinned") => Ok(Behavior::Pinned),
            Some("AutoUpgrade") => Ok(Behavior::AutoUpgrade),
            Some(value) => Err(ConfigError::Invalid {
                name,
                value: value.to_owned(),
                what: "Pinned or AutoUpgrade",
            }),
        }
    }

    fn tags(&self, name: &'static str) -> Result<BTreeMap<String, String>, ConfigError> {
        let Some(value) = self.text(name) else {
            return Ok(BTreeMap::new());
        };
        serde_json::from_str(&value).map_err(|_| ConfigError::Invalid {
            name,
            value,
            what: "a JSON object whose values are strings",
        })
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
