//! A world of its own for one test.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use process_operator_crds::Process;
use process_operator_faultproxy::audit::{AuditLog, AuditMark};
use process_operator_tests::testbed::Testbed;
use tokio::sync::OnceCell;

use crate::guard::VersionGuard;
use crate::temporal::Temporal;
use crate::wait::until;

static NEXT: AtomicU32 = AtomicU32::new(0);
static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Namespaces, clients and the audit log of one test.
pub struct Env {
    /// Kubernetes namespace, with PodSecurity `restricted`.
    pub namespace: String,
    /// Temporal namespace of the workers.
    pub apps: String,
    /// Temporal namespace of the operator's own workflows.
    pub control: String,
    /// Client with all rights.
    pub kube: Client,
    /// Connection to the Temporal server of this test.
    pub temporal: Temporal,
    /// What reached the API server.
    pub audit: AuditLog,
    /// Where that stood before there was anything in this world.
    pub(crate) began: AuditMark,
    /// The running testbed.
    pub testbed: Testbed,
    /// Address of Temporal for the operator.
    pub temporal_address: String,
    /// Address of Temporal for worker pods.
    pub temporal_pod_address: String,
    /// What watches the pods of its Processes.
    pub(crate) guards: Mutex<Vec<VersionGuard>>,
    /// Name and uid of Processes that have gone without anybody having written to them, of which the audit log does not tell.
    pub(crate) untouched: Mutex<Vec<(String, String)>>,
}

/// Root of the checkout.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Env {
    /// Remembers a Process that may go before the operator has written to it.
    pub fn remember(&self, process: &Process) {
        let known = (process.name_any(), process.uid().unwrap_or_default());
        crate::guard::lock(&self.untouched).push(known);
    }

    /// A fresh world on the shared Temporal server.
    pub async fn new(name: &str) -> Result<Self> {
        let testbed = Testbed::current()?;
        let address = testbed.state().temporal_address.clone();
        let pods = testbed.state().temporal_pod_address.clone();
        Self::on(name, testbed, address, pods).await
    }

    /// A fresh world on another Temporal server, for tests that take it away.
    pub async fn on(
        name: &str,
        testbed: Testbed,
        address: String,
        pod_address: String,
    ) -> Result<Self> {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{name}-{}-{n}", std::process::id());
        let (apps, control) = (format!("{namespace}-apps"), format!("{namespace}-control"));
        let temporal = (address, pod_address);
        Self::set_up(namespace, apps, control, testbed, temporal).await
    }

    /// A world whose names people are to read: Kubernetes namespace, and Temporal namespaces of the workers
    /// and of the operator. There is one of it at a time.
    pub async fn named(namespace: &str, apps: &str, control: &str) -> Result<Self> {
        let testbed = Testbed::current()?;
        let state = testbed.state();
        let temporal = (
            state.temporal_address.clone(),
            state.temporal_pod_address.clone(),
        );
        // The one before may still be on its way out.
        testbed.await_no_namespace(namespace)?;
        let [namespace, apps, control] = [namespace, apps, control].map(str::to_owned);
        Self::set_up(namespace, apps, control, testbed, temporal).await
    }

    async fn set_up(
        namespace: String,
        apps: String,
        control: String,
        testbed: Testbed,
        (address, pod_address): (String, String),
    ) -> Result<Self> {
        let kube = client(&testbed, true).await?;
        INSTALLED
            .get_or_try_init(|| install(&kube, &testbed))
            .await?;
        let log = testbed.state().audit_log.as_ref();
        let audit = AuditLog::open(
            log.context("the tests read the API server's audit log: run them on the testbed")?,
        )?;
        let began = audit.mark()?;
        testbed.create_namespace(&namespace)?;
        let temporal = Temporal::connect(&address).await?;
        temporal.create_namespace(&apps).await?;
        temporal.create_namespace(&control).await?;
        Ok(Self {
            audit,
            began,
            namespace,
            apps,
            control,
            kube,
            temporal,
            testbed,
            temporal_address: address,
            temporal_pod_address: pod_address,
            guards: Mutex::default(),
            untouched: Mutex::default(),
        })
    }

    /// An API of a namespaced kind in this test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// The same, by a client that hands over what it was refused for now, as a 429, instead of asking again up to
    /// half a minute later.
    pub async fn asked_once<K>(&self) -> Result<Api<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let client = client(&self.testbed, false).await?;
        Ok(Api::namespaced(client, &self.namespace))
    }

    /// Runs kubectl in this test's namespace; the output, or what went wrong in its words.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        use std::io::Write as _;
        let mut child = self
            .testbed
            .kubectl()
            .args(["-n", &self.namespace])
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("stdin")?
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "kubectl {}: {text}{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// Deletes its namespaces. Called at the end of a test that passed; one that failed leaves its
    /// world to be looked at.
    pub async fn remove(self) -> Result<()> {
        // The operator ends with the test: nobody would take the finalizers off, and the namespace
        // would stay for ever.
        let processes: Api<Process> = self.api();
        processes
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
        let bare = Patch::Merge(serde_json::json!({ "metadata": { "finalizers": null } }));
        for process in processes.list(&ListParams::default()).await? {
            let name = process.metadata.name.unwrap_or_default();
            // The operator may have been faster.
            let _ = processes.patch(&name, &PatchParams::default(), &bare).await;
        }
        let api: Api<Namespace> = Api::all(self.kube.clone());
        api.delete(&self.namespace, &DeleteParams::background())
            .await?;
        for name in [&self.control, &self.apps] {
            // A test may have taken it away itself.
            let _ = self.temporal.let_namespace_go(name).await;
        }
        Ok(())
    }
}

async fn client(testbed: &Testbed, retry: bool) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(testbed.kubeconfig())?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = retry;
    Ok(Client::try_from(config)?)
}

/// CRD and rights, as a user installs them.
async fn install(kube: &Client, testbed: &Testbed) -> Result<()> {
    let root = root();
    for file in ["crds/processes.ameide.io.yaml", "deploy/rbac.yaml"] {
        if file.starts_with("deploy") {
            let api: Api<Namespace> = Api::all(kube.clone());
            let namespace = serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "process-operator" }
            });
            api.patch(
                "process-operator",
                &PatchParams::apply("tests"),
                &Patch::Apply(&namespace),
            )
            .await?;
        }
        let output = testbed
            .kubectl()
            .args(["apply", "--server-side", "--force-conflicts", "-f"])
            .arg(root.join(file))
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "{file}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let api: Api<CustomResourceDefinition> = Api::all(kube.clone());
    until(
        "the CRD is established",
        Duration::from_secs(30),
        async || {
            let crd = api.get("processes.ameide.io").await?;
            let conditions = crd
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let established = conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True");
            anyhow::ensure!(established, "not established");
            Ok(())
        },
    )
    .await
}

/// For the benchmark.
impl Env {
    /// Deletes all Processes and waits until they and their lifecycles are gone.
    pub async fn clear(&self) -> Result<()> {
        let api: Api<process_operator_crds::Process> = self.api();
        api.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default())
            .await?;
        until(
            "all Processes are gone",
            Duration::from_secs(300),
            async || {
                let left = api
                    .list(&kube::api::ListParams::default())
                    .await?
                    .items
                    .len();
                anyhow::ensure!(left == 0, "{left} left");
                Ok(())
            },
        )
        .await?;
        until(
            "all lifecycles are closed",
            Duration::from_secs(600),
            async || {
                let open = self
                    .temporal
                    .list(&self.control, "ExecutionStatus = 'Running'")
                    .await?
                    .len();
                anyhow::ensure!(open == 0, "{open} open");
                Ok(())
            },
        )
        .await
    }

    /// Version of the Temporal server.
    pub async fn temporal_version(&self) -> Result<String> {
        use temporalio_client::grpc::WorkflowService;
        use temporalio_client::tonic::IntoRequest as _;
        use temporalio_common::protos::temporal::api::workflowservice::v1::GetClusterInfoRequest;
        let mut connection = self.temporal.connection.clone();
        let request = GetClusterInfoRequest::default().into_request();
        Ok(WorkflowService::get_cluster_info(&mut connection, request)
            .await?
            .into_inner()
            .server_version)
    }

    /// Process id of a server of the testbed.
    pub fn server_pid(&self, name: &str) -> Result<i32> {
        self.testbed.component_pid(name)
    }

    /// Reads an address over plain HTTP.
    pub async fn fetch(&self, url: &str) -> Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let rest = url.strip_prefix("http://").context("an http address")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut stream = tokio::net::TcpStream::connect(host).await?;
        let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        Ok(text
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default())
    }
}
