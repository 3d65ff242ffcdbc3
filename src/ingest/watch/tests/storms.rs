//! Many sources at once: K-42, D33.

use super::*;

/// A server whose pages take a while to read.
fn slow_server(world: &World) -> Arc<Script> {
    let inner = world.clone();
    Script::new(move |asked| match (asked.is_for(), inner.answer(asked)) {
        (For::FirstPage, Reply::Answer { status, content_type, retry_after, mut body }) => {
            body.push(Piece::Wait(seconds(2)));
            Reply::Answer { status, content_type, retry_after, body }
        }
        (_, reply) => reply,
    })
}

fn fleet(count: usize, limits: &Arc<SourceLimits>) -> Vec<(World, Arc<Script>, Consumer)> {
    let one = |_| {
        let world = World::new(&["a"]).streaming(Streams::Refused);
        let script = slow_server(&world);
        let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::clone(limits));
        (world, script, Consumer::of(source))
    };
    (0..count).map(one).collect()
}

#[tokio::test(start_paused = true)]
async fn k42_lists_of_a_thousand_watches_that_broke_are_spread_and_few_at_a_time() {
    let limits = Arc::<SourceLimits>::default();
    let mut fleet = fleet(1000, &limits);
    for (_, _, consumer) in &mut fleet {
        consumer.until("connected").await;
    }
    for (_, _, consumer) in &mut fleet {
        consumer.run(Duration::ZERO).await;
    }
    tokio::time::sleep(seconds(31)).await;
    let broke = Instant::now();
    for (world, ..) in &fleet {
        world.end_watches(true);
        world.set("a", "n1");
        world.compact();
    }
    let (mut most, mut last) = (0, broke);
    while broke.elapsed() < seconds(120) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let taken = limits.permits.taken();
        most = most.max(taken);
        if taken > 0 {
            last = Instant::now();
        }
    }
    assert_eq!(most, 32, "in parallel");
    let busy = last - broke;
    assert!((seconds(62)..=seconds(70)).contains(&busy), "1000 lists of 2 s, 32 at a time: {busy:?}");
    let asked = fleet.iter().map(|(_, script, _)| script.asked_for(For::FirstPage)[1].at - broke);
    let asked: Vec<_> = asked.collect();
    assert!(asked.iter().all(|at| *at <= seconds(5)));
    let late = asked.iter().filter(|at| **at >= seconds(1)).count();
    assert!((600..=900).contains(&late), "spread over 5 s: {late} of 1000 after the first second");
    for (world, _, consumer) in &mut fleet {
        consumer.run(Duration::ZERO).await;
        consumer.run(Duration::from_millis(1)).await;
        assert_eq!(consumer.held, world.truth());
    }
}

#[tokio::test(start_paused = true)]
async fn k42_black_holes_take_no_permits_and_servers_that_stall_share_few() {
    let limits = Arc::<SourceLimits>::default();
    // Answer with headers and then stall.
    let stall = |_| {
        let script = Script::new(|asked| match asked.is_for() {
            For::StreamingList => Reply::status(422, "Invalid", "no"),
            _ => Reply::body("application/json", vec![Piece::Hang]),
        });
        Consumer::of(KubeSource::new(script as Arc<dyn Exchange>, Arc::clone(&limits)))
    };
    // Do not answer at all.
    let hole = |_| {
        let script = Script::new(|_| Reply::Never);
        Consumer::of(KubeSource::new(script as Arc<dyn Exchange>, Arc::clone(&limits)))
    };
    let _stalls: Vec<_> = (0..100).map(stall).collect();
    let _holes: Vec<_> = (0..100).map(hole).collect();
    // Each of them has failed once.
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(limits.permits.taken(), 0, "what failed is among its like");
    let began = Instant::now();
    let mut fleet = fleet(32, &limits);
    for (_, _, consumer) in &mut fleet {
        consumer.until("connected").await;
    }
    assert!(began.elapsed() <= seconds(3), "{:?}", began.elapsed());
}

/// They are slow, but not too slow, and never fail: nothing sets them apart from others.
#[tokio::test(start_paused = true)]
async fn k07_servers_whose_pages_drip_hold_up_others_for_one_page_at_most() {
    let mut limits = SourceLimits::default();
    limits.sizes.page_objects = 1;
    let limits = Arc::new(limits);
    let follow =
        |script: Arc<Script>| Consumer::of(KubeSource::new(script as Arc<dyn Exchange>, Arc::clone(&limits)));
    let dripping = |_| {
        let world = World::new(&["a", "b", "c", "d"]).streaming(Streams::Refused);
        follow(Script::new(move |asked| match (asked.is_for(), world.answer(asked)) {
            (
                For::FirstPage | For::NextPage,
                Reply::Answer { status, content_type, retry_after, mut body },
            ) => {
                body.extend((0..25).flat_map(|_| [Piece::Wait(seconds(1)), Piece::Bytes(vec![b' '; 200])]));
                Reply::Answer { status, content_type, retry_after, body }
            }
            (_, reply) => reply,
        }))
    };
    let mut slow: Vec<_> = (0..40).map(dripping).collect();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(limits.permits.taken(), 32);
    let began = Instant::now();
    let mut quick = follow(script(&World::new(&["a"]).streaming(Streams::Refused), |_| None));
    quick.until("connected").await;
    assert!(began.elapsed() <= seconds(30), "{:?}", began.elapsed());
    for consumer in &mut slow {
        consumer.until("connected").await;
        assert_eq!(consumer.told(), ["init", "done first", "connected"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_source_that_loses_its_history_lists_at_once() {
    let limits = Arc::<SourceLimits>::default();
    let mut fleet = fleet(1, &limits);
    let (world, script, consumer) = &mut fleet[0];
    consumer.until("connected").await;
    consumer.run(seconds(31)).await;
    world.end_watches(true);
    world.set("a", "n1");
    world.compact();
    let broke = Instant::now();
    consumer.until("done expired").await;
    assert_eq!(script.asked_for(For::FirstPage)[1].at, broke);
}

#[tokio::test(start_paused = true)]
async fn k21_a_requested_list_is_read_in_pages_at_once() {
    let world = World::new(&["a", "b"]);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.source.control.relist(ListReason::Requested);
    consumer.until("done requested").await;
    assert_eq!(consumer.told(), ["init", "done first", "connected", "init", "done requested"]);
    assert_eq!(consumer.story[4].0, Duration::ZERO);
    assert_eq!(script.asked_for(For::FirstPage).len(), 1);
    world.set("a", "n1");
    consumer.until("apply a=n1").await;
}

/// Deadlines do not run while the consumer is busy.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_busy_is_no_fault_of_the_server() {
    let world = World::new(&["a"]);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    for n in 0..50 {
        world.set("a", &format!("n{n}"));
        tokio::task::yield_now().await;
    }
    // Nobody consumes for an hour.
    tokio::time::sleep(seconds(3600)).await;
    world.set("a", "last");
    consumer.until("apply a=last").await;
    assert_eq!(consumer.times("Unreachable") + consumer.times("Refused"), 0, "{:?}", consumer.told());
}
