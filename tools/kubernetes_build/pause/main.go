// The process that holds a pod's namespaces open in the tests' Kubernetes; it ends on SIGTERM.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	// As the first process of a pod that shares its process numbers, it reaps the orphans.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGCHLD)
	<-ends
}
