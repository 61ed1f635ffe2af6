//! What the story needs: CRD and rights, namespaces, an operator, the Process.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process_operator_crds::Process;
use process_operator_harness::{SOON, Temporal, until};
use process_operator_tests::testbed::{Testbed, cache_dir};
use serde_json::{Value, json};

/// Kubernetes namespace of the Process.
pub(crate) const NAMESPACE: &str = "demo";
/// Kubernetes namespace of the operator's account, and Temporal namespace of its workflows.
pub(crate) const OPERATOR: &str = "process-operator";
/// So that the end of the story comes soon; the default is a minute.
const SCALE_DOWN_DELAY: &str = "5";

/// Everything is in place and the operator is ready.
pub(crate) struct Stage {
    pub(crate) testbed: Testbed,
    pub(crate) kube: Client,
    pub(crate) temporal: Temporal,
    pub(crate) operator: Operator,
    /// `examples/process.yaml`, in the demo's namespace.
    pub(crate) manifest: Value,
    pub(crate) name: String,
}

impl Stage {
    /// Sets the stage, and clears away what an earlier demo has left.
    pub(crate) async fn set() -> Result<Self> {
        let testbed = Testbed::current()?;
        let kube = client(&testbed).await?;
        let temporal = Temporal::connect(&testbed.state().temporal_address)
            .await
            .with_context(|| format!("Temporal at {}", testbed.state().temporal_address))?;
        Operator::stop_earlier()?;
        install(&testbed, &kube).await?;

        let text = fs::read_to_string(root().join("examples/process.yaml"))?;
        let mut manifest: Value = serde_yaml_ng::from_str(&text)?;
        manifest["metadata"]["namespace"] = NAMESPACE.into();
        let name = manifest["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        temporal.create_namespace(OPERATOR).await?;
        temporal
            .create_namespace(temporal_namespace(&manifest))
            .await?;
        namespace(&testbed, &kube).await?;

        let operator = Operator::start(&testbed)?;
        let stage = Self {
            testbed,
            kube,
            temporal,
            operator,
            manifest,
            name,
        };
        stage.introduce();
        stage.operator.ready().await?;
        stage.remove_process().await?;
        Ok(stage)
    }

    fn introduce(&self) {
        let state = self.testbed.state();
        println!("\nA Process through one change of its image.\n");
        println!(
            "  Kubernetes   {}, namespace {NAMESPACE}",
            state.apiserver_url
        );
        println!(
            "  Temporal     {}, workers in namespace {}, the operator in {OPERATOR}",
            state.temporal_address,
            temporal_namespace(&self.manifest)
        );
        println!(
            "  operator     pid {}, as ServiceAccount {OPERATOR}/{OPERATOR}\n",
            self.operator.pid()
        );
    }

    pub(crate) fn processes(&self) -> Api<Process> {
        self.api()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.kube.clone(), NAMESPACE)
    }

    /// Temporal namespace of the workers.
    pub(crate) fn temporal_namespace(&self) -> &str {
        temporal_namespace(&self.manifest)
    }

    pub(crate) fn queue(&self) -> &str {
        self.manifest["spec"]["temporal"]["taskQueue"]
            .as_str()
            .unwrap_or_default()
    }

    /// The image with another tag.
    pub(crate) fn image(&self, tag: &str) -> String {
        let image = self.manifest["spec"]["image"].as_str().unwrap_or_default();
        format!(
            "{}:{tag}",
            image.rsplit_once(':').map_or(image, |(name, _)| name)
        )
    }

    /// Applies the manifest as `kubectl apply --server-side` does.
    pub(crate) async fn apply(&self) -> Result<Process> {
        let params = PatchParams::apply("demo").force();
        Ok(self
            .processes()
            .patch(&self.name, &params, &Patch::Apply(&self.manifest))
            .await?)
    }

    /// Changes the image as `kubectl patch` does.
    pub(crate) async fn set_image(&self, image: &str) -> Result<()> {
        let patch = json!({ "spec": { "image": image } });
        self.processes()
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    async fn remove_process(&self) -> Result<()> {
        let api = self.processes();
        if api.get_opt(&self.name).await?.is_some() {
            api.delete(&self.name, &DeleteParams::default()).await?;
        }
        until("the Process is gone", SOON, async || {
            ensure!(api.get_opt(&self.name).await?.is_none(), "still there");
            Ok(())
        })
        .await
    }

    /// Removes what the demo made, but for CRD, rights and Temporal namespaces.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        let removed = self.remove_process().await;
        self.operator.stop()?;
        removed?;
        let api: Api<Namespace> = Api::all(self.kube.clone());
        api.delete(NAMESPACE, &DeleteParams::default()).await?;
        Ok(())
    }

    /// `kubectl` as a person types it.
    pub(crate) fn kubectl_words(&self) -> String {
        let state = self.testbed.state();
        format!(
            "{} --kubeconfig {}",
            state.kubectl.display(),
            state.kubeconfig.display()
        )
    }
}

fn temporal_namespace(manifest: &Value) -> &str {
    manifest["spec"]["temporal"]["namespace"]
        .as_str()
        .unwrap_or_default()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

async fn client(testbed: &Testbed) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(testbed.kubeconfig())?;
    let options = KubeConfigOptions::default();
    Ok(Client::try_from(
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?,
    )?)
}

/// CRD and rights, as a user installs them.
async fn install(testbed: &Testbed, kube: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(kube.clone());
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OPERATOR } });
    namespaces
        .patch(
            OPERATOR,
            &PatchParams::apply("demo"),
            &Patch::Apply(&namespace),
        )
        .await?;
    for file in ["crds/processes.ameide.io.yaml", "deploy/rbac.yaml"] {
        let output = testbed
            .kubectl()
            .args(["apply", "--server-side", "--force-conflicts", "-f"])
            .arg(root().join(file))
            .output()?;
        ensure!(
            output.status.success(),
            "{file}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let wait = testbed
        .kubectl()
        .args(["wait", "--for=condition=Established", "--timeout=30s"])
        .arg("crd/processes.ameide.io")
        .output()?;
    ensure!(wait.status.success(), "the CRD is not established in 30 s");
    Ok(())
}

/// The namespace, made anew when an earlier demo's is on its way out.
async fn namespace(testbed: &Testbed, kube: &Client) -> Result<()> {
    let api: Api<Namespace> = Api::all(kube.clone());
    let leaving = |found: &Namespace| found.metadata.deletion_timestamp.is_some();
    until(
        &format!("namespace {NAMESPACE} of an earlier demo is gone"),
        SOON,
        async || {
            let found = api.get_opt(NAMESPACE).await?;
            ensure!(!found.as_ref().is_some_and(leaving), "still there");
            if found.is_none() {
                testbed.create_namespace(NAMESPACE)?;
            }
            Ok(())
        },
    )
    .await
}

/// The operator, as a process on this machine with the rights of its own account only.
pub(crate) struct Operator {
    child: Option<Child>,
    pid: i32,
    http: String,
    pub(crate) log: PathBuf,
}

impl Operator {
    fn start(testbed: &Testbed) -> Result<Self> {
        let kubeconfig = testbed.service_account_kubeconfig(OPERATOR, OPERATOR, None)?;
        let program: PathBuf = std::env::var_os("PROCESS_OPERATOR_BINARY")
            .context("start the demo with `cargo xtask demo`")?
            .into();
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let log = cache_dir()?.join("demo-operator.log");
        let child = Command::new(&program)
            .args([
                "run",
                "--watch-namespace",
                NAMESPACE,
                "--temporal-namespace",
                OPERATOR,
            ])
            .args([
                "--worker-temporal-address",
                &testbed.state().temporal_pod_address,
            ])
            .args(["--drain-scale-down-delay-seconds", SCALE_DOWN_DELAY])
            .args(["--drain-delete-delay-seconds", "0"])
            .args(["--listen", &http])
            .env("KUBECONFIG", kubeconfig)
            .env("TEMPORAL_ADDRESS", &testbed.state().temporal_address)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            // Ctrl-C ends the demo first, which then stops the operator.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let pid = i32::try_from(child.id())?;
        fs::write(pid_file()?, pid.to_string())?;
        Ok(Self {
            child: Some(child),
            pid,
            http,
            log,
        })
    }

    /// One that an earlier demo left running would look after the same namespace.
    fn stop_earlier() -> Result<()> {
        let Ok(text) = fs::read_to_string(pid_file()?) else {
            return Ok(());
        };
        let name = fs::read_to_string(format!("/proc/{}/comm", text.trim())).unwrap_or_default();
        if name.starts_with("process-operato") {
            // Gone since is as good.
            let _ = kill(Pid::from_raw(text.trim().parse()?), Signal::SIGTERM);
        }
        Ok(fs::remove_file(pid_file()?)?)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    async fn ready(&self) -> Result<()> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let log = self.log.display();
        until(
            &format!("the operator is ready (its log: {log})"),
            SOON,
            async || {
                let mut stream = tokio::net::TcpStream::connect(&self.http).await?;
                stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await?;
                ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
                Ok(())
            },
        )
        .await
    }

    /// Lets it outlive the demo.
    pub(crate) fn keep(&mut self) -> i32 {
        self.child = None;
        self.pid
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        for _ in 0..150 {
            if child.try_wait()?.is_some() {
                return Ok(fs::remove_file(pid_file()?)?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        child.kill()?;
        bail!("the operator did not stop in 15 s after SIGTERM");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // On the way out of an error: nothing more can be done about another one.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pid_file() -> Result<PathBuf> {
    Ok(cache_dir()?.join("demo-operator.pid"))
}

/// How a Deployment of the Process is found.
pub(crate) fn label(process: &Process) -> String {
    format!("ameide.io/process={}", process.name_any())
}
