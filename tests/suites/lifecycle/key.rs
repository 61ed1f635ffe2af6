//! The API key for Temporal is replaced while the operator runs.

use anyhow::{Result, ensure};
use process_operator_faultproxy::{TemporalProxy, TemporalProxyConfig};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, condition, manifest, takes_only, until,
};

use crate::support::{QUIET, SOON, version};

const FIRST: &str = "key-first-81f3";
const SECOND: &str = "key-second-52ac";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_in_the_file_needs_no_restart() -> Result<()> {
    let env = Env::new("key").await?;
    let proxy = TemporalProxy::start(TemporalProxyConfig::new(&env.temporal_address)).await?;
    let file = std::env::temp_dir().join(format!("{}-key", env.namespace));
    std::fs::write(&file, format!("{FIRST}\n"))?;
    let first = takes_only(&proxy, &[FIRST]);
    let options = OperatorOptions {
        temporal_address: Some(proxy.addr().to_string()),
        args: vec![format!("--temporal-api-key-file={}", file.display())],
        // A key turns it on, and the testbed's server has none.
        env: vec![("TEMPORAL_TLS".into(), "false".into())],
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&env, options).await?;
    let invariants = Invariants::start(&env)?;
    env.apply(&manifest(&env, "l2o", "v1")).await?;
    env.wait_settled("l2o", "v1").await?;

    // Both are good while the new one spreads.
    let both = takes_only(&proxy, &[FIRST, SECOND]);
    first.remove();
    std::fs::write(&file, format!("{SECOND}\n"))?;
    let mark = proxy.mark();
    until("the operator shows the new key", SOON, async || {
        let asked = proxy.records(mark..);
        let new = format!("Bearer {SECOND}");
        let new = asked
            .iter()
            .any(|record| record.request.authorization == new);
        ensure!(new, "not in {} requests", asked.len());
        Ok(())
    })
    .await?;
    let second = takes_only(&proxy, &[SECOND]);
    both.remove();
    env.patch("l2o", &version("v2", &[])).await?;
    let process = env.wait_settled("l2o", "v2").await?;
    ensure!(condition(&process, "TemporalReachable").0 == "True");

    // Nothing readable: the one that is known stays.
    std::fs::remove_file(&file)?;
    until("the log names the file", SOON, async || {
        let log = std::fs::read_to_string(&operator.log)?;
        ensure!(log.contains("the API key stays what it was"), "not yet");
        let tells = [FIRST, SECOND].iter().any(|key| log.contains(key));
        ensure!(!tells, "a key is in the log");
        Ok(())
    })
    .await?;
    operator.ready().await?;
    second.remove();
    invariants.hold(&env, &[&operator], QUIET).await?;
    env.remove().await
}
