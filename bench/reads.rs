//! Reads of the registry while others write: what one second of a reader's CPU gives (P11).
//!
//! `cargo bench --bench reads`. Readers look up services and load their snapshots, first alone, then beside a writer that
//! publishes bursts without a pause; then the same with maps behind an `RwLock`, in the same run.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::expect_used)]

#[allow(dead_code, reason = "its clock is all that is needed")]
#[path = "cost.rs"]
mod cost;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tombolo::model::{ClusterRole, Endpoint, EndpointShard, Service, ServiceKey, WorkloadParts};
use tombolo::registry::{ClusterWriter, Registry, ServiceSnapshot};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERVICES: usize = 20_000;
/// Services that change in one burst.
const BURST: usize = 1_000;
const READERS: usize = 2;
/// Reads between two looks at the clock.
const BATCH: usize = 1_000;

type Map = HashMap<ServiceKey, Arc<ServiceSnapshot>>;

/// One store, as readers and as its writer use it.
trait Store: Sync {
    /// The version of a service.
    fn read(&self, key: &ServiceKey) -> u64;
}

impl Store for Arc<Registry> {
    fn read(&self, key: &ServiceKey) -> u64 {
        self.service(key).map_or(0, |cell| cell.load().version)
    }
}

impl Store for RwLock<Map> {
    fn read(&self, key: &ServiceKey) -> u64 {
        let snapshot = self.read().expect("a lock").get(key).map(Arc::clone);
        snapshot.map_or(0, |snapshot| snapshot.version)
    }
}

fn main() {
    let quick = std::env::args().any(|word| word == "--test");
    let (rounds, lasting) =
        if quick { (1, Duration::from_millis(10)) } else { (9, Duration::from_millis(500)) };
    let services = if quick { BURST } else { SERVICES };
    let keys: Vec<ServiceKey> = (0..services).map(key).collect();
    let registry = Registry::new();
    let mut writer = registry.writer("east".into(), ClusterRole::Config).expect("first writer");
    for (number, key) in keys.iter().enumerate() {
        writer.set(key.clone(), shard(number, 2));
    }
    let map: Map = keys.iter().map(|key| (key.clone(), registry.service(key).expect("set").load())).collect();
    let (by_change, by_burst) = (RwLock::new(map.clone()), RwLock::new(map.clone()));
    let news: Vec<_> = keys.iter().take(BURST).map(|key| (key.clone(), Arc::clone(&map[key]))).collect();
    let shards: Vec<_> = (0..BURST).map(|number| [shard(number, 1), shard(number, 2)]).collect();
    let mut turn = 0;
    let mut publish = || publish(&registry, &mut writer, &keys, &shards, &mut turn);
    let mut insert = || {
        for (key, snapshot) in &news {
            by_change.write().expect("a lock").insert(key.clone(), Arc::clone(snapshot));
        }
    };
    let mut insert_all = || {
        let mut map = by_burst.write().expect("a lock");
        for (key, snapshot) in &news {
            map.insert(key.clone(), Arc::clone(snapshot));
        }
    };
    let mut rows: [Vec<f64>; 6] = Default::default();
    for _ in 0..rounds {
        rows[0].push(reads(&registry, &keys, lasting, None));
        rows[1].push(reads(&registry, &keys, lasting, Some(&mut publish)));
        rows[2].push(reads(&by_change, &keys, lasting, None));
        rows[3].push(reads(&by_change, &keys, lasting, Some(&mut insert)));
        rows[4].push(reads(&by_burst, &keys, lasting, None));
        rows[5].push(reads(&by_burst, &keys, lasting, Some(&mut insert_all)));
    }
    print(rows.map(median));
}

fn print(medians: [f64; 6]) {
    let [idle, busy, ..] = medians;
    println!("million reads per second of reader's CPU, {READERS} readers     alone   beside bursts   ratio");
    let names = ["registry", "RwLock map, a lock per change", "RwLock map, a lock per burst"];
    for (name, pair) in names.into_iter().zip(medians.chunks(2)) {
        let millions = |rate: f64| rate / 1e6;
        println!(
            "  {name:<53}{:>7.2}{:>16.3}{:>8.3}",
            millions(pair[0]),
            millions(pair[1]),
            pair[1] / pair[0]
        );
    }
    println!("P11: beside bursts / alone {:.2} (at least 0.8)", busy / idle);
    for (what, other) in [("change", medians[3]), ("burst", medians[5])] {
        println!("P11: registry / RwLock map with a lock per {what} {:.1} (at least 20)", busy / other);
    }
}

fn key(service: usize) -> ServiceKey {
    ServiceKey::new("bench", format!("s{service}.bench.svc.cluster.local"))
}

fn shard(service: usize, endpoints: usize) -> EndpointShard {
    let record = Service { key: key(service), ..Service::default() };
    let endpoint = |index: usize| {
        let address = std::net::IpAddr::from([10, 0, 0, u8::try_from(index).expect("few")]);
        let workload = WorkloadParts {
            cluster: "east".into(),
            namespace: "bench".into(),
            name: format!("p{index}").into(),
            addresses: address.into(),
            ..WorkloadParts::default()
        };
        Endpoint::new(address, 8080, "http", workload)
    };
    EndpointShard::new("east".into(), Some(Arc::new(record)), (0..endpoints).map(endpoint).collect())
}

/// One burst, and its change set taken as the pusher does.
fn publish(
    registry: &Registry,
    writer: &mut ClusterWriter,
    keys: &[ServiceKey],
    shards: &[[EndpointShard; 2]],
    turn: &mut usize,
) {
    *turn += 1;
    for (key, shard) in keys.iter().zip(shards) {
        writer.set(key.clone(), shard[*turn % 2].clone());
    }
    black_box(registry.changes().take());
}

/// Reads per second of the readers' CPU, beside `writes` without a pause.
fn reads(
    store: &dyn Store,
    keys: &[ServiceKey],
    lasting: Duration,
    writes: Option<&mut (dyn FnMut() + Send)>,
) -> f64 {
    let stop = AtomicBool::new(false);
    let until = Instant::now() + lasting;
    let (count, cpu) = std::thread::scope(|scope| {
        if let Some(write) = writes {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    write();
                }
            });
        }
        let readers: Vec<_> =
            (0..READERS).map(|reader| scope.spawn(move || read(store, keys, reader, until))).collect();
        let sums = readers.into_iter().map(|reader| reader.join().expect("a reader"));
        let total = sums.fold((0, Duration::ZERO), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        stop.store(true, Ordering::Relaxed);
        total
    });
    count as f64 / cpu.as_secs_f64()
}

/// How often one reader read, all over the keys, and the CPU that took.
fn read(store: &dyn Store, keys: &[ServiceKey], reader: usize, until: Instant) -> (usize, Duration) {
    let start = cost::cpu();
    let (mut count, mut at) = (0, reader);
    while Instant::now() < until {
        for _ in 0..BATCH {
            // A prime apart: neighbours in memory are not read one after the other.
            at = (at + 7919) % keys.len();
            black_box(store.read(&keys[at]));
        }
        count += BATCH;
    }
    (count, cost::cpu() - start)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
