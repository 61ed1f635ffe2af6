//! Whoever may write Processes and nothing else.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use process_operator_harness::{Cli, Env, Scene};

use crate::support::{at_step, open_steps};

const ROLE: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: { name: releaser }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: releaser }
rules:
  - { apiGroups: [ameide.io], resources: [processes], verbs: [get, list, watch, patch] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: releaser }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: releaser }
subjects:
  - { kind: ServiceAccount, name: releaser }
";

/// A kubeconfig with a token of that account, which is made.
pub(crate) fn kubeconfig(env: &Env) -> Result<PathBuf> {
    env.kubectl(&["apply", "-f", "-"], ROLE)?;
    let testbed = &env.testbed;
    testbed.service_account_kubeconfig(&env.namespace, "releaser", None)
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_on_processes_are_enough_for_the_tree_and_for_verbs() -> Result<()> {
    let (scene, _) = Scene::settled("clirights").await?;
    let env = &scene.env;
    let cli = Cli::with(env, kubeconfig(env)?);
    env.patch("l2o", &open_steps("v2", &[30])).await?;
    at_step(env, 1).await?;
    let said = cli.run(&["get", "l2o"]).await?.ended(0)?;
    said.shows(&[
        "◐ Ramping 30 %",
        "Not shown, for lack of the right to list them: deployments, pods, controllerrevisions",
    ])?;
    cli.run(&["list"]).await?.ended(0)?.shows(&["l2o"])?;
    cli.run(&["list", "-A"])
        .await?
        .ended(2)?
        .complains(&["forbidden"])?;
    cli.run(&["promote", "l2o"]).await?.ended(0)?;
    cli.run(&["status", "l2o", "--watch", "--timeout", "90s"])
        .await?
        .ended(0)?;
    // Who asked is who the API server knows.
    let who = format!("system:serviceaccount:{}:releaser", env.namespace);
    cli.run(&["history", "l2o"])
        .await?
        .ended(0)?
        .shows(&["PromoteRequested", &who])?;
    cli.run(&["logs", "l2o"])
        .await?
        .ended(2)?
        .complains(&["forbidden"])?;
    let said = cli.run(&["verify", "l2o"]).await?.ended(0)?;
    said.shows(&["skip", "no right to list Leases"])?;
    let said = cli.run(&["gather", "l2o", "-o", "-"]).await?.ended(0)?;
    ensure!(!said.out.is_empty(), "an archive of what may be read");
    scene.finish().await
}
