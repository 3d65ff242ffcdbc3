//! A made-up cluster as an API server tells it, page by page: Deployments with a handful of labels, one Service
//! each, pods on nodes with zones, EndpointSlices of a hundred. Shared by the benchmarks of ingest.

use serde_json::{Value, json};

/// Objects of a page, as most clients ask.
pub const PAGE: usize = 500;
/// Endpoints of one Service.
pub const PODS_PER_SERVICE: usize = 20;
const PODS_PER_NODE: usize = 100;
const PODS_PER_SLICE: usize = 100;
const NAMESPACES: usize = 50;

/// The numbers of one cluster.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Its place in the addresses.
    pub number: u8,
    /// Services.
    pub services: usize,
    /// Pods of each.
    pub pods: usize,
}

impl Shape {
    /// A cluster of about `endpoints` endpoints.
    pub fn of(endpoints: usize) -> Self {
        Self::with(endpoints, PODS_PER_SERVICE)
    }

    /// The same with another size of Services.
    pub fn with(endpoints: usize, pods: usize) -> Self {
        Self { number: 0, services: endpoints.div_ceil(pods), pods }
    }

    pub fn endpoints(self) -> usize {
        self.services * self.pods
    }

    pub fn namespaces(self) -> impl Iterator<Item = Value> {
        let system = json!({"metadata": {"name": "istio-system", "resourceVersion": "1",
            "labels": {"topology.istio.io/network": format!("net-{}", self.number)}}});
        let others = (0..NAMESPACES)
            .map(|n| json!({"metadata": {"name": namespace(n), "resourceVersion": "2", "labels": {}}}));
        std::iter::once(system).chain(others)
    }

    pub fn nodes(self) -> impl Iterator<Item = Value> {
        (0..self.endpoints().div_ceil(PODS_PER_NODE)).map(|n| {
            json!({"metadata": {"name": node(n), "resourceVersion": "3", "labels": {
                "kubernetes.io/hostname": node(n), "topology.kubernetes.io/region": "europe-west1",
                "topology.kubernetes.io/zone": format!("europe-west1-{}", ["a", "b", "c"][n % 3])}}})
        })
    }

    pub fn services(self) -> impl Iterator<Item = Value> {
        (0..self.services).map(move |n| {
            let ip = format!("10.{}.{}.{}", 200 + self.number % 50, n >> 8 & 255, n & 255);
            json!({"metadata": {"name": app(n), "namespace": namespace(n), "uid": uid(n),
                    "resourceVersion": format!("{}", 1000 + n), "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": {"app": app(n), "team": format!("team-{}", n % 40)}},
                "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
                    "selector": {"app": app(n)}, "internalTrafficPolicy": "Cluster",
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}})
        })
    }

    pub fn pods(self) -> impl Iterator<Item = Value> {
        (0..self.endpoints()).map(move |n| {
            let service = n / self.pods;
            let app = app(service);
            let ip = address(self.number, n);
            json!({"metadata": {"name": pod(service, n), "namespace": namespace(service), "uid": uid(n),
                    "generateName": format!("{app}-v1-{}-", template(service)),
                    "resourceVersion": format!("{}", 100_000 + n),
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": {"app": app, "version": "v1", "pod-template-hash": template(service),
                        "security.istio.io/tlsMode": "istio", "service.istio.io/canonical-name": app,
                        "service.istio.io/canonical-revision": "v1"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                        "name": format!("{app}-v1-{}", template(service)), "uid": uid(service)}]},
                "spec": {"nodeName": node(n / PODS_PER_NODE), "serviceAccountName": app,
                    "containers": [{"name": "app", "image": "registry.example/app:v1",
                        "ports": [{"containerPort": 8080}]}]},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": "True"}]}})
        })
    }

    pub fn slices(self) -> impl Iterator<Item = Value> {
        (0..self.services).flat_map(move |service| {
            let pods: Vec<usize> = (service * self.pods..(service + 1) * self.pods).collect();
            let chunks: Vec<Vec<usize>> = pods.chunks(PODS_PER_SLICE).map(<[usize]>::to_vec).collect();
            chunks.into_iter().enumerate().map(move |(at, pods)| {
                let endpoint = |&n: &usize| {
                    json!({"addresses": [address(self.number, n)],
                        "conditions": {"ready": true, "serving": true, "terminating": false},
                        "nodeName": node(n / PODS_PER_NODE), "zone": "europe-west1-a",
                        "targetRef": {"kind": "Pod", "namespace": namespace(service),
                            "name": pod(service, n), "uid": uid(n)}})
                };
                json!({"metadata": {"name": format!("{}-x{at}", app(service)), "uid": uid(service),
                        "namespace": namespace(service), "resourceVersion": format!("{}", 500_000 + service),
                        "labels": {"kubernetes.io/service-name": app(service)}},
                    "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                    "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>()})
            })
        })
    }
}

/// The bodies of a list in pages.
pub fn pages(kind: &str, version: &str, items: impl Iterator<Item = Value>) -> impl Iterator<Item = Vec<u8>> {
    let mut items = items.peekable();
    let (kind, version) = (format!("{kind}List"), version.to_owned());
    std::iter::from_fn(move || {
        items.peek()?;
        let page: Vec<Value> = items.by_ref().take(PAGE).collect();
        let list = json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1000000"},
            "items": page});
        Some(list.to_string().into_bytes())
    })
}

fn namespace(n: usize) -> String {
    format!("namespace-{}", n % NAMESPACES)
}

fn app(service: usize) -> String {
    format!("service-{service}")
}

fn node(n: usize) -> String {
    format!("gke-main-pool-{n:04}-node")
}

fn template(service: usize) -> String {
    format!("{:08x}", (service as u32).wrapping_mul(0x9e37_79b9))
}

fn pod(service: usize, n: usize) -> String {
    format!("{}-v1-{}-{:05x}", app(service), template(service), n & 0xf_ffff)
}

fn address(cluster: u8, n: usize) -> String {
    format!("10.{}.{}.{}", (usize::from(cluster) * 8 + (n >> 16)) & 127, n >> 8 & 255, n & 255)
}

fn uid(n: usize) -> String {
    format!("{n:08x}-1111-4222-8333-{:012x}", n * 7)
}
