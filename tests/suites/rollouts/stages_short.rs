//! A rollout in the stages that are over at once otherwise: a weight is being set, a version is being made Current, a
//! weight is being taken back. A proxy before Temporal keeps it there, and each verb comes to what a table says.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use process_operator_crds::Process;
use process_operator_faultproxy::{
    Action, GrpcCode, GrpcError, RpcMatch, RuleHandle, TemporalProxy,
};
use process_operator_harness::{Env, condition, until};
use serde_json::{Value, json};
use temporalio_common::protos::temporal::api::enums::v1::EventType::{
    self, ActivityTaskCanceled, ActivityTaskFailed,
};

use crate::recorded::types_in_rollout;
use crate::stages::{ABORTED, NOT_NOW, PAUSED, Refusal, Stand, asked, at, is_at, pods_of, refused};
use crate::support::{SOON, ask, canary, change, now, proxied, reason, rollout, routed, told};

/// The short stages, as the columns of [`TABLE`].
#[derive(Debug, Clone, Copy)]
enum Short {
    Weighting,
    Promoting,
    Unwinding,
}

/// What a verb comes to.
#[derive(Debug, Clone, Copy)]
enum To {
    /// Granted, with this answer.
    Yes(&'static str),
    /// Refused, with these words; nothing follows.
    No(&'static str),
}
use To::{No, Yes};

const STAYS: &str = "the share of new workflows stays as it is";
const NEXT: &str = "the next step is taken";
const ALL: &str = "all new workflows go to it";
const BACK: &str = "new workflows go to the version that served before";
const NOT_PAUSED: &str = "it is not paused";
const ABORTING: &str = "it is being aborted";
const ALREADY: &str = "it is being aborted already";
const RESTARTED: &str = "its pods are restarted one after the other";

/// Each verb in each of the stages, once the rollout has told that it is in it.
const TABLE: [(&str, [To; 3]); 9] = [
    ("pause", [Yes(STAYS), Yes(STAYS), No(ABORTING)]),
    ("resume", [No(NOT_PAUSED), No(NOT_PAUSED), No(ABORTING)]),
    // While the version is being made Current there is no further step: nothing follows.
    ("promote", [Yes(NEXT), Yes(NEXT), No(ABORTING)]),
    ("promote full", [Yes(ALL), Yes(ALL), No(ABORTING)]),
    ("abort", [Yes(BACK), Yes(BACK), No(ALREADY)]),
    ("retry", [No("nothing has failed or was undone"); 3]),
    ("undo", [No("a rollout is under way: abort it first"); 3]),
    ("restart", [Yes(RESTARTED); 3]),
    ("forceCancelDrain", [No("nothing is draining"); 3]),
];

/// What is refused as well, as long as nothing is heard of a rollout that has begun.
const EARLY: [Refusal; 2] = [
    ("promote", "the new version does not serve yet"),
    ("promote full", "the new version does not serve yet"),
];

fn weights() -> RpcMatch {
    RpcMatch::method("SetWorkerDeploymentRampingVersion")
}

fn promotions() -> RpcMatch {
    RpcMatch::method("SetWorkerDeploymentCurrentVersion")
}

/// Whatever has a share, from now on nothing has.
fn takings_back() -> RpcMatch {
    weights().when(|rpc| !rpc.mentions("v2-") && !rpc.mentions("v3-"))
}

/// Such changes get no answer: the rollout stays in its stage, and has told nobody of it.
fn unanswered(proxy: &TemporalProxy, changes: RpcMatch) -> RuleHandle {
    proxy.rule(changes, Action::Hang(None))
}

/// They are refused for now, none is made. After some seconds that is told, and with it the stage.
fn put_off(proxy: &TemporalProxy, changes: RpcMatch) -> RuleHandle {
    let error = GrpcError::new(GrpcCode::ResourceExhausted, "not so many at once");
    proxy.rule(changes, Action::Answer(error))
}

/// Steps that wait for somebody.
fn steps(weights: &[i32]) -> Value {
    let step = |weight: &i32| json!({ "weight": weight, "pause": {} });
    canary(&weights.iter().map(step).collect())
}

/// Somebody who asks for one verb after the other in one of the stages.
struct Asker<'a> {
    env: &'a Env,
    process: &'a Process,
    stage: Short,
    granted: BTreeSet<&'static str>,
}

impl<'a> Asker<'a> {
    fn new(env: &'a Env, process: &'a Process, stage: Short) -> Self {
        Self {
            env,
            process,
            stage,
            granted: BTreeSet::new(),
        }
    }

    /// What each verb comes to here.
    fn column(&self) -> impl Iterator<Item = (&'static str, To)> + use<> {
        let stage = self.stage as usize;
        TABLE.into_iter().map(move |(verb, to)| (verb, to[stage]))
    }

    /// What is to be refused is refused, and nothing has changed after that.
    async fn refusals(&self) -> Result<()> {
        let refusals = self.column().filter_map(|(verb, to)| match to {
            No(words) => Some((verb, words)),
            Yes(_) => None,
        });
        let refusals: Vec<Refusal> = refusals.collect();
        refused(self.env, self.process, &refusals).await
    }

    /// What is to be granted is granted.
    async fn grant(&mut self, verb: &'static str) -> Result<()> {
        let Some((verb, Yes(words))) = self.column().find(|(it, _)| *it == verb) else {
            bail!("{verb} is to be refused in {:?}", self.stage);
        };
        let answer = ask(self.env, self.process, verb).await?;
        let as_told = answer.as_ref().is_ok_and(|it| it == words);
        ensure!(as_told, "{verb} in {:?}: {answer:?}", self.stage);
        self.granted.insert(verb);
        Ok(())
    }

    /// The pods of v1, which serves, are restarted, and the rollout stays where it is.
    async fn restarts(&mut self, stand: Stand) -> Result<()> {
        let env = self.env;
        let old = pods_of(env, "v1").await?;
        self.grant("restart").await?;
        until("v1 has another pod", SOON, async || {
            let found = pods_of(env, "v1").await?;
            ensure!(found.len() == 1 && found.is_disjoint(&old), "{found:?}");
            Ok(())
        })
        .await?;
        stands(&now(env).await?, stand)
    }

    /// Paused, it does not ask for its change any more, whatever the server would say to that; resumed, it does.
    async fn pauses(&mut self, stand: Stand, later: &RuleHandle) -> Result<()> {
        let (env, process) = (self.env, self.process);
        self.grant("pause").await?;
        stands(&reason(env, "Progressing", "Paused").await?, stand)?;
        refused(env, process, &PAUSED).await?;
        until("its change of routing has ended", SOON, async || {
            let types = types_in_rollout(env, process, "v2").await?;
            let ended = |it: &EventType| matches!(it, ActivityTaskCanceled | ActivityTaskFailed);
            ensure!(types.iter().any(ended), "{types:?}");
            Ok(())
        })
        .await?;
        later.remove();
        routed(env, "v1", "", 0.0).await?;
        stands(&now(env).await?, stand)?;
        env.grant(process, "resume").await?;
        Ok(())
    }

    /// Aborted, it goes although its change is put off still.
    async fn aborts(&mut self, serves: &str, later: &RuleHandle) -> Result<()> {
        self.grant("abort").await?;
        reason(self.env, "Stalled", "RolloutAborted").await?;
        later.remove();
        routed(self.env, serves, "", 0.0).await?;
        refused(self.env, self.process, &ABORTED).await
    }

    /// Everything that is to be granted was asked for.
    fn complete(&self) -> Result<()> {
        let yes = self.column().filter(|(_, to)| matches!(to, Yes(_)));
        let yes: BTreeSet<_> = yes.map(|(verb, _)| verb).collect();
        ensure!(self.granted == yes, "{:?}, not {yes:?}", self.granted);
        Ok(())
    }
}

/// Status shows the rollout there.
fn stands(process: &Process, stand: Stand) -> Result<()> {
    let found = rollout(process);
    ensure!(is_at(process, stand), "{stand:?}: {found:?}");
    Ok(())
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Waits until the history ends so. Whoever has asked for something stands there, and why.
async fn history(env: &Env, ends: &str) -> Result<()> {
    let ends = words(ends);
    let found = until("the history", SOON, async || {
        let found = now(env).await?;
        let all = told(&found);
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        ensure!(all.ends_with(&ends), "{all:?}, not {ends:?}");
        Ok(found)
    })
    .await?;
    let entries = found.status.iter().flat_map(|status| &status.history);
    for entry in entries.filter(|entry| entry.what.ends_with("Requested")) {
        let by = entry.actor.as_deref() == Some("ada@example.com");
        let why = entry.reason.as_deref().unwrap_or_default();
        ensure!(by && why.ends_with("(a test)"), "{entry:?}");
    }
    Ok(())
}

/// The newest version was aborted and has left nothing, and this one serves alone.
async fn only(env: &Env, serves: &str) -> Result<()> {
    let found = reason(env, "Draining", "NothingDraining").await?;
    for (kind, status, why) in [
        ("Ready", "True", "Settled"),
        ("Progressing", "False", "RolloutAborted"),
        ("Stalled", "True", "RolloutAborted"),
    ] {
        let (is, says, _) = condition(&found, kind);
        ensure!((&*is, &*says) == (status, why), "{kind}: {is} {says}");
    }
    let status = found.status.unwrap_or_default();
    let current = status.current_version.unwrap_or_default().build_id;
    ensure!(current.starts_with(&format!("{serves}-")), "{current}");
    ensure!(status.rollout.is_none(), "{:?}", status.rollout);
    routed(env, serves, "", 0.0).await?;
    let deployments = env.deployments("l2o").await?.len();
    ensure!(deployments == 1, "{deployments}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_weight_is_set_it_is_paused_passed_over_promoted_or_aborted() -> Result<()> {
    let (scene, process, proxy) = proxied("weighting").await?;
    let env = &scene.env;
    let mut asker = Asker::new(env, &process, Short::Weighting);
    let silence = unanswered(&proxy, weights());
    let four = steps(&[20, 60, 90, 95]);
    env.patch("l2o", &change("v2", &[], &four)).await?;
    silence.wait_hits(1, SOON).await?;
    refused(env, &process, &NOT_NOW).await?;
    refused(env, &process, &EARLY).await?;
    let later = put_off(&proxy, weights());
    silence.remove();
    let stand = ("Weighting", 1, 0);
    at(env, "l2o", stand).await?;
    asker.refusals().await?;
    asker.restarts(stand).await?;
    asker.pauses(stand, &later).await?;
    at(env, "l2o", ("Pausing", 1, 20)).await?;
    routed(env, "v1", "v2", 20.0).await?;

    // Asked for twice out of one step it is taken once, and asked for in the next one it is not waited for there.
    let silence = unanswered(&proxy, weights());
    env.grant(&process, "promote").await?;
    silence.wait_hits(1, SOON).await?;
    at(env, "l2o", ("Pausing", 1, 20)).await?;
    asker.grant("promote").await?;
    let later = put_off(&proxy, weights());
    silence.remove();
    at(env, "l2o", ("Weighting", 2, 20)).await?;
    asker.refusals().await?;
    asker.grant("promote").await?;
    later.remove();
    at(env, "l2o", ("Pausing", 3, 90)).await?;
    routed(env, "v1", "v2", 90.0).await?;
    let so_far = "PauseRequested ResumeRequested WeightChanged WaitingForPromotion PromoteRequested \
        PromoteRequested PromoteRequested WeightChanged WaitingForPromotion WeightChanged";
    history(env, so_far).await?;

    // Its last weight is not waited for.
    let silence = unanswered(&proxy, weights());
    env.grant(&process, "promote").await?;
    silence.wait_hits(1, SOON).await?;
    asker.grant("promote full").await?;
    env.wait_settled("l2o", "v2").await?;
    silence.remove();

    let later = put_off(&proxy, weights());
    env.patch("l2o", &change("v3", &[], &steps(&[20]))).await?;
    at(env, "l2o", ("Weighting", 1, 0)).await?;
    asker.aborts("v2", &later).await?;
    asker.complete()?;
    let granted = "AbortRequested PauseRequested PromoteRequested PromoteRequested PromoteRequested \
        PromoteRequested PromoteRequested RestartRequested ResumeRequested";
    asked(env, &process, &words(granted)).await?;
    let ends = "PromoteRequested PromoteRequested VersionCurrent DrainStarted VersionRetired RolloutStarted \
        AbortRequested RolloutFailed DrainStarted VersionRetired";
    history(env, ends).await?;
    only(env, "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_version_is_made_current_it_is_paused_or_aborted_and_not_hurried() -> Result<()> {
    let (scene, process, proxy) = proxied("promoting").await?;
    let env = &scene.env;
    let mut asker = Asker::new(env, &process, Short::Promoting);
    let at_once = json!({ "strategy": "RollingUpdate" });
    let silence = unanswered(&proxy, promotions());
    env.patch("l2o", &change("v2", &[], &at_once)).await?;
    silence.wait_hits(1, SOON).await?;
    refused(env, &process, &NOT_NOW).await?;
    refused(env, &process, &EARLY).await?;
    let later = put_off(&proxy, promotions());
    silence.remove();
    let stand = ("Promoting", 0, 0);
    at(env, "l2o", stand).await?;
    asker.refusals().await?;
    asker.grant("promote").await?;
    asker.grant("promote full").await?;
    asker.restarts(stand).await?;
    asker.pauses(stand, &later).await?;
    env.wait_settled("l2o", "v2").await?;
    let so_far = "RolloutStarted PromoteRequested PromoteRequested RestartRequested PauseRequested \
        ResumeRequested VersionCurrent DrainStarted VersionRetired";
    history(env, so_far).await?;

    let later = put_off(&proxy, promotions());
    env.patch("l2o", &change("v3", &[], &at_once)).await?;
    at(env, "l2o", stand).await?;
    asker.aborts("v2", &later).await?;
    asker.complete()?;
    let granted = "AbortRequested PauseRequested PromoteRequested PromoteRequested RestartRequested \
        ResumeRequested";
    asked(env, &process, &words(granted)).await?;
    let ends = "PauseRequested ResumeRequested VersionCurrent DrainStarted VersionRetired RolloutStarted \
        AbortRequested RolloutFailed DrainStarted VersionRetired";
    history(env, ends).await?;
    only(env, "v2").await?;
    scene.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_weight_is_taken_back_nothing_but_a_restart_is_granted() -> Result<()> {
    let (scene, process, proxy) = proxied("unwinding").await?;
    let env = &scene.env;
    let mut asker = Asker::new(env, &process, Short::Unwinding);
    let stand = ("Unwinding", 1, 20);
    let gate = json!({ "workflowType": "Verify", "timeoutSeconds": 30 });
    let failing = canary(&json!([{ "weight": 20, "gate": gate }]));
    let silence = unanswered(&proxy, takings_back());
    env.patch("l2o", &change("v2", &[("FAIL_VERIFY", "1")], &failing))
        .await?;
    silence.wait_hits(1, SOON).await?;
    // Nobody has heard that its gate has failed; what is granted for that comes too late.
    at(env, "l2o", ("StepGate", 1, 20)).await?;
    env.grant(&process, "promote").await?;
    env.grant_with(&process, "promote", &json!({ "full": true }))
        .await?;
    routed(env, "v1", "v2", 20.0).await?;
    let later = put_off(&proxy, takings_back());
    silence.remove();
    at(env, "l2o", stand).await?;
    asker.refusals().await?;
    later.remove();
    reason(env, "Stalled", "GateFailed").await?;
    routed(env, "v1", "", 0.0).await?;
    let so_far = "RolloutStarted WeightChanged PromoteRequested PromoteRequested GateEnded RolloutFailed \
        DrainStarted VersionRetired";
    history(env, so_far).await?;

    // An abort is known at once.
    env.patch("l2o", &change("v3", &[], &steps(&[20]))).await?;
    at(env, "l2o", ("Pausing", 1, 20)).await?;
    let silence = unanswered(&proxy, takings_back());
    env.grant(&process, "abort").await?;
    silence.wait_hits(1, SOON).await?;
    at(env, "l2o", stand).await?;
    routed(env, "v1", "v3", 20.0).await?;
    asker.refusals().await?;
    asker.restarts(stand).await?;
    asker.complete()?;
    silence.remove();
    reason(env, "Stalled", "RolloutAborted").await?;
    routed(env, "v1", "", 0.0).await?;
    refused(env, &process, &ABORTED).await?;
    let granted = "AbortRequested PromoteRequested PromoteRequested RestartRequested";
    asked(env, &process, &words(granted)).await?;
    let ends = "RolloutStarted WeightChanged WaitingForPromotion AbortRequested RestartRequested RolloutFailed \
        DrainStarted VersionRetired";
    history(env, ends).await?;
    only(env, "v1").await?;
    scene.finish().await
}
