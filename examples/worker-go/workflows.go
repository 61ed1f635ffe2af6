package main

import (
	"context"
	"os"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"
)

// Facts is what a worker knows of itself.
type Facts struct {
	Pod          string `json:"pod"`
	BuildID      string `json:"build_id"`
	DefinitionID string `json:"definition_id"`
	TenantID     string `json:"tenant_id"`
}

// WorkerFacts says which worker this is.
func WorkerFacts(context.Context) (Facts, error) {
	return Facts{
		Pod:          os.Getenv("HOSTNAME"),
		BuildID:      os.Getenv("TEMPORAL_WORKER_BUILD_ID"),
		DefinitionID: os.Getenv("PROCESS_DEFINITION_ID"),
		TenantID:     os.Getenv("PROCESS_TENANT_ID"),
	}, nil
}

// Asks the worker by a local activity: its answer becomes part of the history. Workflow code that read the
// environment would get another answer when another worker replays it.
func workerFacts(ctx workflow.Context) (Facts, error) {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 5 * time.Second})
	var facts Facts
	err := workflow.ExecuteLocalActivity(ctx, WorkerFacts).Get(ctx, &facts)
	return facts, err
}

// Quick ends at once and says which worker ran it.
func Quick(ctx workflow.Context) (Facts, error) {
	return workerFacts(ctx)
}

// Waited says which builds ran a workflow.
type Waited struct {
	StartedOn    string `json:"started_on"`
	CompletedOn  string `json:"completed_on"`
	CompletedPod string `json:"completed_pod"`
}

// WaitForSignal stays open until the signal "finish", as a long business process would.
func WaitForSignal(ctx workflow.Context) (Waited, error) {
	first, err := workerFacts(ctx)
	if err != nil {
		return Waited{}, err
	}
	workflow.GetSignalChannel(ctx, "finish").Receive(ctx, nil)
	last, err := workerFacts(ctx)
	return Waited{StartedOn: first.BuildID, CompletedOn: last.BuildID, CompletedPod: last.Pod}, err
}

// Task is what TimersAndActivity has to do.
type Task struct {
	TimerMS    int64 `json:"timer_ms"`
	ActivityMS int64 `json:"activity_ms"`
}

// Done is what TimersAndActivity did.
type Done struct {
	StartedOn string   `json:"started_on"`
	Report    Reported `json:"report"`
}

// TimersAndActivity waits for a timer and then for an activity that takes its time.
func TimersAndActivity(ctx workflow.Context, task Task) (Done, error) {
	first, err := workerFacts(ctx)
	if err != nil {
		return Done{}, err
	}
	if err := workflow.Sleep(ctx, time.Duration(task.TimerMS)*time.Millisecond); err != nil {
		return Done{}, err
	}
	duration := time.Duration(task.ActivityMS) * time.Millisecond
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: duration + time.Minute,
		HeartbeatTimeout:    5 * time.Second,
	})
	done := Done{StartedOn: first.BuildID}
	err = workflow.ExecuteActivity(ctx, Report, duration).Get(ctx, &done.Report)
	return done, err
}

// Reported says where an activity ended.
type Reported struct {
	Pod     string `json:"pod"`
	BuildID string `json:"build_id"`
	Attempt int32  `json:"attempt"`
}

// Report works for a while. Heartbeats carry the time already spent: when this pod is lost, the next attempt
// goes on from there.
func Report(ctx context.Context, total time.Duration) (Reported, error) {
	var spent time.Duration
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &spent); err != nil {
			return Reported{}, err
		}
	}
	for spent < total {
		step := min(time.Second, total-spent)
		select {
		case <-time.After(step):
		case <-ctx.Done(): // Cancelled, or the time after SIGTERM is over.
			return Reported{}, ctx.Err()
		}
		spent += step
		activity.RecordHeartbeat(ctx, spent)
	}
	facts, err := WorkerFacts(ctx)
	return Reported{Pod: facts.Pod, BuildID: facts.BuildID, Attempt: activity.GetInfo(ctx).Attempt}, err
}
