//! The command line of every component.

use std::path::Path;

use anyhow::Result;

use super::check::Check;
use super::go::Binaries;
use super::paths::{BRIDGE_ADDRESS, NODE, RUN, SERVICES};
use super::ports::Ports;
use super::process::Launch;
use super::temporal;

/// What the command lines are made of.
pub(super) struct Plan<'a> {
    pub(super) bin: &'a Binaries,
    pub(super) data: &'a Path,
    pub(super) ports: &'a Ports,
}

/// A component that is to be started.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) launch: Launch,
    pub(super) checks: Vec<Check>,
}

impl Plan<'_> {
    fn part(&self, name: &'static str, args: Vec<String>, checks: Vec<Check>) -> Result<Part> {
        let log = self.data.join(format!("logs/{name}.log"));
        let launch = Launch::new(self.bin.path(name)?, log, args);
        Ok(Part {
            name,
            launch,
            checks,
        })
    }

    fn local(&self, port: &str, path: &str) -> Check {
        Check::http(
            format!("http://127.0.0.1:{}{path}", self.ports.get(port)),
            200,
        )
    }

    /// A `kubectl` command of admin's as a check.
    pub(super) fn kubectl(&self, args: &[&str]) -> Result<Check> {
        let kubeconfig = self
            .data
            .join("kubeconfig/admin.yaml")
            .display()
            .to_string();
        let mut words = vec![self.bin.path("kubectl")?.display().to_string()];
        words.extend(["--kubeconfig".to_owned(), kubeconfig]);
        // A server that takes a request and never answers must not hold up the
        // notice that another component has ended.
        words.push("--request-timeout=2s".to_owned());
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        Ok(Check::Command(words))
    }

    /// Those that need no API server, and it.
    pub(super) fn first(&self) -> Result<Vec<Part>> {
        let temporal_dir = self.data.join("temporal");
        let temporal_log = self.data.join("logs/temporal.log");
        let server = self.bin.path("temporal-server")?;
        Ok(vec![
            self.etcd()?,
            self.apiserver()?,
            Part {
                name: "temporal",
                launch: temporal::launch(server, &temporal_dir, &temporal_log),
                checks: temporal::checks(self.ports),
            },
            self.part(
                "containerd",
                vec![format!(
                    "--config={}/config/containerd.toml",
                    self.data.display()
                )],
                vec![Check::Socket(format!("{RUN}/containerd.sock").into())],
            )?,
            self.part(
                "temporal-ui",
                [
                    "--root",
                    &self.data.display().to_string(),
                    "--config",
                    "config/ui",
                    "--env",
                    "testbed",
                    "start",
                ]
                .map(str::to_owned)
                .to_vec(),
                vec![self.local("temporal-ui", "/healthz")],
            )?,
        ])
    }

    /// Those that end when there is no API server to talk to.
    pub(super) fn second(&self) -> Result<Vec<Part>> {
        let data = self.data.display();
        let coredns = self.part(
            "coredns",
            vec!["-conf".to_owned(), format!("{data}/config/Corefile")],
            vec![self.local("coredns-health", "/health")],
        )?;
        let proxy = self.part(
            "kube-proxy",
            vec![format!("--config={data}/config/kube-proxy.yaml")],
            vec![self.local("kube-proxy-health", "/healthz")],
        )?;
        Ok(vec![
            self.kubelet()?,
            self.controller_manager()?,
            self.scheduler()?,
            proxy,
            coredns,
        ])
    }

    fn etcd(&self) -> Result<Part> {
        let client = format!("http://127.0.0.1:{}", self.ports.get("etcd"));
        let peer = format!("http://127.0.0.1:{}", self.ports.get("etcd-peer"));
        self.part(
            "etcd",
            vec![
                "--name=testbed".into(),
                format!("--data-dir={}/etcd", self.data.display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=testbed={peer}"),
                // The data does not outlive the testbed.
                "--unsafe-no-fsync".into(),
                "--log-level=warn".into(),
            ],
            vec![self.local("etcd", "/health")],
        )
    }

    fn apiserver(&self) -> Result<Part> {
        let data = self.data.display();
        let pki = format!("{data}/pki");
        self.part(
            "kube-apiserver",
            vec![
                format!("--bind-address={BRIDGE_ADDRESS}"),
                format!("--advertise-address={BRIDGE_ADDRESS}"),
                format!("--secure-port={}", self.ports.get("apiserver")),
                format!("--tls-cert-file={pki}/apiserver.crt"),
                format!("--tls-private-key-file={pki}/apiserver.key"),
                format!("--etcd-servers=http://127.0.0.1:{}", self.ports.get("etcd")),
                "--authorization-mode=Node,RBAC".into(),
                // As distributions have it on: the operator's rights must do there too.
                "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".into(),
                format!("--admission-control-config-file={data}/config/admission.yaml"),
                format!("--token-auth-file={pki}/tokens.csv"),
                format!("--service-cluster-ip-range={SERVICES}"),
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
                format!("--service-account-key-file={pki}/service-accounts.pub"),
                format!("--service-account-signing-key-file={pki}/service-accounts.key"),
                format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
                format!("--kubelet-client-key={pki}/kubelet-client.key"),
                "--kubelet-preferred-address-types=InternalIP".into(),
                format!("--audit-policy-file={data}/config/audit-policy.yaml"),
                format!("--audit-log-path={data}/logs/audit.log"),
                // In megabytes: never rotated.
                "--audit-log-maxsize=1000000".into(),
                "--shutdown-delay-duration=0s".into(),
            ],
            vec![self.kubectl(&["get", "--raw", "/readyz"])?],
        )
    }

    fn kubelet(&self) -> Result<Part> {
        let data = self.data.display();
        self.part(
            "kubelet",
            vec![
                format!("--config={data}/config/kubelet.yaml"),
                format!("--kubeconfig={data}/kubeconfig/kubelet.yaml"),
                format!("--root-dir={data}/kubelet"),
                format!("--cert-dir={data}/kubelet/pki"),
                format!("--node-ip={BRIDGE_ADDRESS}"),
                format!("--hostname-override={NODE}"),
            ],
            vec![self.local("kubelet-health", "/healthz")],
        )
    }

    fn controller_manager(&self) -> Result<Part> {
        let data = self.data.display();
        self.part(
            "kube-controller-manager",
            vec![
                format!("--kubeconfig={data}/kubeconfig/controller-manager.yaml"),
                "--controllers=*,-node-ipam-controller".into(),
                "--bind-address=127.0.0.1".into(),
                format!("--secure-port={}", self.ports.get("controller-manager")),
                format!("--cert-dir={data}/controller-manager"),
                format!("--root-ca-file={data}/pki/ca.crt"),
                format!("--service-account-private-key-file={data}/pki/service-accounts.key"),
                "--use-service-account-credentials".into(),
                "--leader-elect=false".into(),
            ],
            // It makes the account that every pod runs under.
            vec![self.kubectl(&["get", "serviceaccount", "--namespace=default", "default"])?],
        )
    }

    fn scheduler(&self) -> Result<Part> {
        let data = self.data.display();
        let port = self.ports.get("scheduler");
        let server = format!("--server=https://127.0.0.1:{port}");
        self.part(
            "kube-scheduler",
            vec![
                format!("--kubeconfig={data}/kubeconfig/scheduler.yaml"),
                "--bind-address=127.0.0.1".into(),
                format!("--secure-port={port}"),
                format!("--tls-cert-file={data}/pki/scheduler.crt"),
                format!("--tls-private-key-file={data}/pki/scheduler.key"),
                "--leader-elect=false".into(),
            ],
            // Not /healthz, which is well before it has seen the nodes.
            vec![self.kubectl(&[server.as_str(), "get", "--raw", "/readyz"])?],
        )
    }
}
