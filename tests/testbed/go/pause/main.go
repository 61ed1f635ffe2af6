// Pause holds a pod's namespaces open: it waits until it is told to stop.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	// As the first process of a shared namespace it also inherits orphans.
	signal.Ignore(syscall.SIGCHLD)
	<-stop
}
