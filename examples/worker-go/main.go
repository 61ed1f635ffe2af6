// A Temporal worker in Go for a Process. Everything it has to know comes from the environment.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// How long activities may go on after SIGTERM. Has to fit into terminationGracePeriodSeconds.
const stopTimeout = 10 * time.Second

func main() {
	if err := run(); err != nil {
		slog.Error("the worker ends", "error", err)
		os.Exit(1)
	}
}

func run() error {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	queue := os.Getenv("TASK_QUEUE")
	if queue == "" {
		return errors.New("environment variable TASK_QUEUE is not set: it must hold the task queue to poll")
	}
	options, err := workerOptions()
	if err != nil {
		return err
	}

	// TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS_* and TEMPORAL_API_KEY.
	connection, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return err
	}
	connection.Logger = log.NewStructuredLogger(slog.Default())
	temporal, err := client.Dial(connection)
	if err != nil {
		return err
	}
	defer temporal.Close()

	w := worker.New(temporal, queue, options)
	w.RegisterWorkflow(Quick)
	w.RegisterWorkflow(WaitForSignal)
	w.RegisterWorkflow(TimersAndActivity)
	w.RegisterActivity(WorkerFacts)
	w.RegisterActivity(Report)
	// Until SIGTERM. Then it takes no new work and gives activities the time above.
	return w.Run(worker.InterruptCh())
}

func workerOptions() (worker.Options, error) {
	options := worker.Options{WorkerStopTimeout: stopTimeout}

	// Both are set with WorkerVersioning; in the other modes the worker polls without a version.
	name, build := os.Getenv("TEMPORAL_DEPLOYMENT_NAME"), os.Getenv("TEMPORAL_WORKER_BUILD_ID")
	if name != "" && build != "" {
		options.DeploymentOptions = worker.DeploymentOptions{
			UseVersioning:             true,
			Version:                   worker.WorkerDeploymentVersion{DeploymentName: name, BuildID: build},
			DefaultVersioningBehavior: workflow.VersioningBehaviorPinned,
		}
		switch behavior := os.Getenv("VERSIONING_BEHAVIOR"); behavior {
		case "", "Pinned":
		case "AutoUpgrade":
			options.DeploymentOptions.DefaultVersioningBehavior = workflow.VersioningBehaviorAutoUpgrade
		default:
			return options, fmt.Errorf("environment variable VERSIONING_BEHAVIOR is %q: it must be Pinned or AutoUpgrade", behavior)
		}
	}

	if most := os.Getenv("MAX_CONCURRENCY_PER_TENANT"); most != "" {
		number, err := strconv.Atoi(most)
		if err != nil || number < 1 {
			return options, fmt.Errorf("environment variable MAX_CONCURRENCY_PER_TENANT is %q: it must be a number above 0", most)
		}
		options.MaxConcurrentActivityExecutionSize = number
	}
	return options, nil
}
