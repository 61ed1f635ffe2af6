//! Arguments of the operator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kube::api::ApiResource;
use process_operator_activities::DrainClock;
use process_operator_activities::dependencies::{self, Kinds};
use process_operator_activities::registry::{self, Host};
use process_operator_crds::spec::DrainOnTimeout;
use process_operator_workflows::contract::DrainPolicy;

use crate::probe::Probe;

/// Runs Temporal workers on Kubernetes safely, driven by durable Temporal workflows.
#[derive(Debug, Parser)]
#[command(version, about, args_override_self = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the binary.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, for a moment")]
pub(crate) enum Command {
    /// Run the operator until it is told to stop.
    #[command(args_override_self = true)]
    Run(Config),
    /// Ask an operator's HTTP server until it answers with 200.
    Probe(Probe),
}

/// Arguments of `run`. Address, TLS and API key of the Temporal server come from Temporal's own
/// environment configuration: `TEMPORAL_ADDRESS`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS_*` or a file
/// named by `TEMPORAL_CONFIG_FILE`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Config {
    /// Temporal namespace of the operator's own workflows; must exist. That of the profile in Temporal's
    /// configuration file when absent, or `default`.
    #[arg(
        long = "temporal-namespace",
        env = "TEMPORAL_NAMESPACE",
        value_name = "TEMPORAL_NAMESPACE"
    )]
    namespace_given: Option<String>,
    /// The one that it comes to: see [`Config::settled`].
    #[arg(skip)]
    pub temporal_namespace: String,
    /// File with the API key for Temporal, in place of `TEMPORAL_API_KEY`; read again every 10 s, so that a
    /// new key needs no restart.
    #[arg(long, env = "TEMPORAL_API_KEY_FILE")]
    pub temporal_api_key_file: Option<PathBuf>,
    /// Temporal address given to workers whose Process names no connection Secret; by default the operator's own.
    #[arg(long, env = "WORKER_TEMPORAL_ADDRESS")]
    pub worker_temporal_address: Option<String>,
    /// Kubernetes namespace to watch; may be repeated. All namespaces when absent.
    #[arg(
        long = "watch-namespace",
        alias = "watch-namespaces",
        env = "WATCH_NAMESPACES",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
    /// Kubernetes namespace of the operator's own Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "process-operator")]
    pub namespace: String,
    /// Name of this replica in Events and as Temporal identity.
    #[arg(long, env = "POD_NAME", default_value = "process-operator")]
    pub instance: String,
    /// Context of the kubeconfig to use; the in-cluster configuration or the current context when absent.
    #[arg(long)]
    pub context: Option<String>,
    /// Seconds between two sweeps for what Kubernetes cannot tell.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub sweep_seconds: u64,
    /// Seconds between two complete lists of what is watched, in case a watch has not said everything.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub resync_seconds: u64,
    /// Seconds between two pings of each Temporal namespace in use; not more than half of
    /// `--outage-seconds` counts. One that does not answer is asked three times as often, at least every
    /// 5 s.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=1800))]
    pub temporal_ping_seconds: u64,
    /// Seconds without an answer from Temporal, or for one Temporal namespace, after which the Processes
    /// concerned say so; two pings when absent. A single lost answer then does not show.
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub outage_seconds: Option<u64>,
    /// Seconds that workflows get to end on an old version, for Processes without
    /// `spec.drain.timeoutSeconds`; as long as they take when absent.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=31_536_000))]
    pub drain_timeout_seconds: Option<i64>,
    /// What happens to them then, for Processes without `spec.drain.onTimeout`: `Wait`, `Cancel`,
    /// `Terminate` or `MoveToCurrent`.
    #[arg(long, default_value_t = DrainOnTimeout::Wait)]
    pub drain_on_timeout: DrainOnTimeout,
    /// Seconds between a cancellation and the termination that follows it, for Processes without
    /// `spec.drain.cancelGraceSeconds`.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(i64).range(0..=86_400))]
    pub drain_cancel_grace_seconds: i64,
    /// Seconds a version keeps its pods after it has drained, so that activities in flight end, for
    /// Processes without `spec.drain.scaleDownDelaySeconds`.
    #[arg(
        long,
        alias = "scale-down-delay-seconds",
        default_value_t = 60,
        value_parser = clap::value_parser!(i64).range(0..=86_400)
    )]
    pub drain_scale_down_delay_seconds: i64,
    /// Seconds a version is kept without pods after that, for Processes without
    /// `spec.drain.deleteDelaySeconds`.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(i64).range(0..=2_678_400))]
    pub drain_delete_delay_seconds: i64,
    /// How many times as fast the clock runs by which drains wait: a test sees weeks of one. Deadlines and delays go by
    /// the server's time.
    #[arg(
        long,
        hide = true,
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub drain_clock_speed: u32,
    /// Changes of routing a second over all replicas together. What exceeds it waits in Temporal's task
    /// queue, where an abort goes first. Temporal's own default is ten a second for each Temporal namespace, a
    /// hundred at once; what it refuses is tried again.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub routing_changes_per_second: u32,
    /// Kind that `spec.dependencies.domains` names, as `<group>/<version>/<Kind>`. Its definition need not be
    /// installed.
    #[arg(long, default_value = "ameide.io/v1/Domain", value_parser = dependencies::kind)]
    pub domain_kind: ApiResource,
    /// Kind that `spec.dependencies.agents` names, as `<group>/<version>/<Kind>`. Its definition need not be
    /// installed.
    #[arg(long, default_value = "ameide.io/v1/Agent", value_parser = dependencies::kind)]
    pub agent_kind: ApiResource,
    /// Host that definitions may be fetched from, as `<host>` or `<host>:<port>`; may be repeated. It is
    /// asked over TLS unless `http://` stands before it. None when absent: `spec.definitionRef.registry` is
    /// refused then.
    #[arg(
        long = "definition-registry",
        env = "DEFINITION_REGISTRY",
        value_delimiter = ','
    )]
    pub definition_registries: Vec<Host>,
    /// File with the bearer token that these hosts are shown; read again for each request.
    #[arg(long, env = "DEFINITION_REGISTRY_TOKEN_FILE")]
    pub definition_registry_token_file: Option<PathBuf>,
    /// File with certificate authorities for these hosts, in PEM, beside those of the system.
    #[arg(long, env = "DEFINITION_REGISTRY_CA_FILE")]
    pub definition_registry_ca_file: Option<PathBuf>,
    /// Seconds that running work gets after SIGTERM; keep it below the pod's termination grace period.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub shutdown_seconds: u64,
    /// Address of `/livez`, `/readyz` and `/metrics`.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Seconds between two looks at the task queues of Processes, for the metrics `process_worker_*`; 0 is
    /// off. A queue on which nothing moves is looked at up to twenty times more rarely.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub queue_metrics_seconds: u64,
    /// Gives these metrics the names of Process, task queue and build id as labels: one series for each.
    #[arg(long)]
    pub queue_metrics_names: bool,
    /// Format of the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people at a terminal.
    Text,
}

impl Config {
    /// With the Temporal namespace that is used: what is given goes before what the profile says.
    pub(crate) fn settled(mut self, of_profile: Option<String>) -> Self {
        let said = [self.namespace_given.take(), of_profile];
        let mut said = said.into_iter().flatten();
        let named = said.find(|namespace| !namespace.is_empty());
        self.temporal_namespace = named.unwrap_or_else(|| "default".to_owned());
        self
    }

    /// Name of this replica towards Temporal.
    pub(crate) fn identity(&self) -> String {
        format!("{}@process-operator", self.instance)
    }

    /// Time between sweeps.
    pub(crate) fn sweep(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds)
    }

    /// Time between complete lists.
    pub(crate) fn resync(&self) -> Duration {
        Duration::from_secs(self.resync_seconds)
    }

    /// Time between two pings of a Temporal namespace.
    pub(crate) fn ping(&self) -> Duration {
        Duration::from_secs(self.temporal_ping_seconds).min(self.outage() / 2)
    }

    /// Time after which silence is an outage.
    pub(crate) fn outage(&self) -> Duration {
        let seconds = self.outage_seconds;
        Duration::from_secs(seconds.unwrap_or(2 * self.temporal_ping_seconds))
    }

    /// Time between looks at task queues, if there are to be any.
    pub(crate) fn queue_looks(&self) -> Option<Duration> {
        (self.queue_metrics_seconds > 0).then(|| Duration::from_secs(self.queue_metrics_seconds))
    }

    /// Kinds of other operators that a Process may depend on.
    pub(crate) fn kinds(&self) -> Kinds {
        Kinds {
            domain: self.domain_kind.clone(),
            agent: self.agent_kind.clone(),
        }
    }

    /// Registries that definitions may come from.
    pub(crate) fn registries(&self) -> registry::Settings {
        registry::Settings {
            hosts: self.definition_registries.clone(),
            token_file: self.definition_registry_token_file.clone(),
            ca_file: self.definition_registry_ca_file.clone(),
        }
    }

    /// How old versions end unless their Process says otherwise.
    pub(crate) fn drains(&self) -> DrainPolicy {
        DrainPolicy {
            timeout_seconds: self.drain_timeout_seconds,
            on_timeout: self.drain_on_timeout,
            cancel_grace_seconds: self.drain_cancel_grace_seconds,
            scale_down_delay_seconds: self.drain_scale_down_delay_seconds,
            delete_delay_seconds: self.drain_delete_delay_seconds,
        }
    }

    /// The clock by which they wait.
    pub(crate) fn drain_clock(&self) -> DrainClock {
        DrainClock::new(self.drain_clock_speed)
    }

    /// Time for running work after SIGTERM.
    pub(crate) fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(given: Option<&str>, of_profile: Option<&str>) -> String {
        let Command::Run(config) = Cli::parse_from(["process-operator", "run"]).command else {
            unreachable!()
        };
        let config = Config {
            namespace_given: given.map(str::to_owned),
            ..config
        };
        config
            .settled(of_profile.map(str::to_owned))
            .temporal_namespace
    }

    #[test]
    fn the_temporal_namespace_is_the_one_given_or_of_the_profile_or_default() {
        assert_eq!(namespace(Some("given"), Some("profile")), "given");
        assert_eq!(namespace(None, Some("profile")), "profile");
        assert_eq!(namespace(Some(""), Some("profile")), "profile");
        assert_eq!(namespace(None, None), "default");
    }
}
