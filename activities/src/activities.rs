//! Registration: names and payloads here, the work in the other modules.

#![allow(
    missing_docs,
    reason = "the SDK's macros add a public constant beside each method and drop attributes on the impl"
)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use process_operator_crds::ErrorCategory;
use process_operator_workflows::contract::{
    ActInput, ActOutcome, CleanRecordsInput, CleanRecordsOutcome, CloseRunsInput, CloseRunsOutcome,
    CountOpenInput, CountOpenOutcome, EndOpenInput, EndOpenOutcome, EvidenceInput, EvidenceOutcome,
    GateInput, GateOutcome, KeepDrainedInput, KeepDrainedOutcome, Observation, ObserveInput,
    ProcessKey, RetireInput, RetireOutcome, RolloutProgress, SetCurrentInput, SetWeightInput,
    SetWeightOutcome, StopVersionInput, StopVersionOutcome, TellInput, WaitDrainedInput,
    WaitDrainedOutcome, WaitServingInput, WaitServingOutcome,
};
use temporalio_macros::activities;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::context::Context;
use crate::error::Fault;
use crate::sent::Sent;
use crate::{act, logged, observe, shift, temporal, wait};

/// All activities of the operator.
#[derive(Clone)]
pub struct OperatorActivities {
    context: Arc<Context>,
}

impl OperatorActivities {
    /// Activities over one context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Makes a change of routing. One that the server does not let through for a while is told: what nobody sees
    /// looks like a rollout that hangs.
    async fn telling<T>(
        &self,
        ctx: &ActivityContext,
        key: &ProcessKey,
        waiting: Option<&RolloutProgress>,
        change: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let changed = change.await;
        if let Err(fault) = &changed
            && fault.category == ErrorCategory::RateLimited
            && (ctx.info().attempt > 3 || Timestamp::now().duration_since(begun(ctx)) > LONG)
        {
            let occasion = occasion(ctx);
            temporal::lifecycle::waits(&self.context, key, waiting, fault, &occasion).await;
        }
        changed
    }
}

/// After so long, or after three tries, it is told what a change of routing waits for.
const LONG: SignedDuration = SignedDuration::from_secs(5);

/// The activity, whichever try of it this is.
fn occasion(ctx: &ActivityContext) -> String {
    let info = ctx.info();
    let run_id = info.workflow_run_id.as_deref().unwrap_or_default();
    format!("{run_id}/{}", info.activity_id)
}

/// When the activity was scheduled: the same for all tries of it.
fn begun(ctx: &ActivityContext) -> Timestamp {
    let scheduled = ctx.info().scheduled_time;
    scheduled
        .and_then(|time| Timestamp::try_from(time).ok())
        .unwrap_or_else(Timestamp::now)
}

#[activities]
impl OperatorActivities {
    /// Reads everything a decision needs.
    #[activity(name = "observe")]
    pub async fn observe(
        self: Arc<Self>,
        _ctx: ActivityContext,
        input: ObserveInput,
    ) -> Result<Observation, ActivityError> {
        Ok(Box::pin(observe::observe(&self.context, &input)).await)
    }

    /// Carries out steps on Kubernetes.
    #[activity(name = "act")]
    pub async fn act(
        self: Arc<Self>,
        _ctx: ActivityContext,
        input: ActInput,
    ) -> Result<ActOutcome, ActivityError> {
        Ok(Box::pin(act::act(&self.context, &input)).await)
    }

    /// Waits until a version serves its queue.
    #[activity(name = "wait-serving")]
    pub async fn wait_serving(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: WaitServingInput,
    ) -> Result<WaitServingOutcome, ActivityError> {
        let occasion = occasion(&ctx);
        let try_ = wait::serving::Try {
            occasion: &occasion,
            again: ctx.info().attempt > 1,
        };
        let wait = Box::pin(wait::serving::wait(&self.context, &input, try_));
        wait::beating(&self.context, &ctx, &input.key, wait).await
    }

    /// Makes a version Current.
    #[activity(name = "set-current")]
    pub async fn set_current(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: SetCurrentInput,
    ) -> Result<(), ActivityError> {
        let (begun, sent) = (begun(&ctx), Sent::default());
        let change = async {
            if input.versioning.is_default() {
                temporal::routing::set_current(&self.context, &input, &sent).await
            } else {
                shift::set_current(&self.context, &input, begun, &sent).await
            }
        };
        let told = self.telling(&ctx, &input.key, input.waiting.as_ref(), Box::pin(change));
        let made = wait::beating(&self.context, &ctx, &input.key, Box::pin(told)).await;
        // Whoever waits for the end of this must not find its change carried out later.
        sent.settled().await;
        made
    }

    /// Sets the share of a version.
    #[activity(name = "set-weight")]
    pub async fn set_weight(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: SetWeightInput,
    ) -> Result<SetWeightOutcome, ActivityError> {
        let (occasion, begun, sent) = (occasion(&ctx), begun(&ctx), Sent::default());
        let change = async {
            if input.versioning.is_default() {
                temporal::routing::set_weight(&self.context, &input, &sent).await?;
            } else {
                shift::set_weight(&self.context, &input, begun, &sent).await?;
            }
            let at = temporal::lifecycle::weighted(&self.context, &input, &occasion, begun);
            Ok(at.await)
        };
        let told = self.telling(&ctx, &input.key, input.waiting.as_ref(), Box::pin(change));
        let made = wait::beating(&self.context, &ctx, &input.key, Box::pin(told)).await;
        sent.settled().await;
        made
    }

    /// Runs a gate workflow.
    #[activity(name = "run-gate")]
    pub async fn run_gate(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: GateInput,
    ) -> Result<GateOutcome, ActivityError> {
        let run = wait::gate::run(&self.context, &input);
        wait::beating(&self.context, &ctx, &input.key, Box::pin(run)).await
    }

    /// Watches executions and pods of a version.
    #[activity(name = "watch-evidence")]
    pub async fn watch_evidence(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: EvidenceInput,
    ) -> Result<EvidenceOutcome, ActivityError> {
        let watch = wait::evidence::watch(&self.context, &input);
        wait::beating(&self.context, &ctx, &input.key, Box::pin(watch)).await
    }

    /// Waits until there is evidence enough.
    #[activity(name = "judge")]
    pub async fn judge(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: EvidenceInput,
    ) -> Result<EvidenceOutcome, ActivityError> {
        let occasion = occasion(&ctx);
        let judge = wait::evidence::judge(&self.context, &input, &occasion);
        wait::beating(&self.context, &ctx, &input.key, Box::pin(judge)).await
    }

    /// Waits until a version is drained.
    #[activity(name = "wait-drained")]
    pub async fn wait_drained(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: WaitDrainedInput,
    ) -> Result<WaitDrainedOutcome, ActivityError> {
        let wait = wait::drained::wait(&self.context, &input, begun(&ctx));
        wait::beating(&self.context, &ctx, &input.key, Box::pin(wait)).await
    }

    /// Tells a lifecycle how far a child of it has come.
    #[activity(name = "tell")]
    pub async fn tell(
        self: Arc<Self>,
        _ctx: ActivityContext,
        input: TellInput,
    ) -> Result<(), ActivityError> {
        logged::about(&input.key);
        if let Some(told) = &input.drain {
            temporal::lifecycle::drained(&self.context, &input.key, told).await?;
        }
        Ok(())
    }

    /// Counts what holds a version.
    #[activity(name = "count-open")]
    pub async fn count_open(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: CountOpenInput,
    ) -> Result<CountOpenOutcome, ActivityError> {
        let work = wait::ending::count(&self.context, &input);
        wait::beating(&self.context, &ctx, &input.key, Box::pin(work)).await
    }

    /// Ends or moves what holds a version.
    #[activity(name = "end-open")]
    pub async fn end_open(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: EndOpenInput,
    ) -> Result<EndOpenOutcome, ActivityError> {
        let work = wait::ending::end(&self.context, &input);
        wait::beating(&self.context, &ctx, &input.key, Box::pin(work)).await
    }

    /// Leaves a drained version as it is for a while.
    #[activity(name = "keep-drained")]
    pub async fn keep_drained(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: KeepDrainedInput,
    ) -> Result<KeepDrainedOutcome, ActivityError> {
        let work = wait::drained::keep(&self.context, &input);
        wait::beating(&self.context, &ctx, &input.key, Box::pin(work)).await
    }

    /// Stops the pods of a drained version.
    #[activity(name = "stop-version")]
    pub async fn stop_version(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: StopVersionInput,
    ) -> Result<StopVersionOutcome, ActivityError> {
        let work = wait::retire::stop(&self.context, &input);
        wait::beating(&self.context, &ctx, &input.key, Box::pin(work)).await
    }

    /// Removes a retired version.
    #[activity(name = "retire-version")]
    pub async fn retire_version(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: RetireInput,
    ) -> Result<RetireOutcome, ActivityError> {
        wait::beating(
            &self.context,
            &ctx,
            &input.key,
            Box::pin(wait::retire::retire(&self.context, &input)),
        )
        .await
    }

    /// Ends what a Process that is being deleted still runs.
    #[activity(name = "close-runs")]
    pub async fn close_runs(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: CloseRunsInput,
    ) -> Result<CloseRunsOutcome, ActivityError> {
        wait::beating(
            &self.context,
            &ctx,
            &input.key,
            Box::pin(wait::close::close(&self.context, &input)),
        )
        .await
    }

    /// Cleans the server's records of a deleted Process.
    #[activity(name = "clean-records")]
    pub async fn clean_records(
        self: Arc<Self>,
        ctx: ActivityContext,
        input: CleanRecordsInput,
    ) -> Result<CleanRecordsOutcome, ActivityError> {
        wait::beating(
            &self.context,
            &ctx,
            &input.key,
            Box::pin(wait::records::clean(&self.context, &input)),
        )
        .await
    }
}
