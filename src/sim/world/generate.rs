//! Generated worlds: any number of services and endpoints, the same each time.

use std::str::FromStr;

use serde_json::{Value, json};

use super::WorldError;

/// Endpoints per EndpointSlice, as the real controller fills them.
const SLICE_SIZE: usize = 100;
/// Generated pods per node, as the kubelet's default limit suggests.
const PODS_PER_NODE: usize = 100;
/// The namespace of generated objects.
pub const GENERATED_NAMESPACE: &str = "bench";

/// The size of a generated world: `services=N,endpoints=M[,seed=S]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generate {
    /// Number of Services.
    pub services: u32,
    /// Number of endpoints over all Services; each is a Pod.
    pub endpoints: u32,
    /// Seed of everything that is not given by the sizes.
    pub seed: u64,
}

impl FromStr for Generate {
    type Err = WorldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why: String| WorldError::Generate { text: text.to_owned(), why };
        let (mut services, mut endpoints, mut seed) = (None, None, 0);
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| refuse(format!("{part:?} is no key=value")))?;
            let number: u64 = value.parse().map_err(|_| refuse(format!("{key}: {value:?} is no number")))?;
            let size = || u32::try_from(number).map_err(|_| refuse(format!("{key}: {number} is too large")));
            match key {
                "services" => services = Some(size()?),
                "endpoints" => endpoints = Some(size()?),
                "seed" => seed = number,
                _ => return Err(refuse(format!("unknown key {key:?}"))),
            }
        }
        let services = services.ok_or_else(|| refuse("services is missing".into()))?;
        let endpoints = endpoints.ok_or_else(|| refuse("endpoints is missing".into()))?;
        if services == 0 {
            return Err(refuse("services must be at least 1".into()));
        }
        if endpoints > 4_000_000 {
            return Err(refuse("endpoints must be at most 4000000".into()));
        }
        Ok(Self { services, endpoints, seed })
    }
}

/// Generates a namespace, nodes, services, pods and endpoint slices, one at a time. The same size and seed
/// give the same values, uids and timestamps included.
pub fn generate(size: Generate) -> impl Iterator<Item = Value> + Send {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GENERATED_NAMESPACE}});
    let (seed, services, endpoints) = (size.seed, size.services as usize, size.endpoints as usize);
    let nodes = (0..endpoints.div_ceil(PODS_PER_NODE).max(1)).map(move |index| node(seed, index));
    let services = (0..services).flat_map(move |index| {
        // The remainder goes to the first services.
        let (share, larger) = (endpoints / services, endpoints % services);
        let first = index * share + index.min(larger);
        let pods: Vec<usize> = (first..first + share + usize::from(index < larger)).collect();
        let slices: Vec<Vec<usize>> = pods.chunks(SLICE_SIZE).map(<[usize]>::to_vec).collect();
        let slices = slices.into_iter().enumerate();
        std::iter::once(service(seed, index))
            .chain(pods.into_iter().map(move |number| pod(seed, index, number)))
            .chain(slices.map(move |(at, chunk)| slice(seed, index, at, &chunk)))
    });
    std::iter::once(namespace).chain(nodes).chain(services)
}

/// A well-spread 64-bit number from a seed and an index (splitmix64).
pub(in crate::sim) fn mix(seed: u64, salt: u64, index: usize) -> u64 {
    let mut z = seed
        .wrapping_add(salt.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add((index as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn metadata(seed: u64, salt: u64, index: usize, name: &str) -> Value {
    let (a, b) = (mix(seed, salt, index), mix(seed, salt + 100, index));
    let uid = format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        (b >> 48) & 0xfff,
        b & 0xffff_ffff_ffff
    );
    json!({"name": name, "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"})
}

fn namespaced(mut metadata: Value, app: &str) -> Value {
    metadata["namespace"] = json!(GENERATED_NAMESPACE);
    metadata["labels"] = json!({"app": app});
    metadata
}

fn node_name(index: usize) -> String {
    format!("node-{index}")
}

fn zone(seed: u64, node: usize) -> String {
    format!("zone-{}", char::from(b'a' + (mix(seed, 1, node) % 3) as u8))
}

fn node(seed: u64, index: usize) -> Value {
    let name = node_name(index);
    let mut metadata = metadata(seed, 2, index, &name);
    metadata["labels"] = json!({
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": zone(seed, index),
    });
    json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {},
           "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn service_name(index: usize) -> String {
    format!("svc-{index}")
}

/// An address inside 10.0.0.0/8: pods below 10.64/10, services from 10.128/9.
fn address(base: u8, index: usize) -> String {
    let bits = (10 << 24) | (u32::from(base) << 16) | ((index as u32 + 1) & 0x003f_ffff);
    std::net::Ipv4Addr::from_bits(bits).to_string()
}

fn service(seed: u64, index: usize) -> Value {
    let name = service_name(index);
    let ip = address(128, index);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": namespaced(metadata(seed, 3, index, &name), &name),
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    })
}

fn pod_name(service: usize, index: usize) -> String {
    format!("{}-{index}", service_name(service))
}

fn pod(seed: u64, service: usize, index: usize) -> Value {
    let name = pod_name(service, index);
    let app = service_name(service);
    let ip = address(0, index);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": namespaced(metadata(seed, 4, index, &name), &app),
        "spec": {
            "nodeName": node_name(index / PODS_PER_NODE), "serviceAccountName": app,
            "containers": [{"name": "app", "image": "app", "ports": [{"containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "app", "ready": true, "restartCount": 0}],
        },
    })
}

/// Name, application and address of pod `index` of a generated world, if it has so many.
pub fn generated_pod(size: Generate, index: usize) -> Option<(String, String, String)> {
    if index >= size.endpoints as usize {
        return None;
    }
    let (share, larger) =
        (size.endpoints as usize / size.services as usize, size.endpoints as usize % size.services as usize);
    // The first services have one more.
    let service = match index.checked_sub(larger * (share + 1)) {
        None => index / (share + 1),
        Some(rest) => larger + rest / share,
    };
    Some((pod_name(service, index), service_name(service), address(0, index)))
}

fn slice(seed: u64, service: usize, at: usize, pods: &[usize]) -> Value {
    let app = service_name(service);
    let name = format!("{app}-{at}");
    let mut metadata = namespaced(metadata(seed, 5 + at as u64 * 1000, service, &name), &app);
    metadata["labels"]["kubernetes.io/service-name"] = json!(app);
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|index| {
            let node = index / PODS_PER_NODE;
            json!({
                "addresses": [address(0, *index)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": node_name(node), "zone": zone(seed, node),
                "targetRef": {"kind": "Pod", "namespace": GENERATED_NAMESPACE, "name": pod_name(service, *index)},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn generated_worlds_have_the_size_asked_for_and_repeat() {
        let size: Generate = "services=3,endpoints=250,seed=7".parse().unwrap();
        let world: Vec<Value> = generate(size).collect();
        let count = |kind: &str| world.iter().filter(|object| object["kind"] == kind).count();
        assert_eq!((count("Service"), count("Pod"), count("Node")), (3, 250, 3));
        let endpoints: usize = world
            .iter()
            .filter(|object| object["kind"] == "EndpointSlice")
            .filter_map(|slice| slice["endpoints"].as_array())
            .map(Vec::len)
            .sum();
        assert_eq!(endpoints, 250);
        let uids: HashSet<&str> = world.iter().filter_map(|o| o["metadata"]["uid"].as_str()).collect();
        assert_eq!(uids.len(), world.len() - 1);
        assert!(generate(size).eq(world.iter().cloned()));
        assert!(!generate(Generate { seed: 8, ..size }).eq(world));
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        for bad in
            ["", "services=1", "services=0,endpoints=1", "services=x,endpoints=1", "pods=1", "services"]
        {
            assert!(bad.parse::<Generate>().is_err(), "{bad}");
        }
    }
}
