//! F47: whatever users do in whatever order, with faults in between, the end is the same as if only the last
//! wish had ever been said.
//!
//! A short run by default. `PROPERTY_MINUTES=30` makes it a long one, `PROPERTY_SEED=n` repeats one.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{
    Action, Answer, EventMatch, GrpcCode, GrpcError, RequestMatch, RpcMatch, WatchAction, WatchEnd,
};
use process_operator_harness::{lifecycle_id, manifest, until};
use serde_json::{Value, json};

use crate::scenario::at_rest;
use crate::world::{NAME, SOON, World};

/// Of a run by default.
const SHORT: Duration = Duration::from_secs(40);
/// Faults with a duration last so long at most.
const MOMENT: Duration = Duration::from_secs(3);

/// Numbers that a seed decides (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let n = self.roll(all.len() as u64);
        &all[usize::try_from(n).unwrap_or_default()]
    }

    fn time(&mut self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.roll(millis))
    }
}

/// What a user does.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Image,
    Replicas,
    Suspend,
    Strategy,
    Verb,
    Recreate,
    DeleteDeployment,
    StartWorkflow,
    TerminateLifecycle,
}

const WISHES: [Wish; 14] = [
    Wish::Image,
    Wish::Image,
    Wish::Image,
    Wish::Replicas,
    Wish::Suspend,
    Wish::Suspend,
    Wish::Strategy,
    Wish::Verb,
    Wish::Verb,
    Wish::Verb,
    Wish::Recreate,
    Wish::DeleteDeployment,
    Wish::StartWorkflow,
    Wish::TerminateLifecycle,
];

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    Kill,
    ServerErrors,
    Conflicts,
    Resets,
    LostAnswer,
    DeafWatch,
    EndedWatches,
    ApiServerAway,
    TemporalErrors,
    TemporalAway,
}

const TROUBLES: [Trouble; 13] = [
    Trouble::None,
    Trouble::None,
    Trouble::Kill,
    Trouble::Kill,
    Trouble::ServerErrors,
    Trouble::Conflicts,
    Trouble::Resets,
    Trouble::LostAnswer,
    Trouble::DeafWatch,
    Trouble::EndedWatches,
    Trouble::ApiServerAway,
    Trouble::TemporalErrors,
    Trouble::TemporalAway,
];

const TAGS: [&str; 3] = ["v1", "v2", "v3"];
const VERBS: [&str; 7] = [
    "promote", "pause", "resume", "abort", "retry", "restart", "undo",
];

struct Run {
    world: World,
    dice: Dice,
    started: Vec<String>,
    asked: u64,
}

/// What every spec of a run has: short clocks.
fn wanted(world: &World, tag: &str) -> Value {
    let mut wanted = manifest(&world.env, NAME, tag);
    wanted["spec"]["deletion"] = json!({ "timeoutSeconds": 2, "onTimeout": "Terminate" });
    wanted["spec"]["rollout"] = json!({ "progressDeadlineSeconds": 120 });
    wanted
}

impl Run {
    async fn wish(&mut self, wish: Wish) -> Result<String> {
        let env = &self.world.env;
        let dice = &mut self.dice;
        let change = match wish {
            Wish::Image => {
                let image = format!("localhost/process-example-worker:{}", dice.one_of(&TAGS));
                json!({ "image": image })
            }
            Wish::Replicas => json!({ "replicas": 1 + dice.roll(2) }),
            Wish::Suspend => json!({ "suspend": dice.roll(2) == 0 }),
            Wish::Strategy => {
                let pause = json!({ "durationSeconds": 1 });
                let steps = json!([{ "weight": 20, "pause": pause }, { "weight": 60 }]);
                let all = [
                    json!({ "strategy": "RollingUpdate", "steps": null }),
                    json!({ "strategy": "Manual", "steps": null }),
                    json!({ "strategy": "Canary", "steps": steps }),
                ];
                json!({ "rollout": dice.one_of(&all) })
            }
            Wish::Verb => {
                let verb = *dice.one_of(&VERBS);
                self.asked += 1;
                let process = env.api::<Process>().get(NAME).await?;
                env.annotate(&process, &format!("ask-{}", self.asked), verb)
                    .await?;
                return Ok(verb.to_owned());
            }
            Wish::Recreate => {
                let api = env.api::<Process>();
                api.delete(NAME, &DeleteParams::background()).await?;
                self.gone().await?;
                let tag = *self.dice.one_of(&TAGS);
                let env = &self.world.env;
                env.apply(&wanted(&self.world, tag)).await?;
                return Ok(tag.to_owned());
            }
            Wish::DeleteDeployment => {
                let all = env.deployments(NAME).await?;
                if all.is_empty() {
                    return Ok("none".to_owned());
                }
                let name = dice.one_of(&all).name_any();
                let api = env.api::<Deployment>();
                let _ = api.delete(&name, &DeleteParams::background()).await;
                return Ok(name);
            }
            Wish::StartWorkflow => {
                let id = format!("long-{}", self.started.len());
                // Whether anybody takes it now is not what matters.
                env.temporal
                    .start_untaken(&env.apps, "l2o-tq", &id, None)
                    .await?;
                self.started.push(id.clone());
                return Ok(id);
            }
            Wish::TerminateLifecycle => {
                let process = env.api::<Process>().get(NAME).await?;
                let _ = env
                    .temporal
                    .terminate(&env.control, &lifecycle_id(&process))
                    .await;
                return Ok(String::new());
            }
        };
        env.patch(NAME, &json!({ "spec": change })).await?;
        Ok(change.to_string())
    }

    async fn gone(&self) -> Result<()> {
        let env = &self.world.env;
        until("it is gone", 2 * SOON, async || {
            let there = env.api::<Process>().get_opt(NAME).await?;
            ensure!(there.is_none(), "still there");
            Ok(())
        })
        .await
    }

    async fn trouble(&mut self, trouble: Trouble) -> Result<()> {
        let world = &self.world;
        let lasting = self.dice.time(MOMENT);
        let some = 1 + self.dice.roll(3);
        let writes = || world.writes().lasting(lasting);
        match trouble {
            Trouble::None => {}
            Trouble::Kill => {
                world.crew.kill();
                world.start(false).await?;
            }
            Trouble::ServerErrors => {
                let about = RequestMatch::any().every(some).lasting(lasting);
                world.kube.rule(about, Action::Answer(Answer::status(503)));
            }
            Trouble::Conflicts => {
                let answer = Action::Answer(Answer::conflict());
                world.kube.rule(writes().every(some), answer);
            }
            Trouble::Resets => {
                let about = RequestMatch::any().every(some + 1).lasting(lasting);
                world.kube.rule(about, Action::Reset);
            }
            Trouble::LostAnswer => {
                world.kube.rule(writes().first(some), Action::lose_answer());
            }
            Trouble::DeafWatch => {
                let events = EventMatch::events().every(some).lasting(lasting);
                world.kube.watch_rule(events, WatchAction::Drop);
            }
            Trouble::EndedWatches => {
                let how = *self
                    .dice
                    .one_of(&[WatchEnd::Close, WatchEnd::Gone, WatchEnd::Cut]);
                self.world.kube.end_watches(&RequestMatch::watches(), how);
            }
            Trouble::ApiServerAway => {
                world.kube.down().await;
                tokio::time::sleep(lasting).await;
                world.kube.up().await?;
            }
            Trouble::TemporalErrors => {
                let error = GrpcError::new(GrpcCode::Unavailable, "for a moment");
                let about = RpcMatch::any().every(some).lasting(lasting);
                world.temporal.rule(about, Action::Answer(error));
            }
            Trouble::TemporalAway => {
                world.temporal.down().await;
                tokio::time::sleep(lasting).await;
                world.temporal.up().await?;
            }
        }
        Ok(())
    }

    /// Faults end, holds are taken back, and one last wish is said.
    async fn last_wish(&mut self) -> Result<Value> {
        let world = &self.world;
        world.kube.heal().await?;
        world.temporal.heal().await?;
        let env = &world.env;
        until("the lifecycle has caught up", SOON, async || {
            let process = env.api::<Process>().get(NAME).await?;
            let seen = process
                .status
                .as_ref()
                .and_then(|it| it.observed_generation);
            ensure!(seen == process.metadata.generation, "{:?}", process.status);
            Ok(())
        })
        .await?;
        let tag = *self.dice.one_of(&TAGS);
        let mut last = wanted(world, tag);
        last["spec"]["replicas"] = json!(1 + self.dice.roll(2));
        last["spec"]["suspend"] = json!(false);
        last["spec"]["rollout"]["strategy"] = json!("RollingUpdate");
        last["spec"]["rollout"]["steps"] = json!(null);
        last["spec"]["worker"]["env"] = json!([{ "name": "LAST", "value": "wish" }]);
        let process = env.patch(NAME, &json!({ "spec": last["spec"] })).await?;
        env.annotate(&process, "last", "resume").await?;
        for id in std::mem::take(&mut self.started) {
            // One that a deletion has ended is over.
            let finish = vec![process_operator_harness::json_payload(&json!({}))];
            let _ = env.temporal.signal(&env.apps, &id, "finish", finish).await;
        }
        at_rest(world, tag).await?;
        last["spec"]["rollout"]
            .as_object_mut()
            .context("a rollout")?
            .remove("steps");
        Ok(last)
    }

    /// What a last wish has made: the Deployment, and what Temporal routes.
    async fn made(&self) -> Result<(Vec<Value>, Value)> {
        let env = &self.world.env;
        let mut specs = Vec::new();
        for deployment in env.deployments(NAME).await? {
            let mut template = serde_json::to_value(&deployment.spec)?;
            // Somebody has asked for a restart.
            if let Some(annotations) = template.pointer_mut("/template/metadata/annotations") {
                let annotations = annotations.as_object_mut().context("annotations")?;
                annotations.remove("kubectl.kubernetes.io/restartedAt");
                if annotations.is_empty() {
                    template["template"]["metadata"]
                        .as_object_mut()
                        .context("metadata")?
                        .remove("annotations");
                }
            }
            specs.push(json!({ "name": deployment.name_any(), "spec": template }));
        }
        let name = format!("{}/{NAME}", env.namespace);
        let info = env.temporal.worker_deployment(&env.apps, &name).await?;
        let routing = info
            .and_then(|info| info.routing_config)
            .context("routed")?;
        let routing = json!({
            "current": routing.current_deployment_version.map(|version| version.build_id),
            "ramping": routing.ramping_deployment_version.map(|version| version.build_id),
            "percent": routing.ramping_version_percentage.to_string(),
        });
        Ok((specs, routing))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_for_among_faults_the_last_wish_is_what_there_is() -> Result<()> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = match number("PROPERTY_SEED") {
        Some(seed) => seed,
        None => u64::from(SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos()),
    };
    let minutes = number("PROPERTY_MINUTES");
    let time = minutes.map_or(SHORT, |minutes| Duration::from_secs(60 * minutes));
    println!("PROPERTY_SEED={seed} repeats this run");
    let mut world = World::new("f47").await?;
    world.invariants = world.invariants.with_terminations();
    let mut run = Run {
        dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        world,
        started: Vec::new(),
        asked: 0,
    };
    run.world.env.apply(&wanted(&run.world, "v1")).await?;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let trouble = *run.dice.one_of(&TROUBLES);
        let wish = *run.dice.one_of(&WISHES);
        run.trouble(trouble).await?;
        let what = run.wish(wish).await.with_context(|| format!("{wish:?}"))?;
        println!(
            "{:4} s: {trouble:?}, {wish:?} {what}",
            begun.elapsed().as_secs()
        );
        let pause = run.dice.time(MOMENT);
        tokio::time::sleep(pause).await;
    }
    let last = run
        .last_wish()
        .await
        .with_context(|| format!("seed {seed}, {}", run.world.traces()))?;
    run.world.hold().await?;
    let here = run.made().await?;

    // The same wish, and nothing before it.
    let env = &run.world.env;
    let api = env.api::<Process>();
    api.delete(NAME, &DeleteParams::background()).await?;
    run.gone().await?;
    let image = last["spec"]["image"].as_str().context("an image")?;
    let tag = image.rsplit(':').next().context("a tag")?;
    env.apply(&last).await?;
    at_rest(&run.world, tag).await?;
    let fresh = run.made().await?;
    ensure!(here == fresh, "seed {seed}: {here:#?} is not {fresh:#?}");
    run.world.finish().await
}
