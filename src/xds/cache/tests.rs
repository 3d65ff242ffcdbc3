use super::*;

const KIND: ResourceType = ResourceType::Endpoint;

/// A resource of a hundred bytes or a few more.
fn resource(name: &str) -> Arc<Encoded> {
    let encoded = Arc::new(Encoded::new(KIND, name, &[0; 8]));
    assert_eq!(encoded.len(), length(), "the names are of one length");
    encoded
}

fn length() -> usize {
    Encoded::new(KIND, "r00", &[0; 8]).len()
}

/// Room for so many of them.
fn room(count: usize) -> Arc<Cache> {
    Cache::new((count * length()) as u64)
}

fn keep(cache: &Arc<Cache>, number: usize) -> Arc<Kept> {
    let kept = cache.keep(KIND, &resource(&format!("r{number:02}")));
    cache.make_room();
    kept
}

/// Which of them are still there, without being read.
fn there(all: &[Arc<Kept>]) -> Vec<usize> {
    (0..all.len()).filter(|at| all[*at].bytes.load().is_some()).collect()
}

#[test]
fn d18_what_was_least_recently_needed_goes_first_and_its_hash_stays() {
    let cache = room(3);
    let mut all: Vec<_> = (0..3).map(|number| keep(&cache, number)).collect();
    assert_eq!(there(&all), [0, 1, 2]);
    let first = all[0].get().expect("there");
    all.push(keep(&cache, 3));
    assert_eq!(there(&all), [0, 2, 3], "the first was needed since");
    all.push(keep(&cache, 4));
    all.push(keep(&cache, 5));
    assert_eq!(there(&all), [0, 4, 5]);
    all.push(keep(&cache, 6));
    assert_eq!(there(&all), [4, 5, 6], "passed over once");
    assert_eq!((all[0].get(), all[0].hash()), (None, first.hash));
    let values = cache.values(KIND);
    assert_eq!((values.hits, values.evictions, values.entries), (1, 4, 3));
    assert_eq!(values.bytes, 3 * length() as u64);
}

#[test]
fn d18_few_are_looked_at_for_one_that_goes_however_many_are_needed() {
    let cache = room(1000);
    let all: Vec<_> = (0..1000).map(|number| keep(&cache, number % 100)).collect();
    all.iter().for_each(|kept| assert!(kept.get().is_some()));
    let before = cache.queue().places;
    let one = keep(&cache, 0);
    assert_eq!(cache.queue().places - before, 1 + u64::from(CHANCES), "itself, and those passed over");
    assert_eq!((cache.values(KIND).evictions, there(&[one]).len()), (1, 1));
}

#[test]
fn what_is_built_anew_or_dropped_by_its_cell_leaves_nothing_behind() {
    let cache = room(10);
    let all: Vec<_> = (0..5).map(|number| keep(&cache, number)).collect();
    drop(all);
    assert_eq!(cache.values(KIND), CacheValues::default());
    assert!(cache.queue().waiting.is_empty());
    assert_eq!(cache.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_larger_than_all_the_room_does_not_stay() {
    let cache = Cache::new(10);
    let (encoded, kept) = (resource("r00"), keep(&cache, 0));
    assert_eq!((kept.get(), kept.hash()), (None, encoded.hash));
    assert_eq!(cache.values(KIND), CacheValues { evictions: 1, ..CacheValues::default() });
}

#[test]
fn what_many_threads_keep_read_and_drop_at_once_is_counted_right_in_the_end() {
    let cache = room(5);
    let cells: Vec<Mutex<Option<Arc<Kept>>>> = (0..20).map(|_| Mutex::default()).collect();
    let work = |seed: usize| {
        for step in 0..5_000 {
            let at = (seed * 7 + step * 13) % cells.len();
            let cell = || cells[at].lock().expect("no panic");
            match (seed + step) % 4 {
                0 | 1 => {
                    let new = cache.keep(KIND, &resource(&format!("r{at:02}")));
                    let before = cell().replace(new);
                    drop(before);
                    cache.make_room();
                }
                2 => _ = cell().as_ref().and_then(|kept| kept.get()),
                _ => drop(cell().take()),
            }
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|seed| _ = scope.spawn(move || work(seed))));
    let there = cells.iter().filter(|cell| {
        cell.lock().expect("no panic").as_ref().is_some_and(|kept| kept.bytes.load().is_some())
    });
    let (there, values) = (there.count(), cache.values(KIND));
    assert_eq!((values.entries, values.bytes), (there as u64, (there * length()) as u64));
    assert_eq!((cache.queue().waiting.len(), there <= 5), (there, true));
    assert!(values.evictions > 0 && values.hits > 0, "{values:?}");
    drop(cells);
    assert_eq!((cache.values(KIND).entries, cache.queue().waiting.len()), (0, 0));
}
