//! What a change of a Gateway costs: the routers that it is about, and of those what it says.

use super::*;
use crate::model::policy::{Gateway, GatewayHostName, GatewayServer, ServerTls, ServerTlsMode, TlsVersion};

/// A server for everything: of requests, or of mesh traffic that is led on.
fn server(port: u16, leads: bool) -> GatewayServer {
    let tls = leads.then(|| ServerTls {
        mode: ServerTlsMode::AutoPassthrough,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        subject_alt_names: Vec::new(),
        client_optional: false,
    });
    GatewayServer {
        port,
        protocol: if leads { PortProtocol::Tls } else { PortProtocol::Http },
        port_name: "p".into(),
        bind: None,
        hosts: vec![GatewayHostName { namespace: None, host: HostPattern::new("*") }],
        tls,
        https_redirect: false,
    }
}

fn gateway(name: &str, label: &str, servers: Vec<GatewayServer>) -> PolicyObject {
    let selector = WorkloadSelector::new([("istio".into(), label.into())].into_iter().collect());
    PolicyObject::Gateway(Arc::new(Gateway { meta: meta(name), selector, servers, problems: Vec::new() }))
}

/// Routers that these Gateways select.
fn router(gateways: &[&str]) -> OutboundKey {
    OutboundKey {
        kind: ProxyKind::Router,
        gateways: gateways.iter().map(|name| PolicyId::new("sample", *name)).collect(),
        ..key("other")
    }
}

fn bound(to: &str) -> PolicyObject {
    let PolicyObject::VirtualService(told) = routes("shop.example", to) else { panic!("routes") };
    let told = VirtualService { gateways: vec!["sample/own".into()], ..(*told).clone() };
    PolicyObject::VirtualService(Arc::new(told))
}

#[test]
fn a_gateway_costs_only_the_worlds_that_it_concerns_and_services_only_where_mesh_traffic_is_led_on() {
    let mesh = Mesh::new(&["a", "b", "c"]);
    mesh.write(gateway("own", "own", vec![server(80, false)]));
    mesh.write(gateway("leads", "leads", vec![server(15443, true)]));
    mesh.write(bound(&host("a")));
    let (of_own, own) = mesh.join(1, router(&["own"]));
    let (of_leading, leading) = mesh.join(2, router(&["leads"]));
    let (of_sidecar, _sidecar) = mesh.join(3, key("sample"));
    let streams = [&of_own, &of_leading, &of_sidecar];
    let looked = || streams.map(|stream| stream.take().view);
    own.watch_route(&"http.80".into(), &of_own);
    assert!(own.route(&"http.80".into()).is_some());
    let counted =
        || [&mesh.counts.list_builds, &mesh.counts.route_builds].map(|count| count.load(Ordering::Relaxed));
    let before = counted();
    looked();

    assert_eq!(mesh.write(gateway("far", "far", vec![server(80, false)])), 0, "nobody is selected");
    assert_eq!(looked(), [true, true, false], "routers look whether it selects them");
    assert_eq!(mesh.write(gateway("far", "far", vec![server(81, true)])), 0);
    assert_eq!(mesh.remove(PolicyKind::Gateway, "far"), 0);
    assert_eq!((looked(), counted()), ([false; 3], before), "no world has anything to do");

    assert_eq!(mesh.write(gateway("own", "own", vec![server(80, false), server(81, false)])), 0);
    assert_eq!(looked(), [true, false, false], "its routers build their own listeners");
    let [lists, routes] = before;
    assert_eq!(counted(), [lists, routes], "no list, and no table that has not changed");
    assert!(own.route(&"http.81".into()).is_some());

    assert_eq!(mesh.write(gateway("leads", "leads", vec![server(15443, true), server(80, false)])), 0);
    assert_eq!(looked(), [false, true, false]);
    let builds = mesh.write(gateway("leads", "leads", vec![server(15444, true)]));
    assert_eq!((builds, looked()), (3, [false, true, false]), "every service is led on there");
    let listeners = leading.listeners();
    assert!(listeners.entries().iter().any(|entry| &*entry.name == "0.0.0.0_15444"));

    assert_eq!(mesh.write(gateway("own", "else", vec![server(80, false)])), 0, "selects others");
    assert_eq!(looked(), [true, true, false]);
    assert_eq!(mesh.remove(PolicyKind::Gateway, "own"), 0);
    assert_eq!(looked(), [true, false, false]);
}
