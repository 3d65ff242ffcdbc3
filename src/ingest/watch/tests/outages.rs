//! Servers that are away or not themselves: K-01, K-12, K-13, K-14, and how soon their return is noticed.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A server that can be taken away.
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn set(&self, away: bool) {
        self.0.store(away, Ordering::Relaxed);
    }
}

fn switched(world: &World, away: impl Fn(&Asked) -> Reply + Send + 'static) -> (Arc<Script>, Switch) {
    let switch = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&switch);
    let script =
        script(world, move |asked| if is_away.load(Ordering::Relaxed) { Some(away(asked)) } else { None });
    (script, Switch(switch))
}

#[tokio::test(start_paused = true)]
async fn k01_a_server_that_is_away_is_asked_20_times_in_5_minutes_at_most() {
    let world = World::new(&["a"]);
    let (script, switch) = switched(&world, |_| Reply::refused());
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(300)).await;
    let asked = script.asked().len();
    assert!((10..=20).contains(&asked), "{asked} attempts");
    assert_eq!(consumer.times("Unreachable"), asked);
    assert_eq!(consumer.counts().phase(), SourcePhase::Unreachable);
    switch.set(false);
    consumer.until("connected").await;
    assert!(consumer.began.elapsed() <= seconds(331));
}

#[tokio::test(start_paused = true)]
async fn k01_pauses_start_over_after_a_healthy_watch_only() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    let (script, switch) = switched(&world, |_| Reply::status(500, "InternalError", "boom"));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(120)).await;
    switch.set(false);
    consumer.until("connected").await;
    // Ten seconds of health are not enough: the pause stays long.
    consumer.run(seconds(10)).await;
    switch.set(true);
    world.end_watches(true);
    let from = Instant::now();
    let before = script.asked().len();
    consumer.run(seconds(14)).await;
    assert_eq!(script.asked().len(), before, "the pause is at least 15 s; {:?}", from.elapsed());
    switch.set(false);
    consumer.until("connected").await;
    consumer.run(seconds(31)).await;
    world.end_watches(true);
    let before = script.asked().len();
    consumer.run(seconds(1)).await;
    assert!(script.asked().len() > before, "after half a minute of health it is taken up at once");
}

#[tokio::test(start_paused = true)]
async fn k01_sources_of_one_server_share_a_scout_and_notice_its_return_within_5_seconds() {
    for outage in [30, 60, 300, 1000] {
        let world = World::new(&["a"]);
        let (script, switch) = switched(&world, |_| Reply::refused());
        let limits = Arc::<SourceLimits>::default();
        // Made one by one: what they share is the exchange.
        let source = || KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::clone(&limits));
        let mut consumers: Vec<_> = (0..5).map(|_| Consumer::of(source())).collect();
        tokio::time::sleep(seconds(outage)).await;
        let asked = script.asked().len() as u64;
        let allowed = 5 * 20 * outage.div_ceil(300);
        assert!(asked <= allowed, "{asked} attempts of five sources in {outage} s");
        switch.set(false);
        let back = Instant::now();
        for consumer in &mut consumers {
            consumer.until("connected").await;
        }
        assert!(back.elapsed() <= seconds(5), "{:?} after {outage} s", back.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_scout_whose_request_is_given_up_goes_on_as_one() {
    let world = World::new(&["a"]);
    let mut asked = 0;
    let script = script(&world, move |_| {
        asked += 1;
        match asked {
            1 => Some(Reply::refused()),
            2 => Some(Reply::Never),
            _ => None,
        }
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(2)).await;
    assert_eq!(script.asked().len(), 2, "the second one hangs");
    consumer.source.control.relist(ListReason::Requested);
    consumer.until("connected").await;
    assert!(consumer.began.elapsed() <= seconds(3), "{:?}", consumer.began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_scout_that_is_dropped_leaves_its_place() {
    let world = World::new(&["a"]);
    let switch = Arc::new(AtomicBool::new(true));
    let hangs = Arc::clone(&switch);
    let mut refused = 0;
    let script = script(&world, move |_| {
        refused += 1;
        match refused {
            1 | 2 => Some(Reply::refused()),
            _ if hangs.load(Ordering::Relaxed) => Some(Reply::Never),
            _ => None,
        }
    });
    let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
    let [one, other] = ["one", "other"].map(|label| Consumer::of(source.clone().labelled(label)));
    tokio::time::sleep(seconds(2)).await;
    let asked = script.asked();
    assert_eq!(asked.len(), 3, "one of them is the scout, and hangs");
    let (scout, mut left) = match asked[2].parameter("labelSelector") {
        Some("one") => (one, other),
        _ => (other, one),
    };
    switch.store(false, Ordering::Relaxed);
    drop(scout);
    let free = Instant::now();
    left.until("connected").await;
    assert!(free.elapsed() <= seconds(1), "{:?}", free.elapsed());
}

#[tokio::test(start_paused = true)]
async fn k12_a_foreign_page_is_one_failure_and_the_next_attempt_follows_within_2_seconds() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    for status in [502, 200, 403, 503] {
        let replies = vec![Reply::page(status)];
        let script = script(&world, first(For::Watch, replies));
        let mut consumer = Consumer::new(&script);
        consumer.until("connected").await;
        assert_eq!(consumer.times("Refused"), 1, "{:?}", consumer.told());
        assert!(consumer.told()[2].contains("text/html"), "{:?}", consumer.told());
        let watches = script.asked_for(For::Watch);
        assert!(watches[1].at - watches[0].at <= seconds(2));
        assert_eq!(consumer.held, world.truth());
        assert_eq!(script.suspected(), 1, "the next attempt takes another connection");
    }
}

#[tokio::test(start_paused = true)]
async fn k12_a_gateway_without_its_server_is_asked_every_2_seconds_by_one_source() {
    let world = World::new(&["a"]);
    let (script, switch) = switched(&world, |_| Reply::page(502));
    let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
    let mut consumers: Vec<_> = (0..3).map(|_| Consumer::of(source.clone())).collect();
    for _ in 0..300 {
        for consumer in &mut consumers {
            consumer.run(Duration::ZERO).await;
        }
        tokio::time::sleep(seconds(1)).await;
    }
    let asked = script.asked().len();
    assert!((150..=190).contains(&asked), "{asked} attempts of three sources");
    switch.set(false);
    let back = Instant::now();
    for consumer in &mut consumers {
        consumer.until("connected").await;
    }
    assert!(back.elapsed() <= seconds(2), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn k13_a_gateway_that_says_when_is_not_asked_before() {
    let world = World::new(&["a"]);
    let (script, switch) = switched(&world, |_| Reply::page(503).with_retry_after(25));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(1)).await;
    assert_eq!(consumer.counts().retry_after(), seconds(25));
    consumer.run(seconds(299)).await;
    let asked = script.asked();
    assert!(asked.windows(2).all(|pair| pair[1].at - pair[0].at >= seconds(25)), "{asked:?}");
    assert!(asked.len() >= 9, "{} attempts", asked.len());
    switch.set(false);
    consumer.until("connected").await;
}

/// One refusal, then a server that says when to come back to whoever looks for it.
#[tokio::test(start_paused = true)]
async fn k13_the_scout_waits_as_long_as_it_is_told_as_well() {
    let world = World::new(&["a"]);
    let mut asked = 0;
    let script = script(&world, move |_| {
        asked += 1;
        match asked {
            1 => Some(Reply::refused()),
            2 => Some(Reply::page(503).with_retry_after(20)),
            _ => None,
        }
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    let asked = script.asked();
    let pause = asked[2].at - asked[1].at;
    assert!((seconds(20)..=seconds(22)).contains(&pause), "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn k01_half_a_minute_of_health_counts_however_the_watch_ends() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    let away = Arc::new(AtomicBool::new(true));
    let (is_away, probes_fail) = (Arc::clone(&away), Arc::new(AtomicBool::new(false)));
    let fail = Arc::clone(&probes_fail);
    let script = script(&world, move |asked| {
        let away = is_away.load(Ordering::Relaxed);
        let fails = asked.is_for() == For::Probe && fail.load(Ordering::Relaxed);
        (away || fails).then(|| Reply::status(500, "InternalError", "boom"))
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(120)).await;
    away.store(false, Ordering::Relaxed);
    consumer.until("connected").await;
    consumer.run(seconds(31)).await;
    // It worked for long enough; that it is in doubt when it breaks does not take that back.
    probes_fail.store(true, Ordering::Relaxed);
    consumer.until("Refused").await;
    let before = script.asked_for(For::Watch).len();
    world.end_watches(true);
    consumer.run(Duration::from_millis(600)).await;
    assert_eq!(script.asked_for(For::Watch).len(), before + 1, "the first pause again");
}

#[tokio::test(start_paused = true)]
async fn k01_watches_that_end_in_order_after_their_time_do_not_lengthen_pauses() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    let script = script(&world, |asked| {
        (asked.is_for() == For::Probe).then(|| Reply::status(500, "InternalError", "boom"))
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("Refused").await;
    for _ in 0..8 {
        consumer.run(seconds(60)).await;
        let before = script.asked_for(For::Watch).len();
        world.end_watches(false);
        consumer.run(Duration::from_millis(10)).await;
        assert_eq!(script.asked_for(For::Watch).len(), before + 1, "taken up at once");
    }
}

#[tokio::test(start_paused = true)]
async fn k12_a_portal_that_stays_is_left_within_2_seconds() {
    let world = World::new(&["a"]);
    let (script, switch) = switched(&world, |_| Reply::page(200));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(60)).await;
    assert_eq!(consumer.times("init"), 0);
    switch.set(false);
    let back = Instant::now();
    consumer.until("connected").await;
    assert!(back.elapsed() <= seconds(2));
    assert!(
        !script.asked().last().unwrap().accept.contains("protobuf"),
        "it may have been the type asked for"
    );
}

#[tokio::test(start_paused = true)]
async fn k13_retry_after_is_honoured_up_to_30_seconds_and_shown() {
    for (code, said, at_least, at_most) in [(429, 600, 30, 33), (503, 7, 7, 8)] {
        let world = World::new(&["a"]);
        let refusal = Reply::status(code, "TooManyRequests", "later").with_retry_after(said);
        let script = script(&world, first(For::StreamingList, vec![refusal]));
        let mut consumer = Consumer::new(&script);
        consumer.until("Refused").await;
        consumer.run(seconds(1)).await;
        assert_eq!(consumer.counts().retry_after(), seconds(said), "as the server said it");
        assert_eq!(consumer.counts().phase(), SourcePhase::Paused);
        consumer.until("connected").await;
        let asked = script.asked();
        let pause = asked[1].at - asked[0].at;
        assert!((seconds(at_least)..=seconds(at_most)).contains(&pause), "{pause:?} for {said}");
        assert_eq!(consumer.counts().retry_after(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn k13_a_server_that_says_at_once_for_ever_is_not_asked_in_a_hot_loop() {
    let script = Script::new(|_| Reply::status(429, "TooManyRequests", "").with_retry_after(0));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(300)).await;
    let asked = script.asked().len();
    assert!((10..=22).contains(&asked), "{asked} attempts");
}

#[tokio::test(start_paused = true)]
async fn k14_a_storm_of_errors_is_met_with_longer_and_longer_pauses_and_told() {
    let world = World::new(&["a"]);
    let (script, switch) = switched(&world, |_| Reply::status(500, "InternalError", "boom"));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(600)).await;
    let asked = script.asked().len();
    assert!((20..=45).contains(&asked), "{asked} attempts in 10 minutes");
    assert_eq!(consumer.times("Refused"), asked);
    assert!(consumer.told()[0].contains("HTTP 500 InternalError: boom"), "{:?}", consumer.told()[0]);
    switch.set(false);
    consumer.until("connected").await;
    assert!(consumer.began.elapsed() <= seconds(631));
}

#[tokio::test(start_paused = true)]
async fn the_recovery_of_one_kind_shortens_the_pauses_of_the_others() {
    let world = World::new(&["a"]);
    let (script, switch) = switched(&world, |_| Reply::status(500, "InternalError", "boom"));
    let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
    let mut consumers: Vec<_> = (0..9).map(|_| Consumer::of(source.clone())).collect();
    tokio::time::sleep(seconds(300)).await;
    switch.set(false);
    let mut times = Vec::new();
    for consumer in &mut consumers {
        consumer.until("connected").await;
        times.push(consumer.story.last().unwrap().0);
    }
    let spread = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    assert!(spread <= seconds(1), "the first takes all others along: {times:?}");
}
