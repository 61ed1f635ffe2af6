//! The connection to Temporal, and the operator's namespace there, are in a profile of Temporal's configuration file,
//! and nowhere else.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use process_operator_faultproxy::{TemporalProxy, TemporalProxyConfig};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, condition, lifecycle_id, manifest, until,
};

use crate::support::{QUIET, SOON};

const KEY: &str = "key-of-the-profile-3d0e";

fn profile(file: &Path, name: &str) -> OperatorOptions {
    OperatorOptions {
        temporal_profile: Some((file.to_owned(), name.to_owned())),
        ..OperatorOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn address_namespace_and_key_come_from_the_profile_that_is_named() -> Result<()> {
    let env = Env::new("profile").await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    let file = std::env::temp_dir().join(format!("{}.toml", env.namespace));
    // Nobody listens where the other profile leads to. A key turns TLS on, and the testbed's server has none.
    let text = format!(
        r#"
        [profile.default]
        address = "127.0.0.1:1"
        [profile.control]
        address = "{}"
        namespace = "{}"
        api_key = "{KEY}"
        [profile.control.tls]
        disabled = true
        "#,
        proxy.addr(),
        env.control
    );
    fs::write(&file, text)?;
    let operator = Operator::start(&env, profile(&file, "control")).await?;
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    let process = env.wait_settled("l2o", "v1").await?;
    ensure!(condition(&process, "TemporalReachable").0 == "True");
    let id = lifecycle_id(&process);
    let lifecycle = env.temporal.describe(&env.control, &id).await;
    lifecycle.context("it is not in the namespace of the profile")?;
    let asked = proxy.records(..);
    let shown = asked
        .iter()
        .filter(|record| record.request.authorization == format!("Bearer {KEY}"));
    ensure!(
        !asked.is_empty() && shown.count() == asked.len(),
        "each request shows the key of the profile"
    );
    ensure!(!operator.log_text().contains(KEY), "the key is in the log");

    // One that the file does not have is said at once.
    let mut absent = profile(&file, "absent");
    (absent.unready, absent.instance) = (true, Some("operator-1".to_owned()));
    let absent = Operator::start(&env, absent).await?;
    until("the operator ends", SOON, async || {
        ensure!(absent.ended(), "it runs");
        Ok(())
    })
    .await?;
    let log = absent.log_text();
    ensure!(
        absent.exit_code() == Some(1)
            && log.contains("Temporal's environment configuration")
            && log.contains("absent"),
        "{:?}: {log}",
        absent.exit_code()
    );
    invariants.hold(&env, &[&operator], QUIET).await?;
    fs::remove_file(&file)?;
    env.remove().await
}
