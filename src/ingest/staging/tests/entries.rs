//! ServiceEntries and WorkloadEntries (R5.24, R5.29, R5.33–R5.38).

use super::*;
use crate::ingest::convert::EntryOptions;
use crate::model::{EndpointShard, InlineAddress, Quirks, Resolution};

fn cluster(name: &str, config: bool) -> Staging {
    let mut context = ClusterContext { cluster: name.into(), ..convert::test_context() };
    context.gateways.config_cluster = config;
    Staging::new(context, "istio-system".into(), Arc::default())
}

fn home() -> Staging {
    cluster("c1", true)
}

fn entry(name: &str, spec: Value) -> Value {
    json!({"kind": "ServiceEntry", "metadata": {"name": name, "namespace": "a"}, "spec": spec})
}

/// An entry of `x.example` that selects `app`.
fn selecting(app: &str) -> Value {
    entry(
        "e",
        json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": [{"number": 80, "name": "http", "targetPort": 8080}],
        "workloadSelector": {"labels": {"app": app}}}),
    )
}

fn vm(name: &str, app: &str, address: &str) -> Value {
    json!({"kind": "WorkloadEntry", "metadata": {"name": name, "namespace": "a"},
        "spec": {"address": address, "labels": {"app": app}, "serviceAccount": "vm"}})
}

fn labelled(name: &str, app: &str, ip: &str) -> Value {
    let mut pod = pod(name, ip, "");
    pod["metadata"]["labels"] = json!({"app": app});
    pod
}

fn selector(name: &str, app: &str) -> Value {
    let mut service = service(name);
    service["spec"]["selector"] = json!({"app": app});
    service
}

fn external() -> ServiceKey {
    ServiceKey::new("a", "x.example")
}

fn of<'a>(state: &'a ClusterState, key: &ServiceKey) -> Option<&'a EndpointShard> {
    state.shards.get(key).map(AsRef::as_ref)
}

fn addresses(staging: &mut Staging, key: &ServiceKey) -> Vec<String> {
    let state = staging.state();
    let endpoints = of(&state, key).map(|shard| shard.endpoints.to_vec()).unwrap_or_default();
    endpoints
        .iter()
        .map(|endpoint| endpoint.addresses.first().map_or("-".into(), ToString::to_string))
        .collect()
}

/// Tells a remote cluster what the config cluster has.
fn feed(remote: &mut Staging, config: &mut Staging) {
    let entries = config.selecting_entries().expect("they differ");
    remote.apply(StagedEvent::SelectingEntries(Some(entries)));
}

#[test]
fn r5_37_an_entry_follows_the_pods_and_workload_entries_it_selects() {
    let mut staging = home();
    staging.apply(apply(&selecting("x")));
    assert_eq!(addresses(&mut staging, &external()), [""; 0]);
    staging.apply(apply(&labelled("p2", "x", "10.1.0.2")));
    staging.apply(apply(&labelled("p1", "x", "10.1.0.1")));
    staging.apply(apply(&labelled("p3", "y", "10.1.0.3")));
    staging.apply(apply(&vm("vm", "x", "10.9.0.1")));
    assert_eq!(addresses(&mut staging, &external()), ["10.1.0.1", "10.1.0.2", "10.9.0.1"]);
    let state = staging.state();
    assert_eq!(told(&state, "p1").unwrap().services, Set::from([external()]));
    assert_eq!(told(&state, "vm").unwrap().services, Set::from([external()]));
    assert!(told(&state, "p3").unwrap().services.is_empty());

    let mut unready = labelled("p1", "x", "10.1.0.1");
    unready["status"]["conditions"] = json!([]);
    staging.apply(apply(&unready));
    assert_eq!(addresses(&mut staging, &external()), ["10.1.0.2", "10.9.0.1"], "R5.17: ready Pods only");
    staging.apply(apply(&labelled("p2", "y", "10.1.0.2")));
    staging.apply(delete(&vm("vm", "x", "")));
    let batch = staging.take();
    let touched: Vec<_> = batch.workloads.iter().map(|(id, cell)| (&*id.name, cell.is_some())).collect();
    assert_eq!(touched, [("p2", true), ("vm", false)]);
    assert_eq!(addresses(&mut staging, &external()), [""; 0]);

    staging.apply(apply(&selecting("y")));
    assert_eq!(addresses(&mut staging, &external()), ["10.1.0.2", "10.1.0.3"]);
    assert_eq!(told(&staging.state(), "p3").unwrap().services, Set::from([external()]));
    staging.apply(delete(&selecting("y")));
    let batch = staging.take();
    assert_eq!(batch.shards, [(external(), None)]);
    assert_eq!(batch.workloads.len(), 2, "no service any more");
}

/// `address:port` of what stands behind a port of a service.
fn behind(staging: &mut Staging, key: &ServiceKey, number: u16) -> Vec<String> {
    let state = staging.state();
    let shard = of(&state, key).expect("a shard");
    let service = shard.service.as_ref().expect("a record");
    let name = &service.port(number).expect("a port").name;
    let told = shard.endpoints.iter().filter(|endpoint| endpoint.port_name == *name);
    let told = told.map(|endpoint| format!("{}:{}", endpoint.addresses[0], endpoint.port));
    let inline = service.inline().iter().filter(|endpoint| endpoint.port_name == *name);
    told.chain(inline.map(|endpoint| format!("{:?}:{}", endpoint.address, endpoint.port))).collect()
}

#[test]
fn d07_entries_of_one_host_may_name_their_ports_differently() {
    let one = |name: &str, ports: Value, address: &str| {
        let spec = json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": ports,
            "endpoints": [{"address": address}]});
        apply(&entry(name, spec))
    };
    let mut staging = home();
    staging.apply(one("e", json!([{"number": 80, "name": "http", "targetPort": 8080}]), "10.0.0.1"));
    // Another name for a number, the name of another number, and both again for a Unix socket.
    let others = || json!([{"number": 80, "name": "web"}, {"number": 90, "name": "http"}]);
    staging.apply(one("f", others(), "10.0.0.2"));
    staging.apply(one("g", others(), "unix:///s"));
    let unix = |path: &str| format!("{:?}:0", InlineAddress::Unix(path.into()));
    assert_eq!(
        behind(&mut staging, &external(), 80),
        ["10.0.0.1:8080", "10.0.0.2:80", &unix("/s")].map(str::to_owned)
    );
    assert_eq!(behind(&mut staging, &external(), 90), ["10.0.0.2:90", &unix("/s")].map(str::to_owned));
    // Next to a Kubernetes Service that has the number under a name of its own.
    let key = ServiceKey::new("a", "a.a.svc.cluster.local");
    let beside = |staging: &mut Staging| {
        let mut service = service("a");
        service["spec"]["ports"] = json!([{"name": "http-main", "port": 80, "targetPort": 8080}]);
        staging.apply(apply(&service));
        let spec = json!({"hosts": ["a.a.svc.cluster.local"], "resolution": "STATIC",
            "ports": [{"number": 80, "name": "web"}], "endpoints": [{"address": "10.0.0.3"}]});
        staging.apply(apply(&entry("h", spec)));
        behind(staging, &key, 80)
    };
    assert_eq!(beside(&mut staging), ["10.0.0.3:80"]);
    let mut peer = home();
    peer.context.quirks = Quirks::peer();
    assert_eq!(beside(&mut peer), [""; 0], "Q30: by name alone");
}

#[test]
fn d07_what_the_service_of_a_host_lacks_is_under_no_port_of_it() {
    let mut staging = home();
    let key = ServiceKey::new("a", "a.a.svc.cluster.local");
    let mut service = service("a");
    service["spec"]["ports"] = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    staging.apply(apply(&service));
    let one = |name: &str, ports: Value, address: &str| {
        let spec = json!({"hosts": ["a.a.svc.cluster.local"], "resolution": "STATIC",
            "ports": ports, "endpoints": [{"address": address}]});
        apply(&entry(name, spec))
    };
    let both = json!([{"number": 80, "name": "web"}, {"number": 8080, "name": "http"}]);
    staging.apply(one("e", both, "10.0.0.1"));
    staging.apply(one("f", json!([{"number": 8080, "name": "http"}]), "10.0.0.2"));
    assert_eq!(behind(&mut staging, &key, 80), ["10.0.0.1:80"]);
    assert_eq!(addresses(&mut staging, &key), ["10.0.0.1"], "the other machine serves no port of it");
}

#[test]
fn r4_9_and_r4_37_entries_carry_what_their_namespace_says() {
    let mut staging = home();
    staging.context.service_scopes = true;
    let spec = json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": [{"number": 80, "name": "http"}],
        "endpoints": [{"address": "10.0.0.1"}]});
    staging.apply(apply(&entry("e", spec)));
    staging.take();
    let namespace = |labels: Value| json!({"kind": "Namespace", "metadata": {"name": "a", "labels": labels}});
    staging.apply(apply(&namespace(json!({"team": "x"}))));
    let said = |staging: &mut Staging| {
        let state = staging.state();
        let service = of(&state, &external()).expect("told").service.clone().expect("a record");
        let waypoint = service.ingress_waypoint.as_ref().map(ToString::to_string);
        (service.namespace_labels.get("team").map(ToString::to_string), waypoint)
    };
    assert_eq!(staging.take().shards.len(), 1);
    assert_eq!(said(&mut staging), (Some("x".into()), None));
    let labels = json!({"istio.io/use-waypoint": "w", "istio.io/ingress-use-waypoint": "true"});
    staging.apply(apply(&namespace(labels)));
    assert_eq!(said(&mut staging), (None, Some("a/w.a.svc.cluster.local".into())));
}

#[test]
fn r5_37_pods_are_selected_only_where_that_is_on() {
    let mut staging = home();
    staging.context.entries.select_pods = false;
    staging.apply(apply(&selecting("x")));
    staging.apply(apply(&labelled("p1", "x", "10.1.0.1")));
    staging.apply(apply(&vm("vm", "x", "10.9.0.1")));
    assert_eq!(addresses(&mut staging, &external()), ["10.9.0.1"]);
}

#[test]
fn r5_37_pods_of_a_remote_cluster_are_its_share_of_the_entry() {
    let (mut config, mut remote) = (home(), cluster("c2", false));
    config.apply(apply(&selecting("x")));
    remote.apply(apply(&labelled("p1", "x", "10.2.0.1")));
    remote.take();
    feed(&mut remote, &mut config);
    assert_eq!(addresses(&mut remote, &external()), ["10.2.0.1"]);
    let state = remote.state();
    let record = of(&state, &external()).unwrap().service.clone().unwrap();
    assert_eq!((record.resolution.clone(), record.ports.len()), (Resolution::ClientSide, 1));
    assert_eq!(&*of(&state, &external()).unwrap().endpoints[0].workload.cluster, "c2");
    remote.apply(apply(&vm("vm", "x", "10.9.0.1")));
    assert_eq!(addresses(&mut remote, &external()), ["10.2.0.1", "10.9.0.1"], "R1.16");

    config.apply(apply(&selecting("y")));
    feed(&mut remote, &mut config);
    assert!(of(&remote.state(), &external()).is_none(), "nothing selected: nothing to say");
    remote.apply(apply(&labelled("p1", "y", "10.2.0.1")));
    assert_eq!(addresses(&mut remote, &external()), ["10.2.0.1"]);
    config.apply(delete(&selecting("y")));
    feed(&mut remote, &mut config);
    assert!(of(&remote.state(), &external()).is_none());
    assert!(config.selecting_entries().is_none(), "nothing differs");
}

#[test]
fn z10_a_remote_cluster_has_no_entries_of_its_own() {
    let mut remote = cluster("c2", false);
    remote.apply(apply(&selecting("x")));
    remote.apply(apply(&labelled("p1", "x", "10.2.0.1")));
    assert!(remote.state().shards.is_empty());
}

#[test]
fn r5_29_an_entry_of_a_kubernetes_service_only_adds_endpoints() {
    let mut staging = home();
    let entry = entry(
        "e",
        json!({"hosts": ["s.a.svc.cluster.local"], "resolution": "STATIC", "ports": [{"number": 80, "name": "http"}],
        "endpoints": [{"address": "10.9.0.1"}, {"address": "10.1.0.9"}]}),
    );
    staging.apply(apply(&entry));
    let record = |staging: &mut Staging| of(&staging.state(), &key("s")).unwrap().service.clone().unwrap();
    assert!(record(&mut staging).entry.is_some());
    staging.apply(apply(&service("s")));
    staging.apply(apply(&slice("s", &["10.1.0.9"])));
    assert_eq!(addresses(&mut staging, &key("s")), ["10.1.0.9", "10.9.0.1"], "an address once");
    assert!(record(&mut staging).entry.is_none());
    staging.apply(delete(&service("s")));
    staging.apply(delete(&slice("s", &[])));
    assert_eq!(addresses(&mut staging, &key("s")), ["10.9.0.1", "10.1.0.9"]);
    assert!(record(&mut staging).entry.is_some());
    staging.apply(delete(&entry));
    assert_eq!(staging.take().shards, [(key("s"), None)]);
}

#[test]
fn r5_24_a_service_selects_workload_entries_of_its_namespace() {
    let mut staging = cluster("c2", false);
    staging.apply(apply(&vm("vm", "x", "10.9.0.1")));
    staging.apply(apply(&selector("s", "x")));
    assert_eq!(addresses(&mut staging, &key("s")), ["10.9.0.1"]);
    assert_eq!(staging.state().shards[&key("s")].endpoints[0].port, 80);
    let mut elsewhere = vm("vm", "x", "10.9.0.2");
    elsewhere["metadata"]["namespace"] = json!("b");
    staging.apply(apply(&elsewhere));
    staging.apply(apply(&slice("s", &["10.1.0.9"])));
    assert_eq!(addresses(&mut staging, &key("s")), ["10.1.0.9", "10.9.0.1"]);
    let cell = |staging: &mut Staging| {
        let id = WorkloadId { cluster: "c2".into(), ..workload_id("vm") };
        staging.state().workloads.into_iter().find(|cell| cell.id() == id).unwrap()
    };
    assert_eq!(cell(&mut staging).services, Set::from([key("s")]));
    staging.apply(apply(&selector("s", "y")));
    let batch = staging.take();
    assert_eq!(batch.workloads.len(), 1, "it is told that no service selects it");
    assert!(cell(&mut staging).services.is_empty());
    assert_eq!(addresses(&mut staging, &key("s")), ["10.1.0.9"]);
    staging.apply(apply(&vm("vm", "y", "")));
    assert_eq!(staging.quarantined().len(), 1, "it has no address: what it said before stays");
    assert_eq!(addresses(&mut staging, &key("s")), ["10.1.0.9"]);
    staging.apply(apply(&vm("vm", "y", "10.9.0.1")));
    assert_eq!(addresses(&mut staging, &key("s")), ["10.1.0.9", "10.9.0.1"]);
    assert!(staging.quarantined().is_empty());

    let mut off = cluster("c2", false);
    off.context.entries = EntryOptions { services_select: false, ..EntryOptions::default() };
    off.apply(apply(&vm("vm", "x", "10.9.0.1")));
    off.apply(apply(&selector("s", "x")));
    assert_eq!(addresses(&mut off, &key("s")), [""; 0]);
}

#[test]
fn a_workload_entry_whose_probe_fails_stands_behind_nothing_meanwhile() {
    let mut staging = home();
    staging.apply(apply(&selecting("x")));
    staging.apply(apply(&selector("s", "x")));
    let mut probed = vm("vm", "x", "10.9.0.1");
    probed["metadata"]["annotations"] = json!({"proxy.istio.io/health-checks-enabled": "true"});
    for (conditions, there) in [
        (json!([]), false),
        (json!([{"type": "Healthy", "status": "True"}]), true),
        (json!([{"type": "Healthy", "status": "False"}]), false),
    ] {
        probed["status"] = json!({"conditions": conditions});
        staging.apply(apply(&probed));
        assert_eq!(addresses(&mut staging, &external()).len(), usize::from(there), "{conditions}");
        assert_eq!(addresses(&mut staging, &key("s")).len(), usize::from(there), "{conditions}");
        assert!(told(&staging.state(), "vm").is_some(), "it is a proxy all the same");
    }
    probed["metadata"]["annotations"] = json!({});
    staging.apply(apply(&probed));
    assert_eq!(addresses(&mut staging, &external()), ["10.9.0.1"], "nobody probes it");
}

#[test]
fn r5_35_where_workload_entries_belong_follows_the_cluster() {
    let mut staging = home();
    staging.apply(apply(&selecting("x")));
    staging.apply(apply(&vm("vm", "x", "10.9.0.1")));
    staging.apply(apply(&entry(
        "i",
        json!({"hosts": ["i.example"], "resolution": "STATIC", "ports": [{"number": 80, "name": "http"}],
        "endpoints": [{"address": "10.9.0.2"}]}),
    )));
    staging.take();
    staging.apply(apply(&system_namespace("n1")));
    let batch = staging.take();
    assert_eq!((batch.shards.len(), batch.workloads.len()), (2, 1));
    let inline = ServiceKey::new("a", "i.example");
    let state = staging.state();
    for key in [external(), inline] {
        assert_eq!(&*state.shards[&key].endpoints[0].workload.network, "n1");
    }
}

#[test]
fn r2_9_a_workload_entry_gives_way_to_a_pod_of_its_name() {
    let mut staging = home();
    staging.apply(apply(&vm("p1", "x", "10.9.0.1")));
    let address = |batch: &Batch| {
        let (id, cell) = &batch.workloads[0];
        assert_eq!((batch.workloads.len(), id), (1, &workload_id("p1")));
        cell.as_ref().map(|cell| cell.addresses[0].to_string())
    };
    assert_eq!(address(&staging.take()).as_deref(), Some("10.9.0.1"));
    staging.apply(apply(&labelled("p1", "x", "10.1.0.1")));
    assert_eq!(address(&staging.take()).as_deref(), Some("10.1.0.1"));
    staging.apply(apply(&vm("p1", "x", "10.9.0.2")));
    assert!(staging.take().is_empty());
    assert_eq!(staging.state().workloads.len(), 1);
    staging.apply(delete(&labelled("p1", "x", "")));
    assert_eq!(address(&staging.take()).as_deref(), Some("10.9.0.2"));
    staging.apply(delete(&vm("p1", "x", "")));
    assert_eq!(address(&staging.take()), None);
}

#[test]
fn r5_36_hosts_that_dns_resolves_stand_in_the_record() {
    let mut staging = home();
    staging.apply(apply(&entry(
        "e",
        json!({"hosts": ["x.example"], "resolution": "DNS", "ports": [{"number": 443, "name": "tls"}]}),
    )));
    let state = staging.state();
    let shard = of(&state, &external()).unwrap();
    let record = shard.service.as_deref().unwrap();
    assert_eq!((shard.endpoints.len(), record.inline().len()), (0, 1));
    assert_eq!(record.inline()[0].address, InlineAddress::Host("x.example".into()));
}

#[test]
fn a_bad_entry_is_told_and_its_last_good_version_stays() {
    let mut staging = home();
    let good = entry(
        "e",
        json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": [{"number": 80, "name": "http"}],
        "endpoints": [{"address": "10.9.0.1"}, {"address": "nowhere.example"}]}),
    );
    staging.apply(apply(&good));
    assert_eq!(addresses(&mut staging, &external()), ["10.9.0.1"]);
    assert!(
        staging.quarantined()[0].starts_with("ServiceEntry a/e: `nowhere.example`"),
        "{:?}",
        staging.quarantined()
    );
    staging.apply(apply(&entry("e", json!({"hosts": []}))));
    assert_eq!(addresses(&mut staging, &external()), ["10.9.0.1"]);
    assert_eq!(staging.quarantined_objects(), 2);
    staging.apply(delete(&good));
    staging.take();
    assert_eq!(staging.quarantined_objects(), 0);
}

#[test]
fn r5_38_entries_of_one_host_in_several_namespaces_stay_apart() {
    let mut staging = home();
    let mut other = selecting("x");
    other["metadata"]["namespace"] = json!("b");
    staging.apply(apply(&selecting("x")));
    staging.apply(apply(&other));
    staging.apply(apply(&labelled("p1", "x", "10.1.0.1")));
    assert_eq!(addresses(&mut staging, &external()), ["10.1.0.1"]);
    assert_eq!(addresses(&mut staging, &ServiceKey::new("b", "x.example")), [""; 0]);
}

#[test]
fn a_pod_that_no_entry_selects_costs_no_conversion_of_entries() {
    let mut staging = home();
    staging.apply(apply(&selecting("x")));
    for n in 0..50 {
        staging.apply(apply(&labelled(&format!("p{n}"), "y", &format!("10.1.0.{n}"))));
    }
    staging.take();
    let before = conversions(&staging);
    staging.apply(apply(&labelled("p0", "z", "10.1.0.0")));
    staging.apply(delete(&labelled("p1", "y", "")));
    staging.take();
    assert_eq!(conversions(&staging), before);
    staging.apply(apply(&labelled("p0", "x", "10.1.0.0")));
    assert_eq!(staging.take().shards.len(), 1);
    assert_eq!(conversions(&staging), before + 1);
}

#[test]
fn a_remote_cluster_waits_for_the_entries_of_the_config_cluster() {
    let mut remote = cluster("c2", false);
    for kind in ObjectKind::BUILT_IN {
        remote.await_lists(kind, 0);
    }
    assert!(remote.is_complete());
    remote.await_entries();
    assert!(!remote.is_complete());
    remote.apply(StagedEvent::SelectingEntries(None));
    assert!(remote.is_complete(), "not for ever");
}

proptest! {
    /// Contract 3: what a cluster amounts to depends on the objects, never on the order in which they came.
    #[test]
    fn the_order_of_arrival_never_matters(
        steps in prop::collection::vec((0..12usize, 0..3usize), 1..60),
        other in any::<proptest::sample::Index>(),
    ) {
        let app = ["x", "y", "z"];
        let object = |which: usize, version: usize| match which {
            0..3 => labelled(&format!("p{which}"), app[version], &format!("10.1.0.{which}")),
            3..6 => vm(&format!("p{}", which - 2), app[version], &format!("10.9.0.{version}")),
            6 => selecting(app[version]),
            7 => { let mut e = selecting(app[version]); e["metadata"]["name"] = json!("e2"); e }
            8 => selector("s", app[version]),
            9 => entry("k", json!({"hosts": ["s.a.svc.cluster.local"], "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http"}], "workloadSelector": {"labels": {"app": app[version]}}})),
            10 => slice("s", &["p0=10.1.0.0", "10.1.0.7"][..version.min(2)]),
            _ => system_namespace(app[version]),
        };
        let mut stepwise = home();
        let mut last = BTreeMap::new();
        for (n, &(which, version)) in steps.iter().enumerate() {
            // A third time in a row takes it away.
            if last.get(&which) == Some(&version) && which != 11 {
                stepwise.apply(delete(&object(which, version)));
                last.remove(&which);
            } else {
                stepwise.apply(apply(&object(which, version)));
                last.insert(which, version);
            }
            if n % 3 == 0 {
                stepwise.take();
            }
        }
        let mut all: Vec<_> = last.into_iter().collect();
        if !all.is_empty() {
            let at = other.index(all.len());
            all.rotate_left(at);
        }
        let mut at_once = home();
        for (which, version) in all {
            at_once.apply(apply(&object(which, version)));
        }
        let sorted = |staging: &mut Staging| {
            let mut state = staging.state();
            state.workloads.sort_by_key(|cell| cell.id());
            state
        };
        prop_assert_eq!(sorted(&mut stepwise), sorted(&mut at_once));
    }
}

#[test]
fn r5_34_one_machine_may_serve_a_port_under_several_numbers() {
    let mut staging = home();
    let at = |port: u16| json!({"address": "192.0.2.1", "ports": {"http": port}});
    let spec = json!({"hosts": ["x.example"], "resolution": "STATIC", "ports": [{"number": 80, "name": "http"}],
        "endpoints": [at(8080), at(8081), at(8080)]});
    staging.apply(apply(&entry("e", spec)));
    let state = staging.state();
    let ports: Vec<_> = of(&state, &external()).unwrap().endpoints.iter().map(|one| one.port).collect();
    assert_eq!(ports, [8080, 8081]);
}

#[test]
fn r5_24_an_address_that_slices_tell_is_not_told_again_by_an_entry() {
    let mut staging = home();
    staging.apply(apply(&selector("s", "x")));
    staging.apply(apply(&slice("s", &["10.1.0.9"])));
    for (name, address) in [("vm-1", "10.1.0.9"), ("vm-2", "10.9.0.1"), ("vm-3", "10.9.0.1")] {
        staging.apply(apply(&vm(name, "x", address)));
    }
    assert_eq!(addresses(&mut staging, &key("s")), ["10.1.0.9", "10.9.0.1"]);
}
