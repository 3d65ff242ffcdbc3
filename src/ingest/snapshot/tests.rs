use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use tokio::sync::watch as signal;

use super::keeper::{Round, rest};
use super::*;
use crate::ingest::convert::Advertised;
use crate::ingest::options::StalePolicy;
use crate::ingest::problems::Problems;
use crate::model::{
    ClusterRole, ClusterStatus, Discoverability, Endpoint, EndpointShard, EntryFacts, ExportTo, Exposure,
    GatewayHost, Health, Import, InlineAddress, InlineEndpoint, Labels, Locality, NetworkGateway,
    PortProtocol, Resolution, Service, ServiceKey, ServicePort, Set, SpiffeId, TlsMode, TrafficDistribution,
    Transport, Workload, WorkloadCell, WorkloadParts,
};
use crate::registry::{ClusterWriter, NetworkClaim, Registry};

const HOUR: Duration = Duration::from_secs(3600);

fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_790_000_000_123)
}

fn pin() -> Pin {
    Pin { server: "https://192.0.2.1:6443".to_owned(), ca: Some([7; 32]) }
}

fn account(name: &str) -> SpiffeId {
    SpiffeId { trust_domain: "td".into(), namespace: "sample".into(), service_account: name.into() }
}

fn parts(name: &str, address: &str) -> WorkloadParts {
    WorkloadParts {
        cluster: "west".into(),
        namespace: "sample".into(),
        name: name.into(),
        addresses: vec![address.parse().unwrap(), "fd00::9".parse().unwrap()].into(),
        network: "net-west".into(),
        locality: Locality::parse("r1/z1/s1"),
        node: "n1".into(),
        tls_mode: TlsMode::Istio,
        redirected: true,
        account: Some(account("hello")),
        workload_name: "hello".into(),
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        labels: Labels::from([("app", "hello"), ("empty", "")]),
        pod_dns: Some(("h".into(), "s".into())),
    }
}

fn workload(name: &str, address: &str) -> Workload {
    parts(name, address).into()
}

fn record(key: &ServiceKey, resolution: Resolution, export_to: ExportTo) -> Service {
    let port = |(number, transport, protocol)| ServicePort {
        number,
        name: format!("p{number}").into(),
        transport,
        protocol,
    };
    Service {
        key: key.clone(),
        ports: [
            (80, Transport::Tcp, PortProtocol::Http),
            (81, Transport::Udp, PortProtocol::Udp),
            (82, Transport::Sctp, PortProtocol::Auto),
            (65535, Transport::Tcp, PortProtocol::GrpcWeb),
        ]
        .map(port)
        .to_vec(),
        vips: vec![("west".into(), vec!["10.1.0.1".parse().unwrap()])],
        resolution,
        labels: Labels::from([("a", "b")]),
        export_to,
        node_local: true,
        publish_not_ready: true,
        created: -5,
        traffic_distribution: TrafficDistribution::PreferSameZone,
        import: Import::Own,
        accounts: [account("extra")].into(),
        entry: None,
        ingress_waypoint: Some(ServiceKey::new("gw", "waypoint.gw.svc.cluster.local")),
    }
}

/// What a ServiceEntry tells, with an endpoint of each form.
fn facts(workload: &Arc<Workload>) -> EntryFacts {
    let inline = |(address, port)| InlineEndpoint {
        address,
        port,
        port_name: "p80".into(),
        weight: NonZeroU32::new(u32::from(port) / 40),
        workload: Arc::clone(workload),
    };
    EntryFacts {
        mesh_external: true,
        blocks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()],
        alt_names: ["a.example".into()].into(),
        inline: [
            (InlineAddress::Ip("10.9.0.1".parse().unwrap()), 80),
            (InlineAddress::Host("b.example".into()), 443),
            (InlineAddress::Unix("/run/c".into()), 0),
            (InlineAddress::Absent, 80),
        ]
        .map(inline)
        .to_vec(),
    }
}

fn state() -> ClusterState {
    let hello = Arc::new(workload("hello-1", "10.0.0.1"));
    let bare =
        WorkloadParts { workload_name: "".into(), pod_dns: None, account: None, ..parts("", "10.0.0.2") };
    let bare: Arc<Workload> = bare.into();
    let key = |name: &str| ServiceKey::new("sample", format!("{name}.sample.svc.cluster.local"));
    let mut first = Endpoint::new("10.0.0.1".parse().unwrap(), 8080, "http", Arc::clone(&hello));
    first.weight = NonZeroU32::new(3);
    first.health = Health::Draining;
    first.exposure = Exposure::new(Discoverability::SameCluster, false);
    let second =
        Endpoint { health: Health::Unhealthy, ..Endpoint::new("fd00::2".parse().unwrap(), 1, "", bare) };
    let shard = |name, resolution, export_to, endpoints| {
        let key = key(name);
        let service = Some(Arc::new(record(&key, resolution, export_to)));
        (key, Arc::new(EndpointShard::new("west".into(), service, endpoints)))
    };
    let only = ExportTo::Namespaces(BTreeSet::from(["a".into(), "b".into()]));
    // Accounts stay when endpoints go (R6.1).
    let emptied = EndpointShard {
        accounts: [account("gone")].into(),
        ..EndpointShard::new("west".into(), None, Vec::new())
    };
    let services = Set::from([key("a")]);
    let absent = Endpoint {
        addresses: Vec::new().into(),
        ..Endpoint::new("10.0.0.1".parse().unwrap(), 80, "http", Arc::clone(&hello))
    };
    let told = record(&key("entry"), Resolution::DnsRoundRobin, ExportTo::Everywhere);
    let told = Service { entry: Some(facts(&hello).into()), ..told };
    let told = EndpointShard::new("west".into(), Some(told.into()), vec![absent]);
    let gateway = NetworkGateway::new("net-west".into(), "west".into(), "192.0.2.9".parse().unwrap());
    let host = GatewayHost {
        network: "net-west".into(),
        host: "gw.example.com".into(),
        port: 15443,
        hbone_port: 15008,
        cluster: "west".into(),
    };
    ClusterState {
        networks: NetworkClaim {
            network: Some("net-west".into()),
            gateways: vec![gateway],
            hosts: vec![host],
        },
        shards: BTreeMap::from([
            shard("a", Resolution::ClientSide, ExportTo::Everywhere, vec![first, second]),
            shard("b", Resolution::Passthrough, ExportTo::Nowhere, Vec::new()),
            shard("c", Resolution::Alias("example.com".into()), only, Vec::new()),
            shard("d", Resolution::Dns, ExportTo::Unset, Vec::new()),
            (key("entry"), Arc::new(told)),
            (key("emptied"), Arc::new(emptied)),
        ]),
        workloads: vec![WorkloadCell { workload: hello, services }],
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        cluster: "west".into(),
        pin: pin(),
        uid: "u-1".into(),
        confirmed: then(),
        terms: Terms {
            trusted: ["n2".into(), "n3".into()].into(),
            advertised: Advertised::parse("+gw.example.com:443,[2001:db8::1]:1").0,
            stale: StalePolicy::Drop(Duration::from_nanos(90_000_000_001)),
            trust_domain: "td".into(),
        },
        addresses: [("gw.example.com".into(), vec!["192.0.2.7".parse().unwrap()]), ("x".into(), vec![])]
            .into(),
        mesh_networks: Some("networks: {}".into()),
        mesh_config: Some("trustDomain: td".into()),
        policies: Some("[]".into()),
        state: state(),
    }
}

fn store() -> (SnapshotStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = SnapshotOptions { dir: dir.path().join("snapshots"), max_age: 24 * HOUR };
    (SnapshotStore::open(&options).unwrap(), dir)
}

#[test]
fn what_is_written_is_read() {
    let snapshot = snapshot();
    let bytes = write(&snapshot);
    assert_eq!(parse(&bytes).unwrap(), snapshot);
    assert_eq!(write(&parse(&bytes).unwrap()), bytes, "equal snapshots have equal bytes");
    let empty = Snapshot {
        uid: "".into(),
        terms: Terms::default(),
        addresses: Addresses::new(),
        mesh_networks: None,
        mesh_config: None,
        policies: None,
        state: ClusterState::default(),
        ..snapshot
    };
    assert_eq!(parse(&write(&empty)).unwrap(), empty);
}

#[test]
fn shared_workloads_stay_shared() {
    let endpoints = |n: usize| -> Vec<Endpoint> {
        let workload = Arc::new(workload("hello-1", "10.0.0.1"));
        let endpoint = |port| Endpoint::new("10.0.0.1".parse().unwrap(), port, "http", Arc::clone(&workload));
        (0..n).map(|n| endpoint(n as u16 + 1)).collect()
    };
    let with = |n| {
        let key = ServiceKey::new("sample", "a");
        let shard = EndpointShard::new("west".into(), None, endpoints(n));
        let shards = BTreeMap::from([(key, Arc::new(shard))]);
        Snapshot { state: ClusterState { shards, ..ClusterState::default() }, ..snapshot() }
    };
    let read = parse(&write(&with(2))).unwrap();
    let shard = read.state.shards.values().next().unwrap();
    assert!(Arc::ptr_eq(&shard.endpoints[0].workload, &shard.endpoints[1].workload));
    let each = (write(&with(1001)).len() - write(&with(1)).len()) / 1000;
    assert!(each < 20, "an endpoint more costs {each} bytes");
}

#[test]
fn any_damage_is_found_and_named() {
    let bytes = write(&snapshot());
    for length in 0..bytes.len() {
        let error = parse(&bytes[..length]).expect_err("cut");
        assert!(matches!(error, Corrupt::Foreign | Corrupt::Length { .. }), "{length}: {error}");
    }
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 0x10;
        assert!(parse(&bytes).is_err(), "byte {place}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(parse(&longer), Err(Corrupt::Length { .. })));
    let mut other = bytes;
    other[8] = 5;
    assert_eq!(parse(&other), Err(Corrupt::FutureFormat(5)));
    other[8] = 3;
    let old = parse(&other).unwrap_err();
    assert_eq!(old, Corrupt::OldFormat(3));
    assert!(old.to_string().contains("format 3") && old.to_string().contains("format 4"), "{old}");
    assert_eq!(parse(b"{}"), Err(Corrupt::Foreign));
    assert_eq!(parse(&vec![0; MAX_BYTES + 1]), Err(Corrupt::TooLarge));
}

/// A file with this body and a right checksum.
fn sealed(body: &[u8]) -> Vec<u8> {
    let empty = Snapshot { state: ClusterState::default(), ..snapshot() };
    let mut bytes = write(&empty);
    bytes.truncate(40);
    bytes.extend_from_slice(body);
    bytes[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&bytes[..24]);
    hash.update(body);
    bytes[24..40].copy_from_slice(&hash.digest128().to_le_bytes());
    bytes
}

#[test]
fn content_that_makes_no_sense_is_refused_whatever_its_checksum_says() {
    use crate::proto::snapshot as proto;
    use prost::Message as _;
    let endpoint = proto::Endpoint { addresses: vec![vec![1, 2, 3, 4]], ..proto::Endpoint::default() };
    let shard = |endpoint: proto::Endpoint| proto::Snapshot {
        profiles: vec![proto::Profile::default()],
        places: vec![proto::Place::default()],
        workloads: vec![proto::Workload::default()],
        shards: vec![proto::Shard {
            key: Some(proto::Key::default()),
            endpoints: vec![endpoint],
            ..proto::Shard::default()
        }],
        ..proto::Snapshot::default()
    };
    let parsed = |message: proto::Snapshot| parse(&sealed(&message.encode_to_vec()));
    parsed(shard(endpoint.clone())).expect("makes sense");
    for (message, words) in [
        (shard(proto::Endpoint { workload: 1, ..endpoint.clone() }), "no workload 1"),
        (shard(proto::Endpoint { port: 65536, ..endpoint.clone() }), "port 65536"),
        (shard(proto::Endpoint { health: 9, ..endpoint.clone() }), "9 is no"),
        (shard(proto::Endpoint { port_name: 4, ..endpoint.clone() }), "no text 4"),
        (shard(proto::Endpoint { addresses: vec![vec![1]], ..endpoint }), "odd size"),
        (shard(proto::Endpoint::default()), "without an address"),
        (
            proto::Snapshot { shards: vec![proto::Shard::default()], ..proto::Snapshot::default() },
            "without a key",
        ),
        (
            proto::Snapshot { gateway_address: "???".to_owned(), ..proto::Snapshot::default() },
            "a gateway address that is none",
        ),
        (
            proto::Snapshot {
                host_addresses: vec![proto::HostAddresses { host: 9, ..proto::HostAddresses::default() }],
                ..proto::Snapshot::default()
            },
            "no text 9",
        ),
        (
            proto::Snapshot {
                texts: vec!["east".to_owned()],
                shards: vec![proto::Shard {
                    key: Some(proto::Key::default()),
                    service: Some(proto::Service {
                        vips: vec![proto::Vips { cluster: 1, addresses: Vec::new() }],
                        ..proto::Service::default()
                    }),
                    ..proto::Shard::default()
                }],
                ..proto::Snapshot::default()
            },
            "virtual addresses of cluster east",
        ),
        (proto::Snapshot { ca: vec![1], ..proto::Snapshot::default() }, "odd size"),
        (proto::Snapshot { confirmed_ms: u64::MAX, network: 1, ..proto::Snapshot::default() }, "no text 1"),
    ] {
        let error = parsed(message).expect_err(words).to_string();
        assert!(error.contains("makes no sense") && error.contains(words), "{error}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(
        body in prop::collection::vec(any::<u8>(), 0..600),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let _ = parse(&body);
        let _ = parse(&sealed(&body));
        // Nearly right is worse than random.
        let mut near = write(&snapshot()).split_off(40);
        let place = place.index(near.len());
        near[place] = value;
        let _ = parse(&sealed(&near));
    }
}

#[test]
fn files_are_private_and_replaced_whole() {
    let (store, dir) = store();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    store.save(&snapshot()).unwrap();
    let path = store.path(&"west".into());
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let before = fs::read(&path).unwrap();
    let empty = Snapshot { state: ClusterState::default(), ..snapshot() };
    store.save(&empty).unwrap();
    assert_ne!(fs::read(&path).unwrap(), before);
    let names: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["west.snapshot"], "nothing is left beside it");
    store.delete(&"west".into()).unwrap();
    store.delete(&"west".into()).expect("already gone is fine");
    assert!(store.load(&"west".into(), &pin(), then()).unwrap().is_none());
    drop(dir);
}

#[test]
fn long_ids_have_files_of_their_own() {
    let (store, _dir) = store();
    let long = |end: &str| ClusterId::from("a".repeat(62) + "." + &"b".repeat(180) + end);
    for id in [long("x"), long("y")] {
        store.save(&Snapshot { cluster: id.clone(), state: ClusterState::default(), ..snapshot() }).unwrap();
    }
    assert_ne!(store.path(&long("x")), store.path(&long("y")));
    let loaded = store.load(&long("y"), &pin(), then()).unwrap().unwrap();
    assert_eq!(loaded.snapshot.cluster, long("y"));
    let all = store.load_all(then()).unwrap();
    assert_eq!((all.usable.len(), all.ignored.len()), (2, 0));
}

#[test]
fn d35_snapshots_of_others_are_ignored_and_the_reason_is_told() {
    let (store, _dir) = store();
    store.save(&snapshot()).unwrap();
    let west = ClusterId::from("west");
    let why = |id: &ClusterId, pin: &Pin| store.load(id, pin, then()).expect_err("ignored").to_string();
    assert!(store.load(&west, &pin(), then()).unwrap().is_some());
    let elsewhere = Pin { server: "https://192.0.2.2:6443".to_owned(), ..pin() };
    let text = why(&west, &elsewhere);
    assert!(text.contains("192.0.2.1") && text.contains("192.0.2.2"), "{text}");
    assert!(why(&west, &Pin { ca: Some([8; 32]), ..pin() }).contains("another CA"));
    fs::copy(store.path(&west), store.path(&"east".into())).unwrap();
    assert!(why(&"east".into(), &pin()).contains("of cluster west"));
    let all = store.load_all(then()).unwrap();
    assert_eq!((all.usable.len(), all.ignored.len()), (1, 1), "a copy is nobody's");
    assert_eq!(&*all.ignored[0].cluster, "east");
    assert!(all.ignored[0].why.to_string().contains("of cluster west"));
    fs::write(store.path(&west), b"tombolo\0").unwrap();
    assert!(why(&west, &pin()).contains("8 bytes"));
}

#[test]
fn k41_a_snapshot_is_too_old_or_too_new_by_the_wall_clock_alone() {
    let (store, _dir) = store();
    store.save(&snapshot()).unwrap();
    let at = |now: SystemTime| store.load(&"west".into(), &pin(), now).map(|loaded| loaded.unwrap().age);
    assert_eq!(at(then() + HOUR).unwrap(), HOUR);
    assert_eq!(at(then() + 24 * HOUR).unwrap(), 24 * HOUR);
    let text = at(then() + 25 * HOUR).unwrap_err().to_string();
    assert!(text.contains("25h") || text.contains("1day 1h"), "{text}");
    assert!(text.contains("--snapshot-max-age"), "{text}");
    // A clock that is being set right is no reason to forget a cluster; one that is an hour off is.
    assert_eq!(at(then() - Duration::from_secs(200)).unwrap(), Duration::ZERO);
    let text = at(then() - HOUR).unwrap_err().to_string();
    assert!(text.contains("1h in the future"), "{text}");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn opening_clears_away_pieces_and_nothing_else_and_minds_nothing_odd() {
    let (store, dir) = store();
    store.save(&snapshot()).unwrap();
    drop(store);
    let snapshots = dir.path().join("snapshots");
    fs::write(snapshots.join("west.snapshot.tmp"), b"half").unwrap();
    fs::write(snapshots.join("other.txt"), b"not ours").unwrap();
    // No such names can be deleted as files.
    fs::create_dir_all(snapshots.join("dir.snapshot/x")).unwrap();
    fs::create_dir_all(snapshots.join("dir.snapshot.tmp/x")).unwrap();
    let options = SnapshotOptions { dir: snapshots.clone(), max_age: 24 * HOUR };
    let store = SnapshotStore::open(&options).unwrap();
    assert_eq!(names(&snapshots), ["dir.snapshot", "dir.snapshot.tmp", "other.txt", "west.snapshot"]);
    let all = store.load_all(then()).unwrap();
    assert_eq!((all.usable.len(), all.ignored.len()), (1, 1));
    assert!(all.ignored[0].path.ends_with("dir.snapshot"));
    assert!(all.ignored[0].why.to_string().contains("it is no file"));
    let under_a_file = SnapshotOptions { dir: snapshots.join("other.txt/x"), ..options };
    let error = SnapshotStore::open(&under_a_file).unwrap_err().to_string();
    assert!(error.contains("--snapshot-dir") && error.contains("other.txt"), "{error}");
}

#[test]
fn a_clock_that_is_days_ahead_deletes_nothing_that_may_be_used_again() {
    let (store, _dir) = store();
    let west = ClusterId::from("west");
    store.save(&snapshot()).unwrap();
    let outdated = |days| store.outdated(then() + 24 * HOUR * days).unwrap();
    // Written just now: a machine whose clock is wrong wrote it, or is wrong now.
    fs::File::open(store.path(&west)).unwrap().set_modified(then() + 90 * 24 * HOUR).unwrap();
    assert_eq!(outdated(60), Vec::<ClusterId>::new());
    fs::File::open(store.path(&west)).unwrap().set_modified(then()).unwrap();
    assert_eq!((outdated(2), outdated(3)), (Vec::new(), vec![west.clone()]));
    // Its content is younger than the file: restored from a backup, say.
    let younger = Snapshot { confirmed: then() + 24 * HOUR * 2, ..snapshot() };
    store.save(&younger).unwrap();
    fs::File::open(store.path(&west)).unwrap().set_modified(then()).unwrap();
    assert_eq!((outdated(3), outdated(5)), (Vec::new(), vec![west]));
}

#[tokio::test]
async fn old_snapshots_go_once_it_is_known_that_nobody_needs_them() {
    let (store, _dir) = store();
    let old = SystemTime::now() - 100 * HOUR;
    for cluster in ["west", "gone"] {
        let state = ClusterState::default();
        store.save(&Snapshot { cluster: cluster.into(), confirmed: old, state, ..snapshot() }).unwrap();
        fs::File::open(store.path(&cluster.into())).unwrap().set_modified(old).unwrap();
    }
    let dir = store.path(&"west".into()).parent().unwrap().to_owned();
    let (keeper, ..) = keeper(store, 0);
    assert_eq!(names(&dir), ["gone.snapshot", "west.snapshot"]);
    keeper.sweep().await;
    assert_eq!(names(&dir), ["west.snapshot"], "there is a cluster west");
}

#[test]
fn processes_that_share_a_directory_leave_each_other_s_files_alone() {
    let (store, dir) = store();
    let options = SnapshotOptions { dir: dir.path().join("snapshots"), max_age: 24 * HOUR };
    // It is being written.
    let piece = options.dir.join("west.snapshot.tmp");
    fs::write(&piece, b"half").unwrap();
    let other = SnapshotStore::open(&options).unwrap();
    assert!(piece.exists(), "whoever writes it is still there");
    let of = |shards: usize| {
        let endpoint = |n| {
            (ServiceKey::new("sample", format!("s{n}")), EndpointShard::new("west".into(), None, Vec::new()))
        };
        let shards = (0..shards).map(endpoint).map(|(key, shard)| (key, Arc::new(shard)));
        Snapshot { state: ClusterState { shards: shards.collect(), ..ClusterState::default() }, ..snapshot() }
    };
    let writers = [(store, 3000), (other, 30)].map(|(store, shards)| {
        std::thread::spawn(move || {
            for _ in 0..100 {
                store.save(&of(shards)).expect("is kept");
                let read = store.load(&"west".into(), &pin(), then()).expect("is whole").expect("is there");
                assert!([30, 3000].contains(&read.snapshot.state.shards.len()));
            }
        })
    });
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(names(&options.dir), ["west.snapshot", "west.snapshot.tmp"]);
    // Alone again.
    SnapshotStore::open(&options).unwrap();
    assert_eq!(names(&options.dir), ["west.snapshot"]);
}

#[test]
fn files_that_others_may_have_written_are_not_believed() {
    let (store, _dir) = store();
    store.save(&snapshot()).unwrap();
    let path = store.path(&"west".into());
    let why = |store: &SnapshotStore| {
        let all = store.load_all(then()).unwrap();
        assert!(all.usable.is_empty());
        let why = store.load(&"west".into(), &pin(), then()).unwrap_err().to_string();
        assert_eq!(all.ignored[0].why.to_string(), why);
        why
    };
    for mode in [0o602, 0o620, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(why(&store).contains(&format!("mode is {mode:o}")));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(store.load(&"west".into(), &pin(), then()).unwrap().is_some(), "others may read it");
    assert!(why(&store.of_user(4242)).contains("belongs to user"));
}

#[test]
fn a_pin_tells_api_servers_apart_and_nothing_more() {
    let pin = |url: &str| Pin::new(&url.parse().unwrap(), None);
    let plain = pin("https://api.example.com");
    assert_eq!(plain.server, "https://api.example.com:443");
    assert_eq!(plain, pin("https://API.example.com:443/"));
    assert_eq!(pin("https://user:canary@[::1]:6443/x?canary").server, "https://[::1]:6443/x");
    // Several behind one host.
    assert_ne!(
        pin("https://rancher.example.com/k8s/clusters/a"),
        pin("https://rancher.example.com/k8s/clusters/b")
    );
    assert_eq!(pin("https://rancher.example.com/a/"), pin("https://rancher.example.com/a"));
}

/// A keeper of cluster `west`, which has so many services, and its registry.
fn keeper(
    store: SnapshotStore,
    services: usize,
) -> (Arc<Keeper>, Arc<Registry>, Arc<Problems>, ClusterWriter) {
    let (registry, problems) = (Registry::new(), Arc::<Problems>::default());
    let keeper = Arc::new(Keeper::new(store, Arc::clone(&registry), Arc::clone(&problems)));
    let mut writer = registry.writer("west".into(), ClusterRole::Config).unwrap();
    for n in 0..services {
        let key = ServiceKey::new("sample", format!("s{n}"));
        let endpoint = Endpoint::new("10.0.0.1".parse().unwrap(), 80, "http", workload("w", "10.0.0.1"));
        writer.set(key, EndpointShard::new("west".into(), None, vec![endpoint]));
    }
    let mut row = ClusterStatus::new("west".into(), ClusterRole::Config, "secret x".to_owned());
    row.synced = true;
    registry.clusters().put(row);
    keeper.keep(&"west".into(), &pin(), signal::Sender::new(Arc::default()).subscribe());
    (keeper, registry, problems, writer)
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_too_large_is_told_once_and_not_encoded_round_by_round() {
    let (store, _dir) = store();
    let (keeper, registry, problems, mut writer) = keeper(store.limited(2000), 100);
    keeper.round(Round::Usual);
    let told = problems.all();
    assert_eq!((told.len(), &*told[0].subject), (1, "cluster west, snapshot"));
    assert!(told[0].text.contains("larger than 2000 bytes") && told[0].text.contains("served only once"));
    assert_eq!(keeper.load_all().await.0.len(), 0);
    // It stays too large, and then is not any more.
    assert_eq!(keeper.due_now(), 0);
    writer.replace(ClusterState::default());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(keeper.due_now(), 0, "not tried before its time");
    tokio::time::advance(Duration::from_secs(900)).await;
    assert_eq!(keeper.due_now(), 1);
    keeper.round(Round::Usual);
    assert_eq!((problems.all(), keeper.load_all().await.0.len()), (Vec::new(), 1));
    drop(registry);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_written_leaves_nothing_and_is_tried_again_later() {
    let (store, _dir) = store();
    let path = store.path(&"west".into());
    fs::create_dir_all(path.join("in the way")).unwrap();
    let (keeper, _registry, problems, _writer) = keeper(store, 1);
    keeper.round(Round::Usual);
    assert!(problems.all()[0].text.contains("is not kept: it cannot be written"));
    assert_eq!(names(path.parent().unwrap()), ["west.snapshot"], "no piece of it");
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(keeper.due_now(), 0, "not encoded round by round");
    fs::remove_dir_all(&path).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(keeper.due_now(), 1);
    keeper.round(Round::Usual);
    assert_eq!((problems.all(), keeper.load_all().await.0.len()), (Vec::new(), 1));
    // The end does not wait.
    fs::remove_file(&path).unwrap();
    fs::create_dir_all(path.join("in the way")).unwrap();
    keeper.memory().note(|documents| documents.mesh_networks = Some("networks: {}".into()));
    keeper.round(Round::Usual);
    fs::remove_dir_all(&path).unwrap();
    keeper.round(Round::Usual);
    assert!(!path.exists());
    keeper.round(Round::Last);
    assert!(path.exists());
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_in_which_something_flaps_is_written_now_and_then() {
    const SERVICES: usize = 2000;
    let (store, _dir) = store();
    let path = store.path(&"west".into());
    let (keeper, _registry, _problems, mut writer) = keeper(store, 0);
    let mut flap = |n: usize| {
        let key = ServiceKey::new("sample", format!("s{n}-{}", "x".repeat(500)));
        let endpoint = Endpoint::new("10.0.0.1".parse().unwrap(), 80, "http", workload("w", "10.0.0.1"));
        writer.set(key, EndpointShard::new("west".into(), None, vec![endpoint]));
    };
    (0..SERVICES).for_each(&mut flap);
    keeper.round(Round::Usual);
    let length = fs::metadata(&path).unwrap().len();
    assert!((1 << 20..2 << 20).contains(&length), "{length}");
    let mut writes = 0;
    for n in 0..12 {
        flap(SERVICES + n);
        tokio::time::advance(Duration::from_secs(5)).await;
        writes += keeper.due_now();
        keeper.round(Round::Usual);
    }
    assert!((4..=7).contains(&writes), "{writes} times in a minute");
    flap(SERVICES + 12);
    keeper.round(Round::Usual);
    let before = fs::metadata(&path).unwrap().len();
    keeper.round(Round::Last);
    assert!(fs::metadata(&path).unwrap().len() > before, "the last one has everything");
}

#[test]
fn no_snapshot_rests_until_it_is_too_old() {
    for (mebibytes, max_age, seconds) in
        [(10, 24 * HOUR, 80), (64, Duration::from_secs(60), 15), (0, HOUR, 0)]
    {
        assert_eq!(rest(mebibytes << 20, max_age), Duration::from_secs(seconds));
    }
}

/// K-20: another cluster takes the place of one while its snapshot is written.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_of_two_clusters_is_written_anew_at_once() {
    let (store, _dir) = store();
    let path = store.path(&"west".into());
    let (keeper, registry, _problems, mut writer) = keeper(store, 20_000);
    let west = ClusterId::from("west");
    registry.clusters().update(&west, |row| row.uid = "u1".into());
    for exchanged in [true, false] {
        let due = keeper.due(Round::Usual).pop().expect("it changed");
        if exchanged {
            writer
                .set(ServiceKey::new("sample", "other"), EndpointShard::new("west".into(), None, Vec::new()));
            registry.clusters().update(&west, |row| row.uid = "u2".into());
        }
        let state = registry.states(&[west.clone()].into()).remove(&west).unwrap_or_default();
        keeper.save(due, state);
        assert!(fs::metadata(&path).unwrap().len() > 256 << 10, "it rests for some seconds");
        assert_eq!(keeper.due_now(), usize::from(exchanged));
    }
    assert_eq!(keeper.load_all().await.0[0].snapshot.uid, "u2".into());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_the_snapshot_of_a_cluster_that_was_removed_meanwhile() {
    let (store, _dir) = store();
    fs::create_dir_all(store.path(&"west".into()).join("in the way")).unwrap();
    let (keeper, _registry, problems, _writer) = keeper(store, 1);
    for removed_first in [true, false] {
        let due = keeper.due(Round::Last).pop().expect("it was never written");
        let state = ClusterState::default;
        if removed_first {
            keeper.forget(&"west".into()).await;
            keeper.save(due, state());
        } else {
            keeper.save(due, state());
            assert_eq!(problems.all().len(), 1);
            keeper.forget(&"west".into()).await;
        }
        assert_eq!(problems.all(), Vec::new());
        keeper.keep(&"west".into(), &pin(), signal::Sender::new(Arc::default()).subscribe());
    }
}

#[tokio::test(start_paused = true)]
async fn what_names_resolve_to_and_the_document_are_kept_when_they_change() {
    let (store, dir) = store();
    let (keeper, registry, _problems, mut writer) = keeper(store, 1);
    writer.claim_networks(state().networks);
    registry.set_static_gateways(
        Vec::new(),
        vec![GatewayHost {
            network: "n9".into(),
            host: "static.example.com".into(),
            port: 1,
            hbone_port: 0,
            cluster: "".into(),
        }],
    );
    keeper.round(Round::Usual);
    assert_eq!(keeper.due_now(), 0);
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    registry.set_host_addresses(&"gw.example.com".into(), &[address("192.0.2.7")]);
    registry.set_host_addresses(&"static.example.com".into(), &[address("192.0.2.8")]);
    assert_eq!(keeper.due_now(), 1, "although nothing of the cluster differs");
    keeper.round(Round::Usual);
    keeper.memory().note(|documents| documents.mesh_networks = Some("networks: {n9: {}}".into()));
    assert_eq!(keeper.due_now(), 1);
    keeper.round(Round::Usual);
    assert_eq!(keeper.due_now(), 0);
    let loaded = keeper.load(&"west".into(), &pin()).await.unwrap().snapshot;
    let known = [("gw.example.com", "192.0.2.7"), ("static.example.com", "192.0.2.8")];
    assert_eq!(loaded.addresses, known.map(|(host, ip)| (host.into(), vec![address(ip)])).into());
    assert_eq!(loaded.mesh_networks.as_deref(), Some("networks: {n9: {}}"));
    assert_eq!(keeper.memory().addresses(&"gw.example.com".into()), [address("192.0.2.7")], "recalled");
    // What a new process recalls, and has not read yet, it keeps.
    drop((registry, writer));
    let store =
        SnapshotStore::open(&SnapshotOptions { dir: dir.path().join("snapshots"), max_age: 24 * HOUR });
    let (keeper, ..) = super::tests::keeper(store.unwrap(), 2);
    keeper.memory().await_documents(&"west".into());
    keeper.load(&"west".into(), &pin()).await.unwrap();
    assert_eq!(keeper.memory().documents_before().await.mesh_networks.as_deref(), Some("networks: {n9: {}}"));
    keeper.round(Round::Usual);
    let loaded = keeper.load(&"west".into(), &pin()).await.unwrap().snapshot;
    assert_eq!((loaded.state.shards.len(), loaded.mesh_networks.as_deref()), (2, Some("networks: {n9: {}}")));
}

#[test]
fn d35_a_pin_has_the_ca_before_a_credential_program_has_run() {
    let pin = |url: &str, exec: Option<&str>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        let mut config = kube::Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![ca.der().to_vec()]);
        let exec = exec.map(|command| serde_json::json!({"command": command}));
        config.auth_info.exec = exec.map(|exec| serde_json::from_value(exec).unwrap());
        Pin::of(&ApiServer::new(&config, crate::ingest::client::AddressPolicy::Any).unwrap())
    };
    let (one, other) = (pin("https://192.0.2.1", Some("false")), pin("https://192.0.2.1", Some("false")));
    assert!(one.ca.is_some() && one.ca != other.ca, "it tells one CA from another");
    assert!(pin("https://192.0.2.1", None).ca.is_some());
}

#[test]
fn z_24_the_server_is_named_without_what_its_url_may_hide() {
    let config = kube::Config::new("https://me:canary@192.0.2.1:6443/p".parse().unwrap());
    let server = ApiServer::new(&config, crate::ingest::client::AddressPolicy::Any).unwrap();
    assert_eq!(crate::ingest::client::Exchange::server(&server), "192.0.2.1:6443");
    assert_eq!(server.credentials().server, "https://192.0.2.1:6443/p");
}
