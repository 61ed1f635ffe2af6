//! ConfigMaps are watched by the operator's label or by one name, and by name only as long as it is used.

use anyhow::{Context as _, Result, ensure};
use process_operator_faultproxy::audit::{AuditFilter, AuditMark, Entry};
use process_operator_harness::{
    Env, Invariants, Operator, OperatorOptions, QUIET, manifest, until,
};
use serde_json::json;

use super::{SOON, current, define};

const OURS: &str = "app.kubernetes.io/managed-by=process-operator";
const NAMED: &str = "metadata.name=l2o-v3";

/// What the operator has asked for that is about many ConfigMaps; a watch is in the log when it has ended.
fn asked(env: &Env, since: AuditMark) -> Result<Vec<Entry>> {
    let filter = AuditFilter::any()
        .service_account("process-operator", "process-operator")
        .namespace(&env.namespace)
        .resource("configmaps")
        .verb("watch")
        .verb("list");
    env.audit.select(since, &filter)
}

fn watches(entries: &[Entry], parameter: &str, selector: &str) -> usize {
    let selected = |entry: &&Entry| {
        entry.verb == "watch" && entry.param(parameter).as_deref() == Some(selector)
    };
    entries.iter().filter(selected).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_are_watched_by_label_or_by_a_name_that_is_used() -> Result<()> {
    let env = Env::new("watches").await?;
    let began = env.audit.mark()?;
    let options = OperatorOptions {
        args: vec!["--resync-seconds".into(), "5".into()],
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&env, options).await?;
    let invariants = Invariants::start(&env)?;
    define(&env, "3", "<first/>").await?;
    let mut process = manifest(&env, "l2o", "v1");
    process["spec"]["definitionRef"]["configMapRef"] = json!({ "name": "l2o-v3" });
    env.apply(&process).await?;
    let settled = env.wait_settled("l2o", "v1").await?;
    let opened = |since, parameter: &'static str, selector: &'static str| {
        let env = &env;
        async move {
            until(&format!("watches of {selector}"), SOON, async || {
                let found = watches(&asked(env, since)?, parameter, selector);
                ensure!(found >= 2, "{found}");
                Ok(())
            })
            .await
        }
    };
    opened(began, "fieldSelector", NAMED).await?;

    env.patch(
        "l2o",
        &json!({ "spec": { "definitionRef": { "configMapRef": null } } }),
    )
    .await?;
    let before = current(&settled).context("a version")?;
    env.wait_process("l2o", "without a definition", SOON, |process| {
        current(process).is_some_and(|now| now != before)
    })
    .await?;
    env.wait_settled("l2o", "v1").await?;
    let after = jiff::Timestamp::now();
    // The others are opened again and again meanwhile.
    opened(env.audit.mark()?, "labelSelector", OURS).await?;
    invariants.hold(&env, &[&operator], QUIET).await?;
    operator.stop().await?;

    let all = asked(&env, began)?;
    ensure!(watches(&all, "labelSelector", OURS) > 2, "{all:?}");
    for entry in &all {
        let selectors = [entry.param("labelSelector"), entry.param("fieldSelector")];
        let [label, field] = selectors.map(Option::unwrap_or_default);
        // Lists of one Process's copies have its name.
        let by_label = label == OURS || label.starts_with("ameide.io/process=");
        ensure!(by_label || field == NAMED, "{entry}");
        ensure!(
            field != NAMED || entry.request_received_timestamp < after,
            "after it was unset: {entry}"
        );
    }
    env.remove().await
}
