//! A world with an operator in it.

use std::time::Duration;

use anyhow::Result;
use process_operator_crds::Process;
use serde_json::{Value, json};

use crate::env::Env;
use crate::invariants::Invariants;
use crate::operator::{Operator, OperatorOptions};
use crate::process::manifest;

/// Nothing may happen for so long after a scenario.
pub const QUIET: Duration = Duration::from_secs(5);

/// A world of its own with an operator in it.
pub struct Scene {
    /// Its namespaces.
    pub env: Env,
    /// The operator.
    pub operator: Operator,
    /// What holds at the end.
    pub invariants: Invariants,
}

impl Scene {
    /// Without a Process.
    pub async fn new(name: &str) -> Result<Self> {
        Self::of(Env::new(name).await?, OperatorOptions::default()).await
    }

    /// Without a Process, in this world and with these options.
    pub async fn of(env: Env, options: OperatorOptions) -> Result<Self> {
        let operator = Operator::start(&env, options).await?;
        let invariants = Invariants::start(&env)?;
        Ok(Self {
            env,
            operator,
            invariants,
        })
    }

    /// With a Process `l2o` that has settled on v1.
    pub async fn settled(name: &str) -> Result<(Self, Process)> {
        let scene = Self::new(name).await?;
        scene.env.apply(&manifest(&scene.env, "l2o", "v1")).await?;
        let process = scene.env.wait_settled("l2o", "v1").await?;
        Ok((scene, process))
    }

    /// The end of a scenario with a Process `l2o`: nothing more happens, and it goes with everything that
    /// was made for it.
    pub async fn leave(self) -> Result<()> {
        self.invariants
            .leave(&self.env, &[&self.operator], "l2o")
            .await?;
        self.env.remove().await
    }

    /// The end of every scenario.
    pub async fn finish(self) -> Result<()> {
        self.invariants
            .hold(&self.env, &[&self.operator], QUIET)
            .await?;
        self.env.remove().await
    }
}

/// A change to an image tag together with variables for its faults.
pub fn version(tag: &str, env: &[(&str, &str)]) -> Value {
    let env: Vec<Value> = env
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    json!({ "spec": {
        "image": format!("localhost/process-example-worker:{tag}"),
        "worker": { "env": env },
    } })
}
