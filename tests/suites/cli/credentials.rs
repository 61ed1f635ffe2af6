//! Kubeconfigs without credentials of their own: a plugin gives them, as in most clouds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use process_operator_harness::{Cli, Env, manifest, until};
use serde_json::{Value, json};

use crate::rights;
use crate::support::{SOON, program, scratch};

/// The kubeconfig of an account with a plugin in the place of its token.
struct WithPlugin {
    dir: PathBuf,
    kubeconfig: Value,
    token: String,
}

impl WithPlugin {
    fn new(env: &Env) -> Result<Self> {
        let text = fs::read_to_string(rights::kubeconfig(env)?)?;
        let kubeconfig: Value = serde_yaml_ng::from_str(&text)?;
        let token = kubeconfig.pointer("/users/0/user/token");
        let token = token.and_then(Value::as_str).context("a token")?.to_owned();
        let dir = scratch(env)?;
        Ok(Self {
            dir,
            kubeconfig,
            token,
        })
    }

    /// The command with a plugin of this name, and the path of the plugin.
    fn cli(&self, env: &Env, name: &str) -> Result<(Cli, PathBuf)> {
        let plugin = self.dir.join(name);
        let mut kubeconfig = self.kubeconfig.clone();
        kubeconfig["users"][0]["user"] = json!({
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": plugin,
                "interactiveMode": "Never",
            },
        });
        let file = self.dir.join(format!("{name}.kubeconfig"));
        fs::write(&file, kubeconfig.to_string())?;
        Ok((Cli::with(env, file), plugin))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_gives_credentials_or_is_named_with_its_exit_code() -> Result<()> {
    let env = Env::new("cliplugin").await?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let with = WithPlugin::new(&env)?;

    let (cli, plugin) = with.cli(&env, "login")?;
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "token": with.token },
    });
    program(
        &plugin,
        &format!("#!/bin/sh\ncat <<'END'\n{credential}\nEND\n"),
    )?;
    // Rights that were just granted take a moment.
    until("the account may list", SOON, async || {
        cli.run(&["list"]).await?.ended(0)?.shows(&["l2o"])
    })
    .await?;
    cli.run(&["get", "l2o"]).await?.ended(0)?.shows(&["l2o"])?;
    // It is that account and nobody who may do more.
    let said = cli.run(&["list", "-A"]).await?.ended(2)?;
    said.complains(&["forbidden", "releaser"])?;

    let (cli, plugin) = with.cli(&env, "refuses")?;
    let script = format!(
        "#!/bin/sh\necho {}\necho 'no session: log in first' >&2\nexit 7\n",
        with.token
    );
    program(&plugin, &script)?;
    let said = cli.run(&["list"]).await?.ended(2)?;
    said.complains(&[&format!(
        "kubeconfig: {}: the plugin for credentials ended with exit status: 7: no session: log in first",
        plugin.display()
    )])?;
    ensure!(!said.err.contains(&with.token), "it tells the token");

    let (cli, plugin) = with.cli(&env, "missing")?;
    let said = cli.run(&["list"]).await?.ended(2)?;
    said.complains(&[&format!(
        "kubeconfig: {}: the plugin for credentials cannot be run: ",
        plugin.display()
    )])?;
    fs::remove_dir_all(with.dir)?;
    env.remove().await
}
