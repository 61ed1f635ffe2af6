//! F19, F17: the API server is away, or turns everybody away, and when it is back there are many changes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use process_operator_faultproxy::{
    Action, Answer, KubeRequest, Mark, Record, RequestMatch, Verb, WatchEnd,
};
use process_operator_harness::{manifest, until, version};

use crate::crowd::{create, deployed, how_many, names, set_tags, soon};
use crate::world::{NAME, SOON, World};

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
    no_stampede(&world, mark, count)?;
    ensure!(
        !operator.ended(),
        "one process from the beginning to the end"
    );
    world.finish().await
}

/// F17: one of many Processes is in the middle of its roll.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn what_many_changed_while_everybody_was_turned_away_is_done_after_it() -> Result<()> {
    let count = how_many(20, 100);
    // Everybody is told several times to come later.
    let a_while = Duration::from_secs(u64::try_from(how_many(40, 60))?);
    let world = World::new("f17all").await?;
    let (env, operator) = (&world.env, world.operator()?);
    let all = names("p", count);
    create(env, &all).await?;
    env.apply(&manifest(env, NAME, "v1")).await?;
    deployed(env, &all, "v1", soon(count)).await?;
    env.wait_settled(NAME, "v1").await?;
    env.patch(NAME, &version("v2", &[("START_DELAY_MS", "4000")]))
        .await?;
    until("v2 is on its way", SOON, async || {
        let made = env.deployments(NAME).await?.len();
        ensure!(made == 2, "{made} Deployments");
        Ok(())
    })
    .await?;

    let answer = Answer::too_many_requests().retry_after(Duration::from_secs(5));
    let turned_away = world.kube.rule(RequestMatch::any(), Action::Answer(answer));
    world
        .kube
        .end_watches(&RequestMatch::watches(), WatchEnd::Close);
    let since = Instant::now();
    set_tags(env, &all, "v2").await?;
    lacks(&world, Some("apiserver")).await?;
    ensure!(operator.get("/livez").await?.0 == 200, "it is alive");
    tokio::time::sleep(a_while.saturating_sub(since.elapsed())).await;
    ensure!(!operator.ended(), "it runs on");
    println!("{} requests were turned away", turned_away.hits());

    let mark = world.kube.mark();
    turned_away.remove();
    lacks(&world, None).await?;
    deployed(env, &all, "v2", soon(count)).await?;
    env.wait_settled(NAME, "v2").await?;
    no_stampede(&world, mark, count + 1)?;
    world.finish().await
}

/// Requests for so many Processes since then are not too many, nor too many at once.
fn no_stampede(world: &World, since: Mark, count: usize) -> Result<()> {
    let records = world.kube.records(since..);
    let (most, each) = (most_at_once(&records), records.len() / count);
    println!("{count} Processes: {most} requests at once, {each} for each");
    ensure!(most <= AT_ONCE, "{most} requests at once");
    ensure!(each <= 60, "{each} requests for each Process");
    Ok(())
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
