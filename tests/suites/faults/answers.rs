//! The API server refuses, fails, or says nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use process_operator_crds::Process;
use process_operator_faultproxy::{Action, Answer, KubeRequest, RequestMatch, RuleHandle, Verb};
use process_operator_harness::{complete, condition, is_settled, manifest};

use crate::scenario::{Passage, Phase, Reference, at_rest, at_rest_within, gone, gone_within};
use crate::world::{NAME, SOON, World};

/// A Process in the same namespace that nothing is done to.
const WELL: &str = "well";

/// Requests about the Process of a scenario and what belongs to it.
fn about(verb: Verb) -> RequestMatch {
    let concerns = |request: &KubeRequest| {
        let selected = request
            .param("labelSelector")
            .is_some_and(|labels| labels.ends_with(NAME));
        request.name.starts_with(NAME) || selected
    };
    RequestMatch::any().verb(verb).when(concerns)
}

/// What activities do; the watcher's own watches are about all Processes at once.
const VERBS: [Verb; 6] = [
    Verb::Get,
    Verb::List,
    Verb::Create,
    Verb::Patch,
    Verb::Apply,
    Verb::Delete,
];

/// F18 and F17: everything fails for one Process, and another one does not notice. Then each verb
/// fails with each of the answers in turn, `times` times in all, on the way of the first through its
/// life: not each with the same first, so that fewer times do than there are answers.
async fn failing(name: &str, actions: &[Action<Answer>], times: u64) -> Result<()> {
    let world = World::new(name).await?;
    let env = &world.env;
    for (verb, action) in VERBS.into_iter().zip(actions.iter().cycle()) {
        world.kube.rule(about(verb), action.clone());
    }
    let process = world.create().await?;
    env.apply(&manifest(env, WELL, "v1")).await?;
    env.wait_settled(WELL, "v1").await?;
    let bad = env.api::<Process>().get(NAME).await?;
    ensure!(
        !is_settled(&bad, "v1"),
        "I11: nothing can have been done for {NAME} yet"
    );
    world.kube.clear_rules();

    let few = |phase: usize| {
        let in_turn = |(first, verb): (usize, Verb)| {
            let actions = actions.iter().enumerate().cycle().skip(first + phase);
            (1..=times).zip(actions).map(move |at| (verb, at))
        };
        let arm = |(verb, (n, (of, action))): (Verb, (u64, (usize, &Action<Answer>)))| {
            (
                verb,
                of,
                world.kube.rule(about(verb).nth(n), action.clone()),
            )
        };
        VERBS
            .into_iter()
            .enumerate()
            .flat_map(in_turn)
            .map(arm)
            .collect::<Vec<_>>()
    };
    let mut all: Vec<(Verb, usize, RuleHandle)> = few(0);
    at_rest(&world, "v1").await?;
    world.kube.clear_rules();
    all.extend(few(1));
    env.set_tag(NAME, "v2").await?;
    at_rest(&world, "v2").await?;
    world.hold().await?;
    world.kube.clear_rules();
    all.extend(few(2));
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    gone(&world, &process).await?;
    let hit = |wanted: &dyn Fn(Verb, usize) -> bool| {
        all.iter()
            .any(|(verb, of, rule)| wanted(*verb, *of) && rule.hits() > 0)
    };
    for verb in VERBS {
        ensure!(hit(&|of, _| of == verb), "{verb} was never disturbed");
    }
    for (n, action) in actions.iter().enumerate() {
        ensure!(hit(&|_, of| of == n), "{action:?} was never given");
    }
    // What passes by itself asks nobody to act.
    for state in world.observer.states() {
        let (stalled, reason, message) = condition(&state, "Stalled");
        ensure!(stalled != "True", "Stalled: {reason} {message}");
    }
    let well = env.api::<Process>().get(WELL).await?;
    ensure!(is_settled(&well, "v1"), "I11: {WELL} is as it was");
    world.finish().await
}

fn bad_gateway() -> Action<Answer> {
    let page = Answer::raw(502, "text/html", "<html>Bad Gateway</html>");
    Action::Answer(page)
}

/// What was asked for is done all the same.
fn gateway_timeout() -> Action<Answer> {
    Action::AnswerAfter(Answer::status(504))
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests() -> Result<()> {
    let answer = Answer::too_many_requests().retry_after(Duration::from_secs(1));
    failing("f17", &[Action::Answer(answer)], 2).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn too_many_requests_without_a_time() -> Result<()> {
    let answer = Answer::too_many_requests();
    failing("f17n", &[Action::Answer(answer)], 2).await
}

/// F17: who asks to be left alone for a while is left alone, and what was refused is done after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_names_a_time_is_not_asked_before() -> Result<()> {
    const WHILE: Duration = Duration::from_secs(20);
    let world = World::new("f17t").await?;
    let env = &world.env;
    world.create().await?;
    at_rest(&world, "v1").await?;
    let refusal = Answer::too_many_requests().retry_after(WHILE);
    let applies = || world.writes().resource("deployments").verb(Verb::Apply);
    let refused = world.kube.rule(applies().first(1), Action::Answer(refusal));
    env.set_tag(NAME, "v2").await?;
    refused.wait_done(1, SOON).await?;
    let since = Instant::now();
    let again = world.kube.rule(applies().first(1), Action::Pass);
    env.wait_process(NAME, "the refusal is explained", SOON, |process| {
        let (degraded, reason, _) = condition(process, "Degraded");
        degraded == "True" && reason == "RateLimited"
    })
    .await?;
    again.wait_done(1, SOON).await?;
    ensure!(
        since.elapsed() > WHILE.mul_f64(0.9),
        "asked again after {:.1} s",
        since.elapsed().as_secs_f64()
    );
    world.kube.clear_rules();
    at_rest(&world, "v2").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn service_unavailable() -> Result<()> {
    failing("f18u", &[Action::Answer(Answer::status(503))], 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_reset() -> Result<()> {
    failing("f18r", &[Action::Reset], 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_at_all() -> Result<()> {
    failing("f18h", &[Action::Hang(None)], 1).await
}

/// F18: everything is done, and the answer comes late: all of it after some seconds, or bit by bit. That is longer than
/// an operator takes its steps for wanted without asking again.
#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_are_waited_for_and_nothing_is_done_twice() -> Result<()> {
    const LATE: Duration = Duration::from_secs(4);
    let reference = Reference::get().await?;
    let mut passage = Passage::new(World::new("f18s").await?);
    let mut slow = Vec::new();
    for phase in Phase::taken() {
        for verb in VERBS {
            let action = match verb {
                Verb::Get | Verb::List => Action::Trickle(LATE),
                _ => Action::DelayAnswer(LATE),
            };
            let rule = passage.world.kube.rule(about(verb).first(2), action);
            slow.push((verb, rule));
        }
        let picture = passage.calm(phase).await?;
        reference.check(phase, &picture)?;
        passage.world.kube.clear_rules();
        if phase == Phase::Roll {
            passage.world.hold().await?;
        }
    }
    for verb in VERBS {
        let hit = |(of, rule): &(Verb, RuleHandle)| *of == verb && rule.hits() > 0;
        ensure!(slow.iter().any(hit), "{verb} was never slow");
    }
    for state in passage.world.observer.states() {
        for type_ in ["Degraded", "Stalled"] {
            let (status, reason, message) = condition(&state, type_);
            ensure!(status != "True", "{type_}: {reason} {message}");
        }
    }
    passage.world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_server_and_of_what_stands_before_it_in_turn() -> Result<()> {
    let [internal, unavailable] = [500, 503].map(|code| Action::Answer(Answer::status(code)));
    let all = [internal, bad_gateway(), gateway_timeout(), unavailable];
    failing("f18", &all, 3).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn internal_error() -> Result<()> {
    failing("f18i", &[Action::Answer(Answer::status(500))], 2).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn the_page_of_a_load_balancer() -> Result<()> {
    failing("f18g", &[bad_gateway()], 2).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of FAULTS=complete"]
async fn a_timeout_of_what_was_done_all_the_same() -> Result<()> {
    failing("f18t", &[gateway_timeout()], 2).await
}

/// F16: every kind of write meets one conflict.
#[tokio::test(flavor = "multi_thread")]
async fn one_conflict_for_each_kind_of_write_changes_nothing() -> Result<()> {
    let reference = Reference::get().await?;
    let mut passage = Passage::new(World::new("f16").await?);
    for phase in Phase::taken() {
        let writes = reference.writes.iter().filter(|(of, _)| *of == phase);
        let mut rules = Vec::new();
        for kind in writes.flat_map(|(_, report)| report.grouped().into_keys()) {
            let conflict = if kind.resource.starts_with("events") {
                // The one that an Event meets is that it is there already.
                Action::AnswerAfter(Answer::conflict().reason("AlreadyExists"))
            } else {
                Action::Answer(Answer::conflict())
            };
            let (resource, subresource) = (kind.resource.clone(), kind.subresource.clone());
            let one = passage
                .world
                .writes()
                .verb(kind.verb)
                .resource(&resource)
                .subresource(&subresource)
                .first(1);
            rules.push((kind, passage.world.kube.rule(one, conflict)));
        }
        let picture = passage.calm(phase).await?;
        reference.check(phase, &picture)?;
        for (kind, rule) in rules {
            ensure!(rule.hits() == 1, "{phase}: {kind} met no conflict");
        }
        passage.world.kube.clear_rules();
        if phase == Phase::Roll {
            passage.world.hold().await?;
        }
    }
    passage.world.finish().await
}

/// F16: nothing but conflicts for a while.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_for_a_while_are_explained_and_cause_no_storm() -> Result<()> {
    let long = Duration::from_secs(if complete() { 120 } else { 20 });
    let world = World::new("f16w").await?;
    let env = &world.env;
    let conflicts = |of: RequestMatch| {
        world
            .kube
            .rule(of.lasting(long), Action::Answer(Answer::conflict()))
    };
    let process = world.create().await?;
    at_rest(&world, "v1").await?;

    let applies = conflicts(world.writes().resource("deployments"));
    env.set_tag(NAME, "v2").await?;
    env.wait_process(NAME, "the conflict is explained", SOON, |process| {
        let (degraded, reason, message) = condition(process, "Degraded");
        degraded == "True" && reason == "Conflict" && !message.is_empty()
    })
    .await?;
    at_rest_within(&world, "v2", long + SOON).await?;
    calm(&applies, long)?;
    ensure!(
        !world.observer.said("Ready", "False", "Conflict"),
        "v1 serves all the while"
    );

    let statuses = conflicts(world.writes().subresource("status"));
    env.set_tag(NAME, "v3").await?;
    at_rest_within(&world, "v3", long + SOON).await?;
    calm(&statuses, long)?;
    world.hold().await?;

    let finalizer = conflicts(world.writes().resource("processes").subresource(""));
    env.api::<Process>()
        .delete(NAME, &DeleteParams::default())
        .await?;
    gone_within(&world, &process, long + SOON).await?;
    calm(&finalizer, long)?;
    world.finish().await
}

/// Back-off kept the number of tries small: some at first, and then one in a second at most.
fn calm(rule: &RuleHandle, long: Duration) -> Result<()> {
    let hits = rule.hits();
    let most = 40 + long.as_secs();
    ensure!((2..=most).contains(&hits), "{hits} conflicts in {long:?}");
    Ok(())
}
