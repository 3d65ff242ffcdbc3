//! What a change of a headless service's endpoints touches (R6.5).

use super::*;
use crate::model::policy::{MtlsMode, PeerAuthentication};
use crate::model::{Endpoint, Resolution, TlsMode, Workload, WorkloadParts};
use crate::xds::watchers::Dirty;

/// A headless service on one port for connections and one for requests, with some pods without sidecars.
fn shard(pods: u8) -> EndpointShard {
    of_pods(&vec![TlsMode::Disabled; pods.into()])
}

/// The same with pods that offer this.
fn of_pods(pods: &[TlsMode]) -> EndpointShard {
    let port = |number, name: &str, protocol| ServicePort {
        number,
        name: name.into(),
        transport: Transport::Tcp,
        protocol,
    };
    let ports = vec![port(5432, "tcp", PortProtocol::Tcp), port(80, "http", PortProtocol::Http)];
    let service = Service { ports, resolution: Resolution::Passthrough, ..record("db") };
    let endpoint = |(pod, tls_mode): (u8, &TlsMode)| {
        let parts = WorkloadParts {
            cluster: "east".into(),
            namespace: "sample".into(),
            tls_mode: *tls_mode,
            ..WorkloadParts::default()
        };
        let workload = Arc::new(Workload::from(parts));
        ["tcp", "http"].map(|name| Endpoint::new([10, 0, 0, pod].into(), 1024, name, Arc::clone(&workload)))
    };
    EndpointShard::new("east".into(), Some(Arc::new(service)), (1..).zip(pods).flat_map(endpoint).collect())
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
            assert_eq!(built, u64::from(differs), "nothing else is built");
        }
        mesh.outbounds.leave(&sidecar, &of_sidecar);
        mesh.outbounds.leave(&gateway, &of_router);
    }
}

#[test]
fn mtls_of_a_headless_service_touches_clusters_only_as_it_comes_and_goes() {
    use TlsMode::{Disabled, Istio};
    let mut mesh = Mesh::new(&["a"]);
    mesh.east.set(record("db").key, of_pods(&[Istio]));
    mesh.push();
    let (stream, _outbound) = mesh.join(1, key("sample"));
    let both = [ResourceType::Cluster, ResourceType::Listener];
    for (pods, expected) in [
        (&[Istio, Istio][..], &both[1..]),
        (&[Istio, Disabled], &both[..]),
        (&[Istio, Disabled, Disabled], &[]),
        (&[], &[]),
        (&[Istio], &both),
    ] {
        mesh.east.set(record("db").key, of_pods(pods));
        let changes = mesh.registry.changes().take();
        let keys: Vec<_> = changes.services.keys().cloned().collect();
        let mut marks = Marks::new(None);
        mesh.outbounds.endpoints_changed(&keys, Instant::now(), &mut marks);
        marks.wake();
        let mut lists: Vec<_> = stream.take().lists.into_iter().collect();
        lists.sort_unstable();
        assert_eq!(lists, expected, "{pods:?}");
    }
    let plain = PeerAuthentication {
        meta: meta("plain"),
        selector: WorkloadSelector::default(),
        mode: Some(MtlsMode::Disable),
        ports: Vec::new(),
    };
    assert_eq!(mesh.write(PolicyObject::PeerAuthentication(Arc::new(plain))), 1, "who asked is built");
    assert!(stream.take().lists.into_iter().any(|list| list == ResourceType::Cluster));
}
