//! Many workflows that stay open, told apart by a prefix of their ids.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::Env;
use crate::wait::until;

/// Started side by side.
const AT_ONCE: usize = 8;

impl Env {
    /// Starts workflows `<prefix>-<n>` on a queue, each taken by a worker.
    pub async fn open_crowd(
        &self,
        queue: &str,
        prefix: &str,
        count: usize,
        ignore_cancel: bool,
    ) -> Result<()> {
        futures::stream::iter(0..count)
            .map(|n| async move {
                let id = format!("{prefix}-{n}");
                self.temporal
                    .start_waiting_as(&self.apps, queue, &id, ignore_cancel, None)
                    .await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// How many workflows `<prefix>-…` have a status.
    pub async fn count_crowd(&self, prefix: &str, status: &str) -> Result<usize> {
        let query = format!("WorkflowId STARTS_WITH '{prefix}-' AND ExecutionStatus = '{status}'");
        Ok(self.temporal.list(&self.apps, &query).await?.len())
    }

    /// Waits until so many have it.
    pub async fn wait_crowd(
        &self,
        prefix: &str,
        status: &str,
        wanted: usize,
        within: Duration,
    ) -> Result<()> {
        until(
            &format!("{wanted} of {prefix} {status}"),
            within,
            async || {
                let found = self.count_crowd(prefix, status).await?;
                ensure!(found == wanted, "{found}");
                Ok(())
            },
        )
        .await
    }
}
