//! F19: the API server is away, and when it is back there are many changes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use process_operator_faultproxy::{KubeRequest, Record, Verb};
use process_operator_harness::until;

use crate::crowd::{create, deployed, how_many, names, set_tags, soon};
use crate::world::{SOON, World};

/// As long as it is away.
const AWAY: Duration = Duration::from_secs(20);

/// Requests of the operator under way at the same time: 64 activities, a few reads each.
const AT_ONCE: usize = 256;

/// Waits until `/readyz` says that a part is missing, or that all are there.
pub(crate) async fn lacks(world: &World, part: Option<&str>) -> Result<String> {
    let operator = world.operator()?;
    let what = match part {
        Some(part) => format!("{part} is told to be missing"),
        None => "the operator is ready".to_owned(),
    };
    until(&what, SOON, async || {
        let (code, text) = operator.get("/readyz").await?;
        let so = match part {
            Some(part) => code == 503 && text.contains(&format!("[-]{part} failed")),
            None => code == 200,
        };
        ensure!(so, "{code} {text}");
        Ok(text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_changed_while_the_api_server_was_away_is_done_after_it() -> Result<()> {
    let count = how_many(30, 200);
    let world = World::new("f19").await?;
    let (env, operator) = (&world.env, world.operator()?);
    let all = names("p", count);
    create(env, &all).await?;
    deployed(env, &all, "v1", soon(count)).await?;

    world.kube.down().await;
    let since = Instant::now();
    set_tags(env, &all, "v2").await?;
    lacks(&world, Some("apiserver")).await?;
    ensure!(operator.get("/livez").await?.0 == 200, "it is alive");
    // Its back-off is to have grown.
    tokio::time::sleep(AWAY.saturating_sub(since.elapsed())).await;
    ensure!(!operator.ended(), "it runs on");

    let mark = world.kube.mark();
    world.kube.up().await?;
    lacks(&world, None).await?;
    deployed(env, &all, "v2", soon(count)).await?;
    let records = world.kube.records(mark..);
    let (most, each) = (most_at_once(&records), records.len() / count);
    println!("{count} Processes: {most} requests at once, {each} for each");
    ensure!(most <= AT_ONCE, "{most} requests at once");
    ensure!(each <= 60, "{each} requests for each Process");
    ensure!(
        !operator.ended(),
        "one process from the beginning to the end"
    );
    world.finish().await
}

/// Requests, watches aside, that were under way at the same time.
fn most_at_once(records: &[Record<KubeRequest>]) -> usize {
    let mut edges = Vec::new();
    for record in records {
        if let Some(took) = record.took.filter(|_| record.request.verb != Verb::Watch) {
            let began = record.at.as_nanosecond();
            edges.push((began, 1));
            edges.push((
                began + i128::try_from(took.as_nanos()).unwrap_or_default(),
                -1,
            ));
        }
    }
    edges.sort_unstable();
    let mut open = 0_i64;
    let most = edges.iter().map(|(_, step)| {
        open += step;
        open
    });
    most.max()
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or_default()
}
