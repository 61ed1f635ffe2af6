//! The end of a Process at the end of a test: it goes with everything that was made for it.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use serde_json::json;

use crate::env::Env;
use crate::invariants::Invariants;
use crate::operator::Operator;
use crate::scene::QUIET;

/// A Process goes within that when nothing is waited for. Two cores carry other tests beside it.
const GOES: Duration = Duration::from_secs(45);
/// Nothing may happen for so long when nothing is left that could.
const BRIEF: Duration = Duration::from_secs(1);

impl Env {
    /// Deletes a Process as somebody does who wants all of it to end now: it goes, whatever is open, and
    /// nothing of it is left.
    pub async fn leave(&self, name: &str) -> Result<()> {
        let deletion = json!({ "timeoutSeconds": 0, "onTimeout": "Terminate" });
        let process = self
            .patch(name, &json!({ "spec": { "deletion": deletion } }))
            .await?;
        let pods = self.pods(name).await?;
        self.delete(name).await?;
        self.gone_within(name, GOES).await?;
        self.nothing_is_left(&process).await?;
        if self.is_guarded(name) {
            let stopped = self.pods_left_alone().await?;
            let unseen: Vec<String> = pods
                .iter()
                .filter(|pod| !stopped.contains_key(&pod.uid().unwrap_or_default()))
                .map(kube::ResourceExt::name_any)
                .collect();
            ensure!(unseen.is_empty(), "nobody has watched {unseen:?} stop");
        }
        Ok(())
    }
}

impl Invariants {
    /// Holds every invariant, lets a Process go, and holds them again.
    pub async fn leave(&self, env: &Env, operators: &[&Operator], process: &str) -> Result<()> {
        self.hold(env, operators, QUIET).await?;
        env.leave(process).await?;
        self.hold(env, operators, BRIEF).await
    }
}
