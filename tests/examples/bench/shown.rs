//! What a watch shows of the Processes: reading a hundred again and again would be work for the API server too.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use process_operator_crds::Process;
use process_operator_harness::Env;
use tokio::sync::watch;

/// All Processes by name, as shown last.
#[derive(Clone)]
pub(crate) struct Shown(watch::Receiver<BTreeMap<String, Process>>);

impl Shown {
    pub(crate) fn watch(env: &Env) -> Self {
        let (sender, receiver) = watch::channel(BTreeMap::new());
        let api = env.api::<Process>();
        tokio::spawn(async move {
            let changes = watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects();
            let mut changes = std::pin::pin!(changes);
            while let Ok(Some(process)) = changes.try_next().await {
                if sender.is_closed() {
                    return;
                }
                sender.send_modify(|all| {
                    all.insert(process.name_any(), process);
                });
            }
        });
        Self(receiver)
    }

    /// Waits until they are so.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        find: impl Fn(&BTreeMap<String, Process>) -> Option<T>,
    ) -> Result<T> {
        let mut shown = self.0.clone();
        let found = shown.wait_for(|all| find(all).is_some());
        let all = tokio::time::timeout(within, found)
            .await
            .with_context(|| format!("{what}: not within {} s", within.as_secs()))??;
        find(&all).context("found just now")
    }
}
