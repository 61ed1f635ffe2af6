//! Kinds of another group than the default one, followed as closely.

use std::time::Duration;

use anyhow::{Result, ensure};
use process_operator_faultproxy::audit::AuditFilter;
use process_operator_harness::{
    Env, Foreign, ForeignAccount, Invariants, Operator, OperatorOptions, condition, manifest, until,
};
use serde_json::{Value, json};

use super::{SOON, told};

/// Longer than any pause between two looks of something that asks by the clock.
const NO_POLL: Duration = Duration::from_secs(15);

/// Two kinds of this test, and an operator that takes them for Domains and Agents.
struct World {
    env: Env,
    invariants: Invariants,
    customers: Foreign,
    helpers: Foreign,
    account: ForeignAccount,
}

impl World {
    async fn new(name: &str) -> Result<Self> {
        let env = Env::new(name).await?;
        let group = format!("{}.example", env.namespace);
        let customers = Foreign::new(&env, &group, "Customer");
        let helpers = Foreign::new(&env, &group, "Helper");
        Ok(Self {
            invariants: Invariants::start(&env)?,
            account: ForeignAccount::new(&env)?,
            customers,
            helpers,
            env,
        })
    }

    fn kinds(&self) -> [&Foreign; 2] {
        [&self.customers, &self.helpers]
    }

    fn options(&self) -> OperatorOptions {
        OperatorOptions {
            account: Some(self.account.account()),
            args: vec![
                "--domain-kind".into(),
                self.customers.flag(),
                "--agent-kind".into(),
                self.helpers.flag(),
            ],
            ..OperatorOptions::default()
        }
    }

    fn process(&self) -> Value {
        let mut process = manifest(&self.env, "l2o", "v1");
        process["spec"]["dependencies"] = json!({
            "domains": [{ "name": "sales" }],
            "agents": [{ "name": "coach" }],
        });
        process
    }

    async fn finish(self, operator: &Operator) -> Result<()> {
        self.invariants
            .hold(&self.env, &[operator], Duration::from_secs(5))
            .await?;
        for kind in self.kinds() {
            kind.remove().await?;
        }
        self.account.remove(&self.env)?;
        self.env.remove().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_another_group_are_followed_by_the_flags_that_name_them() -> Result<()> {
    let world = World::new("kinds").await?;
    let (env, [customers, helpers]) = (&world.env, world.kinds());
    // A right that is missing is told as for any other watch.
    world
        .account
        .may(env, &["get", "list"], &[customers, helpers])?;
    for kind in world.kinds() {
        kind.install().await?;
    }
    let operator = Operator::start(env, world.options()).await?;
    env.apply(&world.process()).await?;
    until("/readyz tells what may not be watched", SOON, async || {
        let (code, text) = operator.get("/readyz").await?;
        let named = text.contains("Customer: ") || text.contains("Helper: ");
        ensure!(code == 503 && named && text.contains("forbidden"), "{text}");
        Ok(())
    })
    .await?;
    let all = ["get", "list", "watch"];
    world.account.may(env, &all, &[customers, helpers])?;
    told(
        env,
        "False",
        &[
            "spec.dependencies.domains[sales]: Customer sales does not exist",
            "spec.dependencies.agents[coach]: Helper coach does not exist",
        ],
    )
    .await?;

    // Each change of what is said of it is told, also from one trouble to another.
    customers.unready("sales", "Provisioning").await?;
    told(
        env,
        "False",
        &["Customer sales is not Ready (Provisioning)"],
    )
    .await?;
    customers.unready("sales", "Moving").await?;
    told(env, "False", &["Customer sales is not Ready (Moving)"]).await?;
    customers.delete("sales").await?;
    told(env, "False", &["Customer sales does not exist"]).await?;
    helpers.ready("coach").await?;
    customers.ready("sales").await?;
    told(env, "True", &["2 of 2 are ready"]).await?;
    env.wait_settled("l2o", "v1").await?;
    helpers.unready("coach", "Resting").await?;
    let lost = told(env, "False", &["Helper coach is not Ready (Resting)"]).await?;
    ensure!(condition(&lost, "Ready").0 == "True", "it serves");
    ensure!(
        condition(&lost, "Degraded").1 == "DependencyNotReady",
        "it is told"
    );
    helpers.ready("coach").await?;
    told(env, "True", &["2 of 2 are ready"]).await?;
    env.wait_settled("l2o", "v1").await?;
    until("/readyz is well again", 2 * SOON, async || {
        let (code, text) = operator.get("/readyz").await?;
        ensure!(code == 200, "{text}");
        Ok(())
    })
    .await?;
    world.finish(&operator).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_while_no_operator_runs_is_told_by_the_next_and_nothing_is_polled() -> Result<()>
{
    let world = World::new("missed").await?;
    let (env, [customers, helpers]) = (&world.env, world.kinds());
    let all = ["get", "list", "watch"];
    world.account.may(env, &all, &[customers, helpers])?;
    for kind in world.kinds() {
        kind.install().await?;
    }
    customers.ready("sales").await?;
    let operator = Operator::start(env, world.options()).await?;
    env.apply(&world.process()).await?;
    told(env, "False", &["Helper coach does not exist"]).await?;

    // While it waits nobody asks: what changes is told by the watch.
    until("a while without a question", SOON, async || {
        let mark = env.audit.mark()?;
        // The window itself is what is measured, so here time has to pass.
        tokio::time::sleep(NO_POLL).await;
        let (namespace, name) = world.account.account();
        for kind in world.kinds() {
            let asked = AuditFilter::any()
                .service_account(&namespace, &name)
                .resource(&kind.plural())
                .verb("get")
                .verb("list");
            let asked = env.audit.select(mark, &asked)?;
            ensure!(asked.is_empty(), "{asked:?}");
        }
        Ok(())
    })
    .await?;
    helpers.ready("coach").await?;
    told(env, "True", &["2 of 2 are ready"]).await?;
    env.wait_settled("l2o", "v1").await?;

    operator.stop().await?;
    helpers.delete("coach").await?;
    let operator = Operator::start(env, world.options()).await?;
    let lost = told(env, "False", &["Helper coach does not exist"]).await?;
    ensure!(condition(&lost, "Ready").0 == "True", "it serves");
    ensure!(
        condition(&lost, "Degraded").1 == "DependencyNotReady",
        "it is told"
    );

    // The same of a kind that goes as a whole.
    helpers.ready("coach").await?;
    told(env, "True", &["2 of 2 are ready"]).await?;
    env.wait_settled("l2o", "v1").await?;
    operator.stop().await?;
    helpers.remove().await?;
    let operator = Operator::start(env, world.options()).await?;
    told(env, "False", &["Helper coach does not exist"]).await?;
    world.finish(&operator).await
}
