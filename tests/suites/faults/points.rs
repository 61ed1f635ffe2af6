//! The loop over injection points: every one with `FAULTS=complete`, some of them otherwise, a single
//! one with `FAULT_POINT=n`, or `FAULT_POINT=n,n,n` for the n-th of each phase.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;

use crate::scenario::{Arm, Passage, Phase, Reference};
use crate::world::World;

/// Points tried at once.
const AT_ONCE: usize = 3;
/// Points of a default run in each phase: the first, the last and, of more than two, what lies evenly between.
const SAMPLES: u64 = 2;

/// Where a run injects: at which point of each phase.
pub(crate) type Points = [u64; Phase::ALL.len()];

/// Which points are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    /// From the first on, until a run ends in which the fault never bit.
    All,
    /// These.
    Some(Vec<Points>),
}

impl Choice {
    /// `lengths` is how many points the learning run found in each phase.
    fn from_env(lengths: Points) -> Result<Self> {
        if let Ok(point) = std::env::var("FAULT_POINT") {
            return Ok(Self::Some(vec![parse(&point)?]));
        }
        match std::env::var("FAULTS").as_deref() {
            Ok("complete") => Ok(Self::All),
            Ok(other) => bail!("FAULTS={other}: only `complete` is known"),
            Err(_) => Ok(Self::Some(spread(lengths))),
        }
    }
}

fn parse(text: &str) -> Result<Points> {
    let points: Vec<u64> = text
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("FAULT_POINT={text}"))?;
    if let [point] = points[..] {
        return Ok([point; Phase::ALL.len()]);
    }
    points
        .try_into()
        .map_err(|_| anyhow::anyhow!("FAULT_POINT={text}: one point, or one for each phase"))
}

fn text(points: Points) -> String {
    let points: Vec<String> = points.iter().map(u64::to_string).collect();
    points.join(",")
}

/// Each phase by its own length: what is last in a short one is in the middle of a long one.
fn spread(lengths: Points) -> Vec<Points> {
    let sample = |n, length: u64| 1 + n * length.saturating_sub(1) / (SAMPLES - 1);
    let mut chosen: Vec<Points> = (0..SAMPLES)
        .map(|n| lengths.map(|length| sample(n, length)))
        .collect();
    chosen.dedup();
    chosen
}

/// A fault, injected at one point after the other.
#[derive(Clone, Copy)]
pub(crate) struct Loop {
    /// Of the test and of its worlds.
    pub(crate) name: &'static str,
    /// The test's function, for the command that runs a point again.
    pub(crate) test: &'static str,
    /// Installs the fault for a point of a phase.
    pub(crate) arm: Arm,
}

impl Loop {
    /// Tries the points, of which the learning run has found `lengths` in the phases.
    pub(crate) async fn run(self, lengths: Points) -> Result<()> {
        let most = lengths.into_iter().max().unwrap_or_default();
        ensure!(most > 0, "the learning run found nothing to disturb");
        let (points, all): (Box<dyn Iterator<Item = Points>>, bool) =
            match Choice::from_env(lengths)? {
                Choice::All => (Box::new((1..).map(|n| [n; Phase::ALL.len()])), true),
                Choice::Some(points) => (Box::new(points.into_iter()), false),
            };
        let mut runs = futures::stream::iter(points.zip(1..))
            .map(|(points, n)| async move { (n, points, self.point(points).await) })
            .buffered(AT_ONCE);
        let (mut hits, mut failures) = (Vec::new(), Vec::new());
        while let Some((n, points, done)) = runs.next().await {
            match done {
                Ok(bitten) if all && bitten.is_empty() => break,
                Ok(bitten) => hits.extend(bitten),
                Err(error) => {
                    let points = text(points);
                    let failure = format!(
                        "{} point {points}: {error:#}\nagain: FAULT_POINT={points} cargo xtask cargo test \
                         -p process-operator-tests --test faults {} -- --nocapture",
                        self.name, self.test
                    );
                    println!("{failure}");
                    failures.push(failure);
                }
            }
            // Without an end in sight: every run fails.
            ensure!(
                n < most + 20,
                "{} of {n} points failed:\n{}",
                failures.len(),
                failures.join("\n")
            );
        }
        ensure!(
            failures.is_empty(),
            "{} failed:\n{}",
            failures.len(),
            failures.join("\n")
        );
        // A run may have fewer points than the learning run, but not in every phase of every run.
        let single = std::env::var_os("FAULT_POINT").is_some();
        for (phase, length) in Phase::ALL.into_iter().zip(lengths) {
            ensure!(
                length == 0 || single || hits.contains(&phase),
                "{}: no run came to a point of {phase}",
                self.name
            );
        }
        Ok(())
    }

    /// One run; the phases in which the fault bit.
    async fn point(self, points: Points) -> Result<Vec<Phase>> {
        let reference = Reference::get().await?;
        let started = Instant::now();
        let mut passage = Passage::new(World::new(self.name).await?);
        match self.through(&mut passage, reference, points).await {
            Ok(hits) => {
                let took = started.elapsed().as_secs();
                let (phases, what): (Vec<Phase>, Vec<String>) = hits
                    .into_iter()
                    .map(|(phase, what)| (phase, format!("{phase}: {what}")))
                    .unzip();
                let (points, what) = (text(points), what.join("; "));
                println!("{} point {points}: {took} s; {what}", self.name);
                passage.world.finish().await?;
                Ok(phases)
            }
            Err(error) => {
                let seconds = started.elapsed().as_secs();
                Err(error.context(format!("after {seconds} s in {}", passage.world.traces())))
            }
        }
    }

    async fn through(
        self,
        passage: &mut Passage,
        reference: &Reference,
        points: Points,
    ) -> Result<Vec<(Phase, String)>> {
        let mut hits = Vec::new();
        let taken: Vec<Phase> = Phase::taken().collect();
        let points = Phase::ALL.into_iter().zip(points);
        for (phase, n) in points.filter(|(phase, _)| taken.contains(phase)) {
            let (hit, picture) = passage.killed(phase, n, self.arm).await?;
            reference.check(phase, &picture)?;
            hits.extend(hit.map(|what| (phase, what)));
            if phase == Phase::Roll {
                passage.world.hold().await?;
            }
        }
        Ok(hits)
    }
}

#[test]
fn a_sample_holds_the_first_and_the_last_point_of_each_phase() {
    assert_eq!(spread([1, 1, 1, 1]), [[1, 1, 1, 1]]);
    assert_eq!(spread([9, 2, 0, 1]), [[1, 1, 1, 1], [9, 2, 1, 1]]);
}

#[test]
fn a_point_is_named_for_all_phases_or_for_each() {
    assert_eq!(parse("4").unwrap(), [4, 4, 4, 4]);
    assert_eq!(parse(&text([5, 1, 0, 2])).unwrap(), [5, 1, 0, 2]);
    assert!(parse("1,2").is_err() && parse("x").is_err());
}
