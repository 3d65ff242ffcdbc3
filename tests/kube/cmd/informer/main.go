// Command informer holds Services, EndpointSlices and Pods in client-go's shared informers and prints them on
// demand: each line "dump" on standard input is answered by one line of JSON. It ends with its standard input.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// settings are the command line.
type settings struct {
	kubeconfig string
	pageSize   int64
	protobuf   bool
	watchList  bool
}

// answer is what a dump prints.
type answer struct {
	// Synced is whether every informer has had its initial list.
	Synced   bool   `json:"synced"`
	Requests counts `json:"requests"`
	// Versions are how far each watch has come, by events and by bookmarks.
	Versions map[string]string `json:"versions"`
	Objects  map[string][]any  `json:"objects"`
}

func main() {
	var given settings
	flag.StringVar(&given.kubeconfig, "kubeconfig", "", "`file` that says where the API server is")
	flag.Int64Var(&given.pageSize, "page-size", 0, "objects per page of a list; 0 lists as informers do by default")
	flag.BoolVar(&given.protobuf, "protobuf", false, "ask for protobuf instead of JSON")
	flag.BoolVar(&given.watchList, "watch-list", false, "ask for streaming lists")
	flag.Parse()
	if err := run(given); err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}

func run(given settings) error {
	// Read by client-go when the first informer is made.
	if err := os.Setenv("KUBE_FEATURE_WatchListClient", fmt.Sprint(given.watchList)); err != nil {
		return err
	}
	requests := &requestLog{}
	client, err := connect(given, requests)
	if err != nil {
		return err
	}
	held := start(client, given.pageSize)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() != "dump" {
			return fmt.Errorf("%q is no command: dump is", lines.Text())
		}
		if err := json.NewEncoder(os.Stdout).Encode(dump(held, requests)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func connect(given settings, requests *requestLog) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", given.kubeconfig)
	if err != nil {
		return nil, err
	}
	// Nothing else is taken: by default client-go would take both.
	media := "application/json"
	if given.protobuf {
		media = protobuf
	}
	config.ContentConfig = rest.ContentConfig{ContentType: media, AcceptContentTypes: media}
	config.Wrap(requests.around)
	return kubernetes.NewForConfig(config)
}

// start runs an informer for each kind, by the name of its resource.
func start(client kubernetes.Interface, pageSize int64) map[string]cache.SharedIndexInformer {
	paged := informers.WithTweakListOptions(func(options *metav1.ListOptions) {
		// Only watches ask for bookmarks, and only lists of the newest or of any state have pages.
		newest := options.ResourceVersion == "" || options.ResourceVersion == "0"
		if pageSize == 0 || options.AllowWatchBookmarks || !newest {
			return
		}
		options.Limit = pageSize
		// From its cache the API server answers with everything at once: ask for the newest.
		options.ResourceVersion = ""
	})
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, paged)
	held := map[string]cache.SharedIndexInformer{
		"services":       factory.Core().V1().Services().Informer(),
		"pods":           factory.Core().V1().Pods().Informer(),
		"endpointslices": factory.Discovery().V1().EndpointSlices().Informer(),
	}
	factory.Start(context.Background().Done())
	return held
}

func dump(held map[string]cache.SharedIndexInformer, requests *requestLog) answer {
	told := answer{
		Synced:   true,
		Requests: requests.counts(),
		Versions: map[string]string{},
		Objects:  map[string][]any{},
	}
	for resource, informer := range held {
		// Looked at before the store: what is called synced is complete.
		told.Synced = told.Synced && informer.HasSynced()
		told.Versions[resource] = informer.LastSyncResourceVersion()
		told.Objects[resource] = sorted(informer.GetStore().List())
	}
	return told
}

func sorted(objects []any) []any {
	key := func(object any) string {
		meta := object.(metav1.Object)
		return meta.GetNamespace() + "/" + meta.GetName()
	}
	slices.SortFunc(objects, func(a, b any) int { return cmp.Compare(key(a), key(b)) })
	return objects
}
