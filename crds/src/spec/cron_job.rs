//! `spec.cronJobs`: work beside the workers, by the clock.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Resources;
use crate::schema;

/// A Kubernetes CronJob that runs beside the workers: the same environment, service account, volumes and
/// security context as the Current version, and its image unless another is given. It is made when
/// a version is Current for the first time, follows it, and goes with the Process.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.image) || has(self.command) || has(self.args)")
        .message("a cron job must have an image, a command or args: with none of them it would be another worker")
        .reason(Reason::FieldValueRequired)
        .field_path(".command"),
    validation = Rule::new("!has(self.timeZone) || self.timeZone.lowerAscii() != 'local'")
        .message("timeZone must be a name of the time zone database, such as Europe/Berlin: Local is another one on each machine")
        .reason(Reason::FieldValueInvalid)
        .field_path(".timeZone")
)]
pub struct CronJob {
    /// Name of the job; the CronJob is called `<process>-<name>`, at most 52 characters together.
    #[schemars(length(min = 1, max = 50), regex(pattern = schema::DNS_LABEL))]
    pub name: String,

    /// What the job is for. Its pods have it as label `ameide.io/purpose` and as environment variable
    /// `PROCESS_CRON_JOB_PURPOSE`, beside `PROCESS_CRON_JOB` with the name.
    pub purpose: CronJobPurpose,

    /// When it runs, in cron's five fields or as `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schemars(length(min = 1, max = 128), regex(pattern = schema::CRON))]
    pub schedule: String,

    /// Time zone of the schedule, for example `Europe/Berlin`. Absent means that of the
    /// kube-controller-manager, most often UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = schema::TIME_ZONE))]
    pub time_zone: Option<String>,

    /// Image of the job. Absent means the image of the Current version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = schema::IMAGE))]
    pub image: Option<String>,

    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub command: Vec<String>,

    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::command")]
    pub args: Vec<String>,

    /// What happens when a run is due while the last one goes on.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,

    /// Seconds after which a run is ended, 1 to 604800. Absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub active_deadline_seconds: Option<i64>,

    /// `true` starts no new runs.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub suspend: bool,

    /// CPU, memory and other resources of the job. Absent means those of the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// What a cron job is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
pub enum CronJobPurpose {
    /// It looks whether promises about running workflows are kept.
    SLACheck,
    /// It clears away what is no longer used.
    Cleanup,
}

impl CronJobPurpose {
    /// The value as it is written in a label.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What happens when a run is due while the last one goes on.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
)]
pub enum ConcurrencyPolicy {
    /// Both run.
    Allow,
    /// The new one is left out.
    #[default]
    Forbid,
    /// The old one is ended.
    Replace,
}

impl ConcurrencyPolicy {
    /// The value as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
