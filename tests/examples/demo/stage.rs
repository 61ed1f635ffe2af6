//! What the story needs: the charts' releases, namespaces, the Process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use process_operator_crds::Process;
use process_operator_harness::{SOON, Temporal, until};
use process_operator_tests::testbed::Testbed;
use serde_json::{Value, json};

use crate::release;

/// Kubernetes namespace of the Process.
pub(crate) const NAMESPACE: &str = "demo";
/// Temporal namespace of the operator's workflows.
pub(crate) const CONTROL: &str = "process-operator";

/// Everything is in place and the operator is ready.
pub(crate) struct Stage {
    pub(crate) testbed: Testbed,
    pub(crate) kube: Client,
    pub(crate) temporal: Temporal,
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
        let text = fs::read_to_string(root().join("examples/process.yaml"))?;
        let mut manifest: Value = serde_yaml_ng::from_str(&text)?;
        manifest["metadata"]["namespace"] = NAMESPACE.into();
        let name = manifest["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        temporal.create_namespace(CONTROL).await?;
        temporal
            .create_namespace(temporal_namespace(&manifest))
            .await?;
        release::remove(&testbed)?;
        for space in [NAMESPACE, release::NAMESPACE] {
            namespace(&testbed, &kube, space).await?;
        }
        let stage = Self {
            testbed,
            kube,
            temporal,
            manifest,
            name,
        };
        stage.introduce();
        release::install(&stage.testbed)?;
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
            "  Temporal     {}, workers in namespace {}, the operator in {CONTROL}",
            state.temporal_address,
            temporal_namespace(&self.manifest)
        );
        println!(
            "  operator     {} pods in namespace {}, installed by Helm\n",
            release::REPLICAS,
            release::NAMESPACE
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

    /// Removes what the demo made, but for the definition and the Temporal namespaces.
    pub(crate) async fn clear(&self) -> Result<()> {
        let removed = self.remove_process().await;
        release::remove(&self.testbed)?;
        removed?;
        let api: Api<Namespace> = Api::all(self.kube.clone());
        for space in [NAMESPACE, release::NAMESPACE] {
            api.delete(space, &DeleteParams::default()).await?;
        }
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

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

async fn client(testbed: &Testbed) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(testbed.kubeconfig())?;
    let options = KubeConfigOptions::default();
    Ok(Client::try_from(
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?,
    )?)
}

/// A namespace, made anew when an earlier demo's is on its way out.
async fn namespace(testbed: &Testbed, kube: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(kube.clone());
    let leaving = |found: &Namespace| found.metadata.deletion_timestamp.is_some();
    until(
        &format!("namespace {name} of an earlier demo is gone"),
        SOON,
        async || {
            let found = api.get_opt(name).await?;
            ensure!(!found.as_ref().is_some_and(leaving), "still there");
            if found.is_none() {
                testbed.create_namespace(name)?;
            }
            Ok(())
        },
    )
    .await
}

/// How a Deployment of the Process is found.
pub(crate) fn label(process: &Process) -> String {
    format!("ameide.io/process={}", process.name_any())
}
