// Command kube-apiserver is the Kubernetes API server, built from its module: what the synthetic API server of
// tombolo is compared with, and what the lab runs on with --api-server real.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/version" // the build_info metric
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
