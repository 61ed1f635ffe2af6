//! The loop over injection points: every one with `FAULTS=complete`, some of them otherwise, a single
//! one with `FAULT_POINT=n`.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use futures::StreamExt as _;

use crate::scenario::{Arm, Passage, Phase, Reference};
use crate::world::World;

/// Points tried at once.
const AT_ONCE: usize = 3;
/// Points of a default run: the first, the last and what lies evenly between.
const SAMPLES: u64 = 3;

/// Which points are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    /// From the first on, until a run ends in which the fault never bit.
    All,
    /// These.
    Some(Vec<u64>),
}

impl Choice {
    /// `most` is how many points the learning run found.
    fn from_env(most: u64) -> Result<Self> {
        if let Ok(point) = std::env::var("FAULT_POINT") {
            return Ok(Self::Some(vec![point.parse()?]));
        }
        match std::env::var("FAULTS").as_deref() {
            Ok("complete") => Ok(Self::All),
            Ok(other) => bail!("FAULTS={other}: only `complete` is known"),
            Err(_) => Ok(Self::Some(spread(most))),
        }
    }
}

/// Whether a test that only the complete run has is to run.
pub(crate) fn complete(test: &str) -> bool {
    let complete = std::env::var("FAULTS").is_ok_and(|faults| faults == "complete");
    if !complete {
        println!("{test}: only with FAULTS=complete");
    }
    complete
}

fn spread(most: u64) -> Vec<u64> {
    let chosen: BTreeSet<u64> = (0..SAMPLES)
        .map(|n| 1 + n * most.saturating_sub(1) / (SAMPLES - 1))
        .collect();
    chosen.into_iter().collect()
}

/// A fault, injected at one point after the other.
#[derive(Clone, Copy)]
pub(crate) struct Loop {
    /// Of the test and of its worlds.
    pub(crate) name: &'static str,
    /// The test's function, for the command that runs a point again.
    pub(crate) test: &'static str,
    /// Installs the fault for the n-th point of a phase.
    pub(crate) arm: Arm,
}

impl Loop {
    /// Tries the points, of which the learning run has found `most` in its longest phase. One run
    /// injects at the n-th point of each phase.
    pub(crate) async fn run(self, most: u64) -> Result<()> {
        ensure!(most > 0, "the learning run found nothing to disturb");
        let (points, all): (Box<dyn Iterator<Item = u64>>, bool) = match Choice::from_env(most)? {
            Choice::All => (Box::new(1..), true),
            Choice::Some(points) => (Box::new(points.into_iter()), false),
        };
        let mut runs = futures::stream::iter(points)
            .map(|n| async move { (n, self.point(n).await) })
            .buffered(AT_ONCE);
        let (mut hits, mut failures) = (0, Vec::new());
        while let Some((n, done)) = runs.next().await {
            match done {
                Ok(0) if all => break,
                Ok(bitten) => hits += bitten,
                Err(error) => {
                    let failure = format!(
                        "{} point {n}: {error:#}\nagain: FAULT_POINT={n} cargo xtask cargo test -p \
                         process-operator-tests --test faults {} -- --nocapture",
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
        ensure!(
            hits > 0,
            "{}: no run came to the point that was to be disturbed",
            self.name
        );
        Ok(())
    }

    /// One run; in how many phases the fault bit.
    async fn point(self, n: u64) -> Result<usize> {
        let reference = Reference::get().await?;
        let started = Instant::now();
        let mut passage = Passage::new(World::new(self.name).await?);
        match self.through(&mut passage, reference, n).await {
            Ok(hits) => {
                let took = started.elapsed().as_secs();
                println!("{} point {n}: {took} s; {}", self.name, hits.join("; "));
                passage.world.finish().await?;
                Ok(hits.len())
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
        n: u64,
    ) -> Result<Vec<String>> {
        let mut hits = Vec::new();
        for phase in Phase::ALL {
            let (hit, picture) = passage.killed(phase, n, self.arm).await?;
            reference.check(phase, &picture)?;
            if let Some(what) = hit {
                hits.push(format!("{phase}: {what}"));
            }
            if phase == Phase::Roll {
                passage.world.hold().await?;
            }
        }
        Ok(hits)
    }
}

#[test]
fn a_sample_holds_the_first_and_the_last_point() {
    assert_eq!(spread(1), [1]);
    assert_eq!(spread(2), [1, 2]);
    assert_eq!(spread(9), [1, 5, 9]);
}
