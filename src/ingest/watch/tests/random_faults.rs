//! Whatever goes wrong, in whatever order: in the end the consumer has what the server has, and on the way it
//! loses nothing that was not deleted.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Delete(u8),
    Compact,
    Bookmark,
    EndWatches(bool),
    Relist,
    /// The next request goes wrong.
    Fault(Fault),
    Wait(u16),
}

#[derive(Clone, Debug)]
enum Fault {
    Refused,
    Never,
    Status(u16),
    Page(u16),
    RetryAfter(u16),
    Cut(u16, bool),
    Silence,
    Gone,
}

fn fault() -> impl Strategy<Value = Fault> {
    let status = prop::sample::select(vec![400_u16, 401, 403, 404, 406, 410, 415, 422, 429, 500, 503, 504]);
    prop_oneof![
        Just(Fault::Refused),
        Just(Fault::Never),
        status.prop_map(Fault::Status),
        prop::sample::select(vec![200_u16, 404, 502]).prop_map(Fault::Page),
        (1_u16..700).prop_map(Fault::RetryAfter),
        (0_u16..900, any::<bool>()).prop_map(|(at, reset)| Fault::Cut(at, reset)),
        Just(Fault::Silence),
        Just(Fault::Gone),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..8, any::<u8>()).prop_map(|(name, network)| Step::Set(name, network)),
        2 => (0_u8..8).prop_map(Step::Delete),
        1 => Just(Step::Compact),
        1 => Just(Step::Bookmark),
        2 => any::<bool>().prop_map(Step::EndWatches),
        1 => Just(Step::Relist),
        5 => fault().prop_map(Step::Fault),
        4 => (0_u16..200).prop_map(Step::Wait),
    ]
}

fn play(fault: &Fault, healthy: Reply) -> Reply {
    match fault {
        Fault::Refused => Reply::refused(),
        Fault::Never => Reply::Never,
        Fault::Status(code) => Reply::status(*code, "Random", "fault"),
        Fault::Page(code) => Reply::page(*code),
        Fault::RetryAfter(time) => Reply::status(429, "TooManyRequests", "").with_retry_after((*time).into()),
        Fault::Gone => {
            let gone = form::error(410, "Expired", "old");
            Reply::body("application/json", vec![Piece::Bytes(gone)])
        }
        Fault::Silence => Reply::body("application/json", vec![Piece::Hang]),
        Fault::Cut(at, reset) => cut(healthy, usize::from(*at), *reset),
    }
}

fn cut(reply: Reply, mut left: usize, reset: bool) -> Reply {
    let Reply::Answer { status, content_type, retry_after, body } = reply else { return reply };
    let mut kept = Vec::new();
    for piece in body {
        match piece {
            Piece::Bytes(mut bytes) => {
                bytes.truncate(left);
                left -= bytes.len();
                kept.push(Piece::Bytes(bytes));
            }
            _ => break,
        }
    }
    kept.extend(reset.then_some(Piece::Break));
    Reply::Answer { status, content_type, retry_after, body: kept }
}

async fn run(steps: Vec<Step>, streams: Streams, encoding: Encoding) {
    let world = World::new(&["k0", "k1", "k2"]).streaming(streams).speaking(encoding);
    let faults = Arc::new(Mutex::new(Vec::<Fault>::new()));
    let inner = world.clone();
    let pending = Arc::clone(&faults);
    let script = Script::new(move |asked| match pending.lock().unwrap().pop() {
        Some(fault) => play(&fault, inner.answer(asked)),
        None => inner.answer(asked),
    });
    let mut limits = SourceLimits::default();
    limits.sizes.page_objects = 2;
    let mut consumer = Consumer::with(&script, limits);
    let mut deleted = BTreeSet::new();
    for step in steps {
        let held: BTreeSet<_> = consumer.held.keys().cloned().collect();
        match step {
            Step::Set(name, network) => world.set(&format!("k{name}"), &format!("n{network}")),
            Step::Delete(name) => {
                deleted.insert(format!("k{name}"));
                world.delete(&format!("k{name}"));
            }
            Step::Compact => world.compact(),
            Step::Bookmark => world.bookmark(),
            Step::EndWatches(broken) => world.end_watches(broken),
            Step::Relist => consumer.source.control.relist(ListReason::Requested),
            Step::Fault(fault) => faults.lock().unwrap().push(fault),
            Step::Wait(time) => consumer.run(seconds(time.into())).await,
        }
        consumer.run(Duration::from_millis(10)).await;
        let lost = held.iter().find(|name| !consumer.held.contains_key(*name) && !deleted.contains(*name));
        assert_eq!(lost, None, "lost without having been deleted");
    }
    faults.lock().unwrap().clear();
    // Longer than any pause and any silence that is believed.
    consumer.run(seconds(900)).await;
    assert_eq!(consumer.held, world.truth(), "{:?}", consumer.told());
    let told = consumer.told();
    let state = told
        .iter()
        .rev()
        .find(|line| !["init", "done", "apply", "delete"].iter().any(|told| line.starts_with(told)));
    assert!(matches!(state, Some(&"connected" | &"idle")), "{told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_faults_the_consumer_has_what_the_server_has(
        steps in prop::collection::vec(step(), 1..40),
        streams in prop::sample::select(vec![Streams::Served, Streams::Refused, Streams::Withheld, Streams::Ignored]),
        protobuf in any::<bool>(),
    ) {
        let encoding = if protobuf { Encoding::Protobuf } else { Encoding::Json };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps, streams, encoding));
    }
}
