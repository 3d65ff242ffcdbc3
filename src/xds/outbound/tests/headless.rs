//! What a change of a headless service's endpoints touches (R6.5).

use super::*;
use crate::model::{Endpoint, Resolution, Workload, WorkloadParts};
use crate::xds::watchers::Dirty;

/// A headless service on one port for connections and one for requests, with some pods.
fn shard(pods: u8) -> EndpointShard {
    let port = |number, name: &str, protocol| ServicePort {
        number,
        name: name.into(),
        transport: Transport::Tcp,
        protocol,
    };
    let ports = vec![port(5432, "tcp", PortProtocol::Tcp), port(80, "http", PortProtocol::Http)];
    let service = Service { ports, resolution: Resolution::Passthrough, ..record("db") };
    let workload =
        Arc::new(Workload::from(WorkloadParts { cluster: "east".into(), ..WorkloadParts::default() }));
    let endpoint = |pod| {
        ["tcp", "http"].map(|name| Endpoint::new([10, 0, 0, pod].into(), 1024, name, Arc::clone(&workload)))
    };
    EndpointShard::new("east".into(), Some(Arc::new(service)), (1..=pods).flat_map(endpoint).collect())
}

#[test]
fn r6_5_endpoints_of_a_headless_service_touch_listeners_of_sidecars_alone() {
    let mut mesh = Mesh::new(&["a"]);
    mesh.east.set(record("db").key, shard(1));
    let closed = MeshConfig { outbound_policy: OutboundPolicy::RegistryOnly, ..MeshConfig::default() };
    for (config, names_pods) in [(closed, true), (MeshConfig::default(), false)] {
        mesh.registry.write_mesh_config(config);
        mesh.push();
        let router = OutboundKey { kind: ProxyKind::Router, ..key("other") };
        let (of_sidecar, sidecar) = mesh.join(1, key("sample"));
        let (of_router, gateway) = mesh.join(2, router);
        for (stream, outbound) in [(&of_sidecar, &sidecar), (&of_router, &gateway)] {
            outbound.watch_route(&"80".into(), stream);
        }
        for (pods, differs) in [(2, true), (2, false), (1, true)] {
            mesh.east.set(record("db").key, shard(pods));
            let changes = mesh.registry.changes().take();
            let keys: Vec<_> = changes.services.iter().filter(|(_, change)| !change.record).collect();
            assert_eq!((keys.len(), changes.services.len()), (usize::from(differs), usize::from(differs)));
            let keys: Vec<_> = keys.into_iter().map(|(key, _)| key.clone()).collect();
            let builds = mesh.counts.service_builds.load(Ordering::Relaxed);
            let mut marks = Marks::new(None);
            mesh.outbounds.endpoints_changed(&keys, Instant::now(), &mut marks);
            assert_eq!(marks.wake(), usize::from(differs && names_pods));
            let lists: Vec<_> = of_sidecar.take().lists.into_iter().collect();
            let expected: &[_] = if differs && names_pods { &[ResourceType::Listener] } else { &[] };
            assert_eq!(lists, expected);
            assert_eq!(of_router.take(), Dirty::default());
            let built = mesh.counts.service_builds.load(Ordering::Relaxed) - builds;
            assert_eq!(built, u64::from(differs && names_pods), "nothing else is built");
        }
        mesh.outbounds.leave(&sidecar, &of_sidecar);
        mesh.outbounds.leave(&gateway, &of_router);
    }
}
