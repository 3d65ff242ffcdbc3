use serde_json::{Value, json};

use super::super::test_context;
use super::*;
use crate::ingest::objects::{Labels, ServiceObject};
use crate::model::{ExportTo, InlineEndpoint, PortProtocol, TlsMode, Workload};

fn key() -> ObjectKey {
    ObjectKey::new("a", "e")
}

fn object(spec: Value) -> ServiceEntryObject {
    read(json!({"metadata": {"name": "e", "namespace": "a"}, "spec": spec})).unwrap()
}

fn read(object: Value) -> Result<ServiceEntryObject, String> {
    serde_json::from_value(object).map_err(|error| error.to_string())
}

fn in_network() -> ClusterNetwork {
    ClusterNetwork::new("n-sys".into(), Arc::default())
}

fn share_of(object: &ServiceEntryObject, host: &str, selected: &[Member], is_home: bool) -> EntryShare {
    let (context, of_cluster, key) = (test_context(), in_network(), key());
    entry_share(
        EntryInput {
            context: &context,
            of_cluster: &of_cluster,
            namespace: None,
            key: &key,
            object,
            selected,
            is_home,
        },
        host,
    )
}

fn share(spec: Value) -> EntryShare {
    share_of(&object(spec), "x.example", &[], true)
}

fn member(name: &str, spec: Value) -> Result<Member, String> {
    let object: WorkloadEntryObject =
        serde_json::from_value(json!({"metadata": {"namespace": "a"}, "spec": spec}))
            .map_err(|e| e.to_string())?;
    Member::of_entry(&test_context(), &in_network(), &ObjectKey::new("a", name), object.into())
}

fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    let show = |e: &Endpoint| {
        let address = e.addresses.first().map_or("-".to_owned(), ToString::to_string);
        format!("{address}:{} {} w{}", e.port, e.port_name, e.weight())
    };
    endpoints.iter().map(show).collect()
}

fn inline(share: &EntryShare) -> Vec<String> {
    let show = |e: &InlineEndpoint| {
        let address = match &e.address {
            InlineAddress::Ip(ip) => ip.to_string(),
            InlineAddress::Host(host) => host.to_string(),
            InlineAddress::Unix(path) => format!("unix {path}"),
            InlineAddress::Absent => "-".to_owned(),
        };
        format!("{address}:{} {}", e.port, e.port_name)
    };
    share.service.inline().iter().map(show).collect()
}

fn http() -> Value {
    json!([{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}])
}

#[test]
fn r5_33_a_record_for_each_host_with_every_address() {
    let object = object(
        json!({"hosts": ["x.example", "*.y.example"], "resolution": "STATIC", "location": "MESH_INTERNAL",
        "addresses": ["10.1.0.1", "10.2.0.1/32", "fd00::1/128", "10.3.7.7/16", "0.0.0.0", "nonsense"],
        "ports": http(), "exportTo": [".", "b"],
        "subjectAltNames": ["spiffe://td/ns/b/sa/c", "x.example"]}),
    );
    for host in ["x.example", "*.y.example"] {
        let share = share_of(&object, host, &[], true);
        let service = &share.service;
        assert_eq!(service.key, ServiceKey::new("a", host));
        let vips: Vec<_> = service.own_vips(&"other".into()).iter().map(ToString::to_string).collect();
        assert_eq!(vips, ["10.1.0.1", "10.2.0.1", "fd00::1"], "they hold in every cluster");
        let facts = service.entry.as_ref().unwrap();
        let blocks: Vec<_> = facts.blocks.iter().map(ToString::to_string).collect();
        assert_eq!(blocks, ["10.3.0.0/16"]);
        assert_eq!(facts.alt_names.iter().map(|name| &**name).collect::<Vec<_>>(), ["x.example"]);
        let accounts: Vec<_> = service.accounts.iter().map(ToString::to_string).collect();
        assert_eq!(accounts, ["spiffe://td/ns/b/sa/c"]);
        assert_eq!(service.export_to, ExportTo::Namespaces(["a".into(), "b".into()].into()));
        assert!(!service.is_mesh_external());
        assert_eq!(share.skipped, ["`nonsense` is neither an address nor a block of addresses"]);
    }
}

#[test]
fn r5_33_resolutions_locations_and_protocols() {
    let resolution =
        |text: &str| share(json!({"hosts": ["x.example"], "resolution": text})).service.resolution;
    assert_eq!(resolution(""), Resolution::Passthrough);
    assert_eq!(resolution("NONE"), Resolution::Passthrough);
    assert_eq!(resolution("STATIC"), Resolution::ClientSide);
    assert_eq!(resolution("DNS"), Resolution::Dns);
    assert_eq!(resolution("DNS_ROUND_ROBIN"), Resolution::DnsRoundRobin);
    let external = |location: Value| {
        share(json!({"hosts": ["x.example"], "location": location})).service.is_mesh_external()
    };
    assert!(external(json!(null)) && external(json!("MESH_EXTERNAL")) && !external(json!("MESH_INTERNAL")));
    use PortProtocol as P;
    for (text, transport, expected) in [
        ("HTTP", Transport::Tcp, P::Http),
        ("GRPC-WEB", Transport::Tcp, P::GrpcWeb),
        ("TLS", Transport::Tcp, P::Tls),
        ("https", Transport::Tcp, P::Https),
        ("MONGO", Transport::Tcp, P::Tcp),
        ("UDP", Transport::Udp, P::Udp),
        ("", Transport::Tcp, P::Auto),
    ] {
        let spec =
            json!({"hosts": ["x.example"], "ports": [{"number": 9000, "name": "http", "protocol": text}]});
        let port = share(spec).service.ports[0].clone();
        assert_eq!((port.transport, port.protocol), (transport, expected), "{text}");
    }
}

#[test]
fn r5_33_allocated_addresses_count_where_none_are_given() {
    let spec = |addresses: Value| {
        json!({"metadata": {"name": "e", "namespace": "a"},
        "spec": {"hosts": ["x.example", "y.example"], "addresses": addresses},
        "status": {"addresses": [{"value": "240.240.0.1", "host": "x.example"}, {"value": "2001:2::1", "host": "x.example"},
            {"value": "240.240.0.2", "host": "y.example"}, {"value": "240.240.0.9"}]}})
    };
    let vips = |addresses: Value| -> Vec<String> {
        let share = share_of(&read(spec(addresses)).unwrap(), "x.example", &[], true);
        share.service.own_vips(&"c1".into()).iter().map(ToString::to_string).collect()
    };
    assert_eq!(vips(json!([])), ["240.240.0.1", "2001:2::1", "240.240.0.9"]);
    assert_eq!(vips(json!(["10.0.0.1"])), ["10.0.0.1"]);
}

#[test]
fn r5_34_the_port_of_an_endpoint() {
    let share = share(json!({"hosts": ["x.example"], "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "targetPort": 8080}, {"number": 90, "name": "tcp"}, {"number": 53, "name": "dns", "protocol": "UDP"}],
        "endpoints": [{"address": "10.0.0.1", "ports": {"http": 7070}, "weight": 3}, {"address": "10.0.0.2"},
            {"address": "unix:///run/x"}]}));
    assert_eq!(
        shown(&share.endpoints),
        ["10.0.0.1:7070 http w3", "10.0.0.1:90 tcp w3", "10.0.0.2:8080 http w1", "10.0.0.2:90 tcp w1"]
    );
    assert_eq!(inline(&share), ["unix /run/x:0 http", "unix /run/x:0 tcp"]);
}

#[test]
fn r5_35_an_endpoint_of_a_service_entry() {
    let share = share(json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": http(), "endpoints": [
        {"address": "10.0.0.1", "network": "vm", "locality": "r/z/s", "serviceAccount": "sa", "labels": {"app": "x"}},
        {"address": "10.0.0.2", "labels": {"istio-locality": "r.z2", "topology.istio.io/network": "n-label"}},
        {"address": "10.0.0.3", "serviceAccount": "sa", "labels": {"security.istio.io/tlsMode": "disabled"}},
        {"address": "10.0.0.4", "labels": {"security.istio.io/tlsMode": "istio"}}]}));
    let show = |e: &Endpoint| {
        let w = &e.workload;
        let account = w.account.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{} {} {} {account}", w.network, w.locality(), w.tls_mode_text())
    };
    let shown: Vec<_> = share.endpoints.iter().map(show).collect();
    assert_eq!(
        shown,
        [
            "vm r/z/s istio spiffe://cluster.local/ns/a/sa/sa",
            "n-label r/z2 disabled ",
            "n-sys  disabled spiffe://cluster.local/ns/a/sa/sa",
            "n-sys  istio "
        ]
    );
    let first = &share.endpoints[0].workload;
    assert_eq!((first.tls_mode, share.endpoints[2].workload.tls_mode), (TlsMode::Istio, TlsMode::Disabled));
    assert_eq!(first.label("topology.kubernetes.io/region"), Some("r"), "R5.20");
    assert_eq!(first.label("topology.istio.io/network"), Some("vm"));
    assert_eq!((&*first.namespace, &*first.name), ("a", "e-0"));
}

#[test]
fn r4_26_an_endpoint_without_an_address_needs_a_network() {
    let share = share(json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": http(), "endpoints": [
        {"address": "", "network": "n2", "serviceAccount": "sa"}, {"address": ""}, {"address": "127.0.0.1"},
        {"address": "vm.example"}, {"address": "a b"}]}));
    assert_eq!(shown(&share.endpoints), ["-:8080 http w1"]);
    assert_eq!(&*share.endpoints[0].workload.network, "n2");
    assert_eq!(share.skipped.len(), 4, "{:?}", share.skipped);
    assert!(
        share.skipped.iter().any(|reason| reason.contains("resolution is not DNS")),
        "{:?}",
        share.skipped
    );
}

#[test]
fn r5_35_what_dns_resolves_is_inline_whatever_it_is() {
    let share = share(json!({"hosts": ["x.example"], "resolution": "DNS", "ports": http(), "endpoints": [
        {"address": "vm.example", "ports": {"http": 1}, "weight": 2}, {"address": "10.0.0.1", "serviceAccount": "sa"},
        {"address": "unix://@abstract"}, {"network": "n2"}]}));
    assert_eq!(
        inline(&share),
        ["vm.example:1 http", "10.0.0.1:8080 http", "unix @abstract:0 http", "-:8080 http"]
    );
    assert_eq!(share.service.inline()[0].weight(), 2);
    assert!(share.endpoints.is_empty());
    assert_eq!(share.service.accounts.len(), 1, "behind the endpoints");
}

#[test]
fn r5_36_without_endpoints_dns_resolves_the_host_itself() {
    let one = share(json!({"hosts": ["x.example", "y.example"], "resolution": "DNS", "ports": http()}));
    assert_eq!(inline(&one), ["x.example:8080 http"]);
    assert_eq!(one.service.inline()[0].workload.tls_mode_text(), "disabled");
    let selecting = json!({"hosts": ["x.example"], "resolution": "DNS", "ports": http(), "workloadSelector": {"labels": {"app": "x"}}});
    assert_eq!(inline(&share(selecting)), [""; 0]);
    let elsewhere = object(json!({"hosts": ["x.example"], "resolution": "DNS", "ports": http()}));
    assert_eq!(
        inline(&share_of(&elsewhere, "x.example", &[], false)),
        [""; 0],
        "the config cluster tells it"
    );
}

#[test]
fn r5_37_a_selector_takes_the_place_of_the_endpoints() {
    let object = object(json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": http(),
        "workloadSelector": {"labels": {"app": "x"}}, "endpoints": [{"address": "10.0.0.9"}]}));
    let pod = WorkloadParts {
        name: "p".into(),
        addresses: ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()).into_iter().collect(),
        ..WorkloadParts::default()
    };
    let pod: Arc<Workload> = pod.into();
    let selected = [
        Member::of_pod(&pod).unwrap(),
        member("vm", json!({"address": "10.0.0.2", "ports": {"http": 1}})).unwrap(),
    ];
    for is_home in [true, false] {
        let share = share_of(&object, "x.example", &selected, is_home);
        assert_eq!(shown(&share.endpoints), ["10.0.0.1:8080 http w1", "10.0.0.2:1 http w1"]);
        assert!(Arc::ptr_eq(&share.endpoints[0].workload, &pod));
    }
    assert_eq!(Member::of_pod(&Arc::default()), None, "a Pod without an address");
}

#[test]
fn r5_24_selectors_need_labels_on_both_sides() {
    let labels =
        |pairs: &[(&str, &str)]| -> Labels { pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect() };
    let app = labels(&[("app", "x")]);
    assert!(selects(&app, &labels(&[("app", "x"), ("version", "v1")])));
    assert!(!selects(&app, &labels(&[("app", "y")])) && !selects(&app, &labels(&[])));
    assert!(!selects(&labels(&[]), &app) && !selects(&labels(&[]), &labels(&[])));
}

#[test]
fn r5_24_ports_behind_a_kubernetes_service() {
    let service: ServiceObject = serde_json::from_value(json!({"spec": {"ports": [
        {"name": "number", "port": 80, "targetPort": 8080}, {"name": "mapped", "port": 81, "targetPort": 8081},
        {"name": "named", "port": 82, "targetPort": "web"}, {"name": "missing", "port": 83, "targetPort": "nowhere"},
        {"name": "same", "port": 84}, {"name": "udp", "port": 85, "protocol": "UDP"}]}}))
    .unwrap();
    let ports = |spec: Value| {
        let member = member("vm", spec).unwrap();
        shown(&service_member(&test_context(), &service.ports, &member, Discoverability::Always))
    };
    assert_eq!(
        ports(json!({"address": "10.0.0.1", "ports": {"mapped": 1, "web": 2}})),
        ["10.0.0.1:8080 number w1", "10.0.0.1:1 mapped w1", "10.0.0.1:2 named w1", "10.0.0.1:84 same w1"]
    );
    assert_eq!(ports(json!({"network": "n2"})).len(), 3, "an empty address is allowed");
    assert_eq!(ports(json!({"address": "vm.example"})), [""; 0]);
    assert_eq!(ports(json!({"address": "unix:///run/x"})), [""; 0]);
}

#[test]
fn r5_35_labels_of_the_object_count_before_those_of_its_spec() {
    let object: WorkloadEntryObject = serde_json::from_value(json!({"metadata": {"name": "vm", "namespace": "a",
        "labels": {"app": "meta", "x": "y"}}, "spec": {"address": "10.0.0.1", "labels": {"app": "spec", "version": "v1"}}}))
    .unwrap();
    assert_eq!(object.labels, Labels::from([("app", "meta"), ("version", "v1"), ("x", "y")]));
    let vm =
        Member::of_entry(&test_context(), &in_network(), &ObjectKey::new("a", "vm"), object.into()).unwrap();
    assert_eq!(vm.workload.telemetry(), "vm;a;meta;v1;c1");
}

#[test]
fn r5_38_entries_of_one_host_are_one_record_of_the_oldest() {
    let of = |port: u16, address: &str| {
        share(json!({"hosts": ["x.example"], "resolution": "STATIC", "addresses": [address, "10.0.0.0/8"],
            "ports": [{"number": port, "name": format!("p{port}"), "protocol": "HTTP"}],
            "endpoints": [{"address": "10.0.0.1"}]}))
    };
    let all = united([of(90, "240.0.0.1"), of(80, "240.0.0.2"), of(90, "240.0.0.1")]).unwrap();
    let ports: Vec<_> = all.service.ports.iter().map(|port| port.number).collect();
    assert_eq!((ports, all.endpoints.len()), (vec![80, 90], 3));
    assert_eq!(all.service.own_vips(&"c1".into()).len(), 2);
    assert_eq!(all.service.entry.unwrap().blocks.len(), 1);
    assert_eq!(united([]), None);
}

#[test]
fn an_object_that_cannot_be_is_told_by_its_field() {
    let refused = |spec: Value| read(json!({"spec": spec})).unwrap_err();
    for (spec, field) in [
        (json!({}), "spec.hosts is empty"),
        (json!({"hosts": ["x.example", "a b"]}), "spec.hosts[1]"),
        (json!({"hosts": ["*.*.example"]}), "spec.hosts[0]"),
        (json!({"hosts": ["x"], "ports": [{"number": 0}]}), "spec.ports[0].number"),
        (json!({"hosts": ["x"], "ports": [{"number": 65536}]}), "spec.ports[0].number"),
        (json!({"hosts": ["x"], "location": "MARS"}), "spec.location"),
        (json!({"hosts": ["x"], "resolution": "GUESS"}), "spec.resolution"),
        (json!({"hosts": ["*.x"], "resolution": "DNS"}), "wildcard"),
        (
            json!({"hosts": ["x"], "resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a"}, {"address": "b"}]}),
            "spec.endpoints",
        ),
        (json!({"hosts": 7}), "hosts"),
    ] {
        assert!(refused(spec.clone()).contains(field), "{spec}: {}", refused(spec.clone()));
    }
    assert!(read(json!({"spec": {"hosts": ["*"]}})).is_ok());
    assert!(member("vm", json!({})).unwrap_err().contains("neither an address nor a network"));
}

#[test]
fn r4_14_spelled_out_endpoints_are_told_apart_by_where_they_stand() {
    let share = share(json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": http(),
        "endpoints": [{"address": "nowhere to be found"}, {"address": "192.0.2.1"}, {"address": "192.0.2.2", "labels": {"app": "own"}}]}));
    assert_eq!(share.skipped.len(), 1, "{:?}", share.skipped);
    let told: Vec<_> = share.endpoints.iter().map(|endpoint| endpoint.workload.telemetry()).collect();
    assert_eq!(told, ["e-1;a;e-1;;c1", "e-2;a;own;;c1"]);
}

#[test]
fn fields_that_nobody_knows_are_told_wherever_they_stand() {
    let share = share(json!({"hosts": ["x.example"], "adresses": ["1.2.3.4"], "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocl": "TCP"}],
        "endpoints": [{"address": "192.0.2.1"}, {"address": "192.0.2.2", "lables": {}}]}));
    assert_eq!(share.endpoints.len(), 2, "the rest is used");
    let fields: Vec<_> = share.skipped.iter().map(|one| one.split(": ").next().unwrap()).collect();
    assert_eq!(fields, ["spec.adresses", "spec.ports[0].protocl", "spec.endpoints[1].lables"]);
    let entry: WorkloadEntryObject =
        serde_json::from_value(json!({"spec": {"address": "192.0.2.1", "wieght": 2}})).unwrap();
    assert_eq!(entry.remarks(), ["spec.wieght: not known here: it has no effect"]);
}
