// Command etcd is the etcd server, built from its module: the storage of the real Kubernetes API server in tests
// and in the lab.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
