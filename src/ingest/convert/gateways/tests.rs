//! Rules R3.1–R3.12 and their quirks, on whole objects.

use serde_json::{Value, json};

use crate::ingest::convert::{
    Advertised, ClusterContext, GatewayOptions, Gateways, SpecialAddresses, TrustedNetworks, test_context,
};
use crate::ingest::networks::{HostNames, gateways_of};
use crate::model::{Quirk, Quirks};

/// A cluster `c1` whose system namespace has the label `n1`.
struct World {
    context: ClusterContext,
    objects: Vec<Value>,
    mesh: Value,
}

impl World {
    fn new() -> Self {
        let namespace = json!({"kind": "Namespace", "metadata": {"name": "istio-system",
            "labels": {"topology.istio.io/network": "n1"}}});
        Self { context: test_context(), objects: vec![namespace], mesh: Value::Null }
    }

    fn with(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    fn options(mut self, options: GatewayOptions) -> Self {
        self.context.gateways = options;
        self
    }

    fn quirks(mut self, rows: &[Quirk]) -> Self {
        self.context.quirks = Quirks::of(rows.iter().copied());
        self
    }

    fn mesh(mut self, mesh: Value) -> Self {
        self.mesh = mesh;
        self
    }

    fn result(&self) -> Gateways {
        gateways_of(self.context.clone(), "istio-system", &self.objects, &self.mesh, HostNames::Allowed)
            .unwrap()
    }

    /// `network address:port hbone`, in order, host names last.
    fn sees(&self) -> Vec<String> {
        let result = self.result();
        let gateways =
            result.gateways.iter().map(|g| (&g.network, g.address.to_string(), g.port, g.hbone_port));
        let hosts = result.hosts.iter().map(|g| (&g.network, g.host.to_string(), g.port, g.hbone_port));
        gateways
            .chain(hosts)
            .map(|(network, at, port, hbone)| format!("{network} {at}:{port} {hbone}"))
            .collect()
    }

    fn notes(&self) -> Vec<String> {
        self.result().notes
    }
}

fn service(labels: Value, annotations: Value, spec: Value, ingress: Value) -> Value {
    json!({"kind": "Service", "metadata": {"name": "gw", "namespace": "istio-system", "labels": labels,
        "annotations": annotations}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}})
}

fn labelled(spec: Value, ingress: Value) -> Value {
    service(json!({"topology.istio.io/network": "n1"}), json!({}), spec, ingress)
}

fn balancer(ports: Value) -> Value {
    json!({"type": "LoadBalancer", "ports": ports})
}

fn node(name: &str, external: Option<&str>, labels: Value) -> Value {
    let addresses = external.map(|ip| json!({"type": "ExternalIP", "address": ip}));
    let internal = json!({"type": "InternalIP", "address": "10.0.0.1"});
    let addresses: Vec<_> = std::iter::once(internal).chain(addresses).collect();
    json!({"kind": "Node", "metadata": {"name": name, "labels": labels}, "status": {"addresses": addresses}})
}

fn node_port(selector: Value, extra: Value) -> Value {
    let mut spec = json!({"type": "NodePort", "ports": [{"port": 15443, "nodePort": 31443}, {"port": 15008, "nodePort": 31008}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let annotations = json!({"traffic.istio.io/nodeSelector": selector});
    service(json!({"topology.istio.io/network": "n1"}), annotations, spec, json!([]))
}

fn gateway(labels: Value, spec: Value) -> Value {
    json!({"kind": "Gateway", "metadata": {"name": "eastwest", "namespace": "istio-system", "labels": labels},
        "spec": spec})
}

fn passthrough(port: u16) -> Value {
    json!({"port": port, "protocol": "TLS", "tls": {"mode": "Passthrough",
        "options": {"gateway.istio.io/listener-protocol": "auto-passthrough"}}})
}

#[test]
fn r3_1_only_a_service_with_a_network_is_a_gateway() {
    let spec = || balancer(json!([{"port": 15443}]));
    let ingress = || json!([{"ip": "2.3.4.6"}]);
    let labels = |network: &str| json!({"topology.istio.io/network": network});
    assert!(World::new().with(service(json!({}), json!({}), spec(), ingress())).sees().is_empty());
    assert!(World::new().with(service(labels(""), json!({}), spec(), ingress())).sees().is_empty());
    let world = World::new().with(service(labels("n1"), json!({}), spec(), ingress()));
    assert_eq!(world.sees(), ["n1 2.3.4.6:15443 0"]);
    assert_eq!(&*world.result().gateways[0].cluster, "c1");
}

#[test]
fn r3_1b_r3_3_a_service_named_by_the_document_is_a_gateway_unless_labelled() {
    let mesh = json!({"networks": {
        "a": {"endpoints": [{"fromRegistry": "c1"}],
              "gateways": [{"registryServiceName": "gw.istio-system.svc.cluster.local", "port": 443}]},
        "b": {"endpoints": [{"fromRegistry": "c1"}],
              "gateways": [{"registryServiceName": "gw.istio-system.svc.cluster.local", "port": 444}]},
        "elsewhere": {"endpoints": [{"fromRegistry": "c2"}],
              "gateways": [{"registryServiceName": "gw.istio-system.svc.cluster.local", "port": 445}]},
    }});
    let spec = || balancer(json!([{"port": 15443}]));
    let plain = service(json!({}), json!({}), spec(), json!([{"ip": "2.3.4.6"}]));
    let world = World::new().with(plain).mesh(mesh.clone());
    assert_eq!(world.sees(), ["a 2.3.4.6:443 0", "b 2.3.4.6:444 0"], "the port is not checked, Q3: both");
    let labelled = |ports: Value| labelled(balancer(ports), json!([{"ip": "2.3.4.6"}]));
    let world = World::new().with(labelled(json!([{"port": 15443}]))).mesh(mesh.clone());
    assert_eq!(world.sees(), ["n1 2.3.4.6:15443 0"]);
    let world = World::new().with(labelled(json!([{"port": 80}]))).mesh(mesh);
    assert!(world.sees().is_empty(), "the label excludes the name even when it yields nothing");
}

#[test]
fn r3_2_ports_count_only_when_exposed() {
    let ports = |label: Option<&str>, ports: &[u16]| {
        let mut labels = json!({"topology.istio.io/network": "n1"});
        if let Some(label) = label {
            labels["networking.istio.io/gatewayPort"] = json!(label);
        }
        let ports: Vec<_> = ports.iter().map(|port| json!({"port": port, "name": "any"})).collect();
        let object = service(labels, json!({}), balancer(json!(ports)), json!([{"ip": "2.3.4.6"}]));
        let result = World::new().with(object).result();
        (result.gateways.first().map(|g| (g.port, g.hbone_port)), result.notes.len())
    };
    assert_eq!(ports(None, &[15443, 15008]), (Some((15443, 15008)), 0));
    assert_eq!(ports(None, &[15008]), (Some((0, 15008)), 0));
    assert_eq!(ports(None, &[443]), (None, 0));
    assert_eq!(ports(Some("443"), &[443, 15443]), (Some((443, 0)), 0));
    assert_eq!(ports(Some("443"), &[15443]), (None, 0));
    for wrong in ["many", "0", "70000"] {
        assert_eq!(ports(Some(wrong), &[15443]), (Some((15443, 0)), 1), "{wrong}");
    }
}

#[test]
fn r3_4_r3_6_addresses_times_ports() {
    let mut spec = balancer(json!([{"port": 15443}]));
    spec["externalIPs"] = json!(["9.9.9.9", "2.3.4.6"]);
    let ingress =
        json!([{"ip": "2.3.4.6"}, {"hostname": "GW.example.com"}, {"ip": "2.3.4.5"}, {"hostname": "a b"}]);
    let world = World::new().with(labelled(spec, ingress));
    assert_eq!(
        world.sees(),
        ["n1 2.3.4.5:15443 0", "n1 2.3.4.6:15443 0", "n1 9.9.9.9:15443 0", "n1 gw.example.com:15443 0"]
    );
    assert!(world.notes().len() == 1 && world.notes()[0].contains("`a b`"), "{:?}", world.notes());
    let external = json!({"ports": [{"port": 15443}], "externalIPs": ["9.9.9.9"]});
    let world = World::new().with(labelled(external, json!([{"ip": "2.3.4.6"}])));
    assert_eq!(world.sees(), ["n1 9.9.9.9:15443 0"], "ingress needs type LoadBalancer");
    for kind in ["ClusterIP", "NodePort"] {
        let plain = labelled(json!({"type": kind, "ports": [{"port": 15443}]}), json!([]));
        let world = World::new().with(plain).with(node("a", Some("5.5.5.5"), json!({})));
        assert!(world.sees().is_empty(), "{kind}");
    }
}

#[test]
fn r3_4_r3_5_node_ports_of_selected_nodes_with_an_external_ip() {
    let nodes = |world: World| {
        world
            .with(node("a", Some("5.5.5.1"), json!({"pool": "gw", "zone": "1"})))
            .with(node("b", Some("5.5.5.2"), json!({"pool": "other"})))
            .with(node("c", None, json!({"pool": "gw"})))
    };
    let sees = |selector: &str| nodes(World::new().with(node_port(json!(selector), json!({})))).sees();
    assert_eq!(sees("{\"pool\": \"gw\"}"), ["n1 5.5.5.1:31443 31008"]);
    assert_eq!(sees("{}"), ["n1 5.5.5.1:31443 31008", "n1 5.5.5.2:31443 31008"]);
    let world = nodes(World::new().with(node_port(json!("nonsense"), json!({}))));
    assert_eq!(world.sees().len(), 2, "unparsable selects every node");
    assert!(world.notes()[0].contains("nodeSelector"), "{:?}", world.notes());
    assert!(sees("{\"pool\": \"none\"}").is_empty());
}

#[test]
fn q04_the_hbone_port_is_translated_too_and_q05_external_ips_keep_service_ports() {
    let on_nodes =
        || World::new().with(node_port(json!("{}"), json!({}))).with(node("a", Some("5.5.5.1"), json!({})));
    assert_eq!(on_nodes().sees(), ["n1 5.5.5.1:31443 31008"]);
    assert_eq!(on_nodes().quirks(&[Quirk::Q4]).sees(), ["n1 5.5.5.1:31443 15008"]);
    let external = || World::new().with(node_port(json!("{}"), json!({"externalIPs": ["9.9.9.9"]})));
    assert_eq!(external().sees(), ["n1 9.9.9.9:15443 15008"]);
    assert_eq!(external().quirks(&[Quirk::Q5]).sees(), ["n1 9.9.9.9:31443 31008"]);
    assert_eq!(external().quirks(&[Quirk::Q4, Quirk::Q5]).sees(), ["n1 9.9.9.9:31443 15008"]);
}

#[test]
fn a_service_without_node_ports_yet_is_no_gateway() {
    let spec = json!({"ports": [{"port": 15443}]});
    let world = World::new().with(node_port(json!("{}"), spec)).with(node("a", Some("5.5.5.1"), json!({})));
    assert!(world.sees().is_empty());
}

#[test]
fn local_traffic_policy_needs_a_ready_pod_on_the_node() {
    let slice = |ready: [bool; 2]| {
        let endpoint = |name: &str, ready: bool| {
            json!({"addresses": ["10.0.0.9"], "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": name, "namespace": "istio-system"}})
        };
        json!({"kind": "EndpointSlice", "metadata": {"name": "gw-1", "namespace": "istio-system",
            "labels": {"kubernetes.io/service-name": "gw"}}, "addressType": "IPv4",
            "endpoints": [endpoint("p1", ready[0]), endpoint("p2", ready[1])], "ports": [{"port": 15443}]})
    };
    let pod = |name: &str, on: &str| {
        json!({"kind": "Pod", "metadata": {"name": name, "namespace": "istio-system"}, "spec": {"nodeName": on},
            "status": {"phase": "Running", "podIP": "10.0.0.9"}})
    };
    let world = |ready| {
        World::new()
            .with(node_port(json!("{}"), json!({"externalTrafficPolicy": "Local"})))
            .with(node("a", Some("5.5.5.1"), json!({})))
            .with(node("b", Some("5.5.5.2"), json!({})))
            .with(node("c", Some("5.5.5.3"), json!({})))
            .with(slice(ready))
            .with(pod("p1", "a"))
            .with(pod("p2", "b"))
    };
    assert_eq!(world([true, true]).sees(), ["n1 5.5.5.1:31443 31008", "n1 5.5.5.2:31443 31008"]);
    assert_eq!(world([true, false]).sees(), ["n1 5.5.5.1:31443 31008"]);
    assert!(world([false, false]).sees().is_empty());
}

#[test]
fn d10_a_cluster_speaks_for_its_own_networks_and_trusted_ones() {
    let world = || {
        let labels = json!({"topology.istio.io/network": "n2"});
        World::new().with(service(
            labels,
            json!({}),
            balancer(json!([{"port": 15443}])),
            json!([{"ip": "2.3.4.6"}]),
        ))
    };
    assert!(world().sees().is_empty());
    let notes = world().notes();
    assert!(notes[0].contains("`n2`") && notes[0].contains("`n1`"), "{notes:?}");
    let trusted = TrustedNetworks::Only(["n2".into()].into());
    let options = |trusted| GatewayOptions { trusted, ..GatewayOptions::default() };
    assert_eq!(world().options(options(trusted)).sees(), ["n2 2.3.4.6:15443 0"]);
    assert_eq!(world().options(options(TrustedNetworks::Any)).sees(), ["n2 2.3.4.6:15443 0"]);
    let claimed = json!({"networks": {"n2": {"endpoints": [{"fromRegistry": "c1"}]}}});
    assert_eq!(world().mesh(claimed).sees(), ["n2 2.3.4.6:15443 0"], "a claimed cluster belongs too");
}

#[test]
fn k40_a_gateway_never_has_a_special_address() {
    let ingress = || json!([{"ip": "169.254.169.254"}, {"ip": "127.0.0.1"}]);
    let mut world = World::new().with(labelled(balancer(json!([{"port": 15443}])), ingress()));
    assert_eq!((world.sees().len(), world.notes().len()), (0, 2));
    world.context.special_addresses = SpecialAddresses::Keep;
    assert_eq!(world.sees().len(), 2);
    let annotated = |address: &str| {
        let annotations = json!({"tombolo.dev/gateway-address": address});
        let labels = json!({"topology.istio.io/network": "n1"});
        service(labels, annotations, balancer(json!([{"port": 15443}])), json!([{"ip": "2.3.4.6"}]))
    };
    let world = World::new().with(annotated("127.0.0.1"));
    assert_eq!(world.sees(), ["n1 2.3.4.6:15443 0"], "what is found serves where the advertised one cannot");
    assert!(world.notes()[0].contains("127.0.0.1"));
}

#[test]
fn an_advertised_address_replaces_or_joins_what_is_found() {
    let world = |text: &str| {
        let labels = json!({"topology.istio.io/network": "n1"});
        let annotations = json!({"tombolo.dev/gateway-address": text});
        let ports = json!([{"port": 15443}, {"port": 15008}]);
        World::new().with(service(labels, annotations, balancer(ports), json!([{"ip": "2.3.4.6"}])))
    };
    assert_eq!(world("203.0.113.7").sees(), ["n1 203.0.113.7:15443 15008"]);
    assert_eq!(world("203.0.113.7:443").sees(), ["n1 203.0.113.7:443 15008"]);
    assert_eq!(
        world("+gw.example.com:443").sees(),
        ["n1 2.3.4.6:15443 15008", "n1 gw.example.com:443 15008"]
    );
    assert_eq!(world("?").sees(), ["n1 2.3.4.6:15443 15008"], "a bad value changes nothing");
    assert!(
        world("?").notes()[0].contains("Service istio-system/gw: annotation tombolo.dev/gateway-address")
    );

    let advertised = Advertised::parse("198.51.100.1").0;
    let options = || GatewayOptions { advertised: advertised.clone(), ..GatewayOptions::default() };
    assert_eq!(
        world("203.0.113.7").options(options()).sees(),
        ["n1 203.0.113.7:15443 15008"],
        "the object wins"
    );
    let nothing_found = labelled(json!({"ports": [{"port": 15443}]}), json!([]));
    assert_eq!(World::new().with(nothing_found).options(options()).sees(), ["n1 198.51.100.1:15443 0"]);
    let api = gateway(
        json!({"topology.istio.io/network": "n1"}),
        json!({"addresses": [{"value": "1.2.3.4"}], "listeners": [passthrough(15443)]}),
    );
    assert_eq!(World::new().with(api).options(options()).sees(), ["n1 198.51.100.1:15443 0"]);
}

#[test]
fn r3_9_listeners_and_addresses_that_count() {
    let network = |extra: Value| {
        let mut labels = json!({"topology.istio.io/network": "n1"});
        labels.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        labels
    };
    let spec = |listeners: Value| {
        json!({"gatewayClassName": "istio", "listeners": listeners, "addresses": [
            {"type": "IPAddress", "value": "1.2.3.4"}, {"value": "1.2.3.5"},
            {"type": "Hostname", "value": "gw.example.com"}, {"type": "NamedAddress", "value": "pool"}]})
    };
    let sees = |labels: Value, listeners: Value| World::new().with(gateway(labels, spec(listeners))).sees();
    let at =
        |ports: &str| ["1.2.3.4", "1.2.3.5", "gw.example.com"].map(|address| format!("n1 {address}:{ports}"));
    assert_eq!(sees(network(json!({})), json!([passthrough(35443)])), at("35443 0"));
    let plain_tls = |port: u16| json!({"port": port, "protocol": "TLS", "tls": {"mode": "Passthrough"}});
    assert_eq!(sees(network(json!({})), json!([plain_tls(15443)])), at("15443 0"));
    assert!(sees(network(json!({})), json!([plain_tls(8443)])).is_empty());
    let label = || network(json!({"networking.istio.io/gatewayPort": "8443"}));
    assert_eq!(sees(label(), json!([plain_tls(8443), plain_tls(15443)])), at("8443 0"));
    assert!(sees(network(json!({})), json!([{"port": 15443, "protocol": "TLS"}])).is_empty(), "needs tls");
    assert_eq!(sees(network(json!({})), json!([{"port": 15009, "protocol": "HBONE"}])), at("15009 15009"));
    assert!(sees(json!({}), json!([passthrough(15443)])).is_empty());
}

#[test]
fn r3_10_a_pointer_counts_in_the_config_cluster_for_any_network() {
    let labels = json!({"topology.istio.io/network": "far"});
    let spec = |class: &str| json!({"gatewayClassName": class, "addresses": [{"value": "1.2.3.4"}], "listeners": [passthrough(15443)]});
    let world = |class: &str, config_cluster| {
        let options = GatewayOptions { config_cluster, ..GatewayOptions::default() };
        World::new().with(gateway(labels.clone(), spec(class))).options(options)
    };
    assert_eq!(world("istio-remote", true).sees(), ["far 1.2.3.4:15443 0"]);
    assert!(world("istio-remote", false).sees().is_empty());
    assert!(world("istio-remote", false).notes()[0].contains("config cluster"));
    assert!(world("istio", true).sees().is_empty(), "D10 holds for real gateways of the config cluster too");
}

#[test]
fn q07_the_same_gateway_told_twice_is_one() {
    let world = World::new()
        .with(labelled(
            balancer(json!([{"port": 15443}])),
            json!([{"ip": "1.2.3.4"}, {"hostname": "x.example"}]),
        ))
        .with(gateway(
            json!({"topology.istio.io/network": "n1"}),
            json!({"listeners": [passthrough(15443)],
                "addresses": [{"value": "1.2.3.4"}, {"type": "Hostname", "value": "x.example"}]}),
        ));
    assert_eq!(world.sees(), ["n1 1.2.3.4:15443 0", "n1 x.example:15443 0"]);
}

#[test]
fn r3_13_static_gateways_belong_to_no_cluster() {
    let world = World::new().mesh(json!({"networks": {"n9": {"gateways": [
        {"address": "7.7.7.7", "port": 443}, {"address": "static.example.com", "port": 15443}]}}}));
    assert_eq!(world.sees(), ["n9 7.7.7.7:443 0", "n9 static.example.com:15443 0"]);
    assert!(world.result().gateways[0].cluster.is_empty() && world.result().hosts[0].cluster.is_empty());
}
