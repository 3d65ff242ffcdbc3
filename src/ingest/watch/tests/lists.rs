//! Complete lists: K-03, K-07, K-08, K-11, K-22, K-25, K-26, K-37.

use super::*;

/// A server that has to be asked for pages.
fn paged(names: &[&str]) -> World {
    World::new(names).streaming(Streams::Refused)
}

fn two_per_page() -> SourceLimits {
    let mut limits = SourceLimits::default();
    limits.sizes.page_objects = 2;
    limits
}

#[tokio::test(start_paused = true)]
async fn k03_a_list_that_is_not_answered_is_given_up_after_30_seconds() {
    let world = paged(&["a"]);
    let script = script(&world, first(For::FirstPage, vec![Reply::Never]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    let (at, failure) = consumer.story[0].clone();
    assert_eq!(at, seconds(30));
    assert_eq!(
        failure,
        "Unreachable(\"list of Namespaces (/api/v1/namespaces at test:6443): no complete page within 30s\")"
    );
    assert_eq!(consumer.told()[1..], ["init", "done first", "connected"]);
    let asked = script.asked_for(For::FirstPage);
    assert!(asked[1].at - asked[0].at <= Duration::from_millis(30_500));
}

#[tokio::test(start_paused = true)]
async fn k03_a_streaming_list_without_headers_is_given_up_after_10_seconds_and_read_in_pages() {
    let world = World::new(&["a"]);
    let script = script(&world, first(For::StreamingList, vec![Reply::Never]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.story[0].0, seconds(10));
    assert!(consumer.story[0].1.starts_with("Unreachable"));
    let asked: Vec<_> = script.asked().iter().map(Asked::is_for).collect();
    assert_eq!(asked, [For::StreamingList, For::FirstPage, For::Watch]);
}

#[tokio::test(start_paused = true)]
async fn k07_a_slow_list_is_read_as_long_as_each_page_comes_in_time() {
    let world = paged(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    let slow = world.clone();
    let script = Script::new(move |asked| match asked.is_for() {
        For::FirstPage | For::NextPage => slow.answer(asked).after(seconds(20)),
        _ => slow.answer(asked),
    });
    let mut consumer = Consumer::with(&script, two_per_page());
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "done first", "connected"]);
    assert_eq!(consumer.story[1].0, seconds(100), "five pages of 20 s");
    assert_eq!(consumer.held, world.truth());
}

#[tokio::test(start_paused = true)]
async fn k08_a_list_that_drips_is_given_up() {
    let world = paged(&["a"]);
    let drips = (0..600).flat_map(|_| [Piece::Wait(seconds(1)), Piece::Bytes(b" ".to_vec())]);
    let drip = Reply::body("application/json", drips.collect());
    let script = script(&world, first(For::FirstPage, vec![drip]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.story[0].0, seconds(10));
    assert!(consumer.story[0].1.contains("fewer than 1024 bytes within 10s"), "{:?}", consumer.story);
    assert_eq!(consumer.told()[1..], ["init", "done first", "connected"]);
}

#[tokio::test(start_paused = true)]
async fn k11_pages_that_expired_begin_the_list_again_at_once_and_not_for_ever() {
    let world = paged(&["a", "b", "c"]);
    let gone = || Reply::status(410, "Expired", "the continue token has expired");
    let script = script(&world, first(For::NextPage, vec![gone(), gone()]));
    let mut consumer = Consumer::with(&script, two_per_page());
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "init", "init", "done first", "connected"]);
    assert_eq!(consumer.story[3].0, Duration::ZERO, "at once");
    assert_eq!(consumer.held, world.truth());
    assert_eq!(consumer.counts().restarts(), 2);
}

#[tokio::test(start_paused = true)]
async fn k11_pages_that_always_expire_back_off_and_keep_what_is_held() {
    let world = paged(&["a", "b", "c"]);
    let gone = || Reply::status(410, "Expired", "the continue token has expired");
    let lists = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&lists);
    let script = script(&world, move |asked| match asked.is_for() {
        For::FirstPage => {
            let lists = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(lists < 1000, "begun again without end");
            None
        }
        For::NextPage if seen.load(std::sync::atomic::Ordering::Relaxed) > 1 => Some(gone()),
        _ => None,
    });
    let mut consumer = Consumer::with(&script, two_per_page());
    consumer.until("connected").await;
    let held = consumer.held.clone();
    consumer.source.control.relist(ListReason::Requested);
    consumer.run(seconds(600)).await;
    assert_eq!(consumer.held, held);
    assert!(consumer.times("Refused") >= 10);
    let lists = lists.load(std::sync::atomic::Ordering::Relaxed);
    assert!(lists <= 160, "four tries per pause: {lists} lists in 10 minutes");
}

#[tokio::test(start_paused = true)]
async fn k22_what_is_no_list_of_this_kind_is_an_error_and_not_an_empty_cluster() {
    let world = paged(&["a"]);
    let bad = |body: &str| Reply::body("application/json", vec![Piece::Bytes(body.as_bytes().to_vec())]);
    let replies = vec![
        bad(r#"{"kind":"NamespaceList","apiVersion":"v1","metadata":{},"items":[]}"#),
        bad(r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"11"},"items":[]}"#),
        bad("{}"),
        bad(""),
        Reply::body("application/json", Vec::new()),
    ];
    let mut replies = first(For::FirstPage, replies);
    let mut lists = 0;
    let script = script(&world, move |asked| {
        lists += usize::from(asked.is_for() == For::FirstPage);
        if lists > 1 { replies(asked) } else { None }
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.source.control.relist(ListReason::Requested);
    consumer.until("done requested").await;
    assert_eq!(consumer.times("Refused"), 5);
    assert_eq!(consumer.times("init"), 2, "nothing of them was told");
    assert_eq!(consumer.held, world.truth());
}

#[tokio::test(start_paused = true)]
async fn k25_a_server_that_ignores_streaming_lists_is_asked_for_pages_in_10_seconds_and_remembered() {
    let world = World::new(&["a", "b"]).streaming(Streams::Ignored);
    let script = script(&world, |_| None);
    let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
    let mut consumer = Consumer::of(source.clone());
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "init", "done first", "connected"], "and no failure");
    assert_eq!(consumer.held, world.truth());
    let asked = script.asked_for(For::FirstPage);
    assert!(asked[0].at - consumer.began <= seconds(10));
    let mut other = Consumer::of(source.clone());
    other.until("connected").await;
    assert_eq!(script.asked_for(For::StreamingList).len(), 1, "the other kinds know");
    tokio::time::advance(seconds(3600)).await;
    let mut later = Consumer::of(source);
    later.until("connected").await;
    assert_eq!(script.asked_for(For::StreamingList).len(), 2, "asked again after an hour");
}

#[tokio::test(start_paused = true)]
async fn k25_a_server_that_refuses_streaming_lists_is_asked_for_pages_at_once() {
    for code in [400, 405, 422, 501] {
        let world = paged(&["a"]);
        let refusal = Reply::status(code, "Invalid", "sendInitialEvents: Forbidden");
        let script = script(&world, first(For::StreamingList, vec![refusal]));
        let mut consumer = Consumer::new(&script);
        consumer.until("connected").await;
        assert_eq!(consumer.told(), ["init", "done first", "connected"], "{code}");
        assert_eq!(consumer.story[1].0, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn k25_a_busy_server_that_ignores_streaming_lists_is_found_out_as_well() {
    let world = World::new(&["a", "b"]).streaming(Streams::Ignored);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    for n in 0..40 {
        consumer.run(seconds(1)).await;
        world.set("a", &format!("n{n}{}", "x".repeat(2000)));
    }
    consumer.run(seconds(1)).await;
    assert_eq!(consumer.times("connected"), 1);
    assert!(script.asked_for(For::FirstPage)[0].at - consumer.began <= seconds(31));
    assert_eq!(consumer.held, world.truth());
}

#[tokio::test(start_paused = true)]
async fn k26_a_withheld_bookmark_leads_to_pages() {
    let world = World::new(&["a"]).streaming(Streams::Withheld);
    let script = script(&world, |_| None);
    let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
    let mut consumer = Consumer::of(source.clone());
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "init", "done first", "connected"]);
    assert!(consumer.story[2].0 <= seconds(30));
    let mut other = Consumer::of(source.clone());
    other.until("connected").await;
    assert_eq!(script.asked_for(For::StreamingList).len(), 1);
    tokio::time::advance(seconds(600)).await;
    let mut later = Consumer::of(source);
    later.until("connected").await;
    assert_eq!(script.asked_for(For::StreamingList).len(), 2, "it may have been a bad moment");
}

#[tokio::test(start_paused = true)]
async fn what_changes_during_a_streaming_list_is_part_of_it() {
    let world = World::new(&["a"]).streaming(Streams::Withheld);
    let encoding = Encoding::Json;
    let event = |kind, name, network, revision| {
        Piece::Bytes(form::event(encoding, kind, &Space::new(name, network, revision)))
    };
    let body = vec![
        event("ADDED", "a", "n0", 1),
        event("ADDED", "b", "n0", 2),
        event("ADDED", "c", "n0", 3),
        event("DELETED", "b", "n0", 11),
        event("DELETED", "c", "n0", 12),
        event("ADDED", "c", "n2", 13),
        event("MODIFIED", "a", "n1", 14),
        Piece::Bytes(form::bookmark(encoding, "14", true)),
        Piece::Hang,
    ];
    let script = script(&world, first(For::StreamingList, vec![Reply::body("application/json", body)]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    let held: Vec<_> = consumer.held.iter().map(|(name, network)| format!("{name}={network}")).collect();
    assert_eq!(held, ["a=n1", "c=n2"]);
    assert_eq!(consumer.told(), ["init", "done first", "connected"], "nothing appears to go away at once");
}

#[tokio::test(start_paused = true)]
async fn k37_a_page_that_is_too_large_is_not_read_and_smaller_ones_are_asked_for() {
    assert_eq!((Sizes::default().page, Sizes::default().frame), (64 << 20, 8 << 20));
    let names: Vec<_> = (0..100).map(|n| format!("space-{n:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let world = paged(&names).speaking(Encoding::Json);
    let script = script(&world, |_| None);
    let mut limits = SourceLimits::default();
    limits.sizes.page_objects = 100;
    limits.sizes.page = 10_000;
    let mut consumer = Consumer::with(&script, limits);
    consumer.until("connected").await;
    assert!(consumer.told()[0].contains("a page has more than 10000 bytes"), "{:?}", consumer.told());
    assert_eq!(consumer.held, world.truth());
    assert_eq!(consumer.counts().failures(), 1);
    let limits: Vec<_> = script.asked_for(For::FirstPage);
    let limits: Vec<_> = limits.iter().filter_map(|asked| asked.parameter("limit")).collect();
    assert_eq!(limits, ["100", "25"]);
    // What fits well enough stays as it is.
    consumer.source.control.relist(ListReason::Requested);
    consumer.until("done requested").await;
    assert_eq!(script.asked_for(For::FirstPage)[2].parameter("limit"), Some("25"));
}

/// A body of so many bytes that is no list.
fn garbage(bytes: usize) -> Reply {
    Reply::body("application/json", vec![Piece::Bytes(vec![b'x'; bytes])])
}

fn limits_asked_for(script: &Script) -> Vec<String> {
    let asked = script.asked_for(For::FirstPage);
    asked.iter().map(|asked| asked.parameter("limit").unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn k37_pages_grow_again_when_lists_leave_room() {
    let names: Vec<_> = (0..100).map(|n| format!("space-{n:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let world = paged(&names).speaking(Encoding::Json);
    let script = script(&world, first(For::FirstPage, vec![garbage(1_000_001), garbage(1_000_001)]));
    let mut limits = SourceLimits::default();
    limits.sizes.page_objects = 100;
    limits.sizes.page = 1_000_000;
    let mut consumer = Consumer::with(&script, limits);
    consumer.until("connected").await;
    for _ in 0..3 {
        consumer.source.control.relist(ListReason::Requested);
        consumer.until("done requested").await;
    }
    assert_eq!(limits_asked_for(&script), ["100", "25", "6", "24", "96", "100"]);
}

#[tokio::test(start_paused = true)]
async fn k37_garbage_does_not_lead_to_pages_of_one_object() {
    let page = 8 << 20;
    let world = paged(&["a"]);
    let script = script(&world, first(For::FirstPage, (0..3).map(|_| garbage(page + 1)).collect()));
    let mut limits = SourceLimits::default();
    limits.sizes.page_objects = 9;
    limits.sizes.page = page;
    let mut consumer = Consumer::with(&script, limits);
    consumer.until("connected").await;
    assert_eq!(limits_asked_for(&script), ["9", "2", "2", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_protobuf_is_read_as_json_from_then_on() {
    for refusal in [Reply::status(406, "NotAcceptable", "json"), Reply::status(415, "", "")] {
        let world = World::new(&["a"]);
        let script = script(&world, first(For::StreamingList, vec![refusal]));
        let mut consumer = Consumer::new(&script);
        consumer.until("connected").await;
        assert_eq!(consumer.told(), ["init", "done first", "connected"]);
        let accepts: Vec<_> = script.asked().iter().map(|asked| asked.accept.contains("protobuf")).collect();
        assert_eq!(accepts, [true, false]);
    }
}

/// A page of one namespace that says where the next one is.
fn page_with(next: &str, name: &str) -> Reply {
    let body = form::list(Encoding::Json, "10", next, &[Space::new(name, "n0", 1)]);
    Reply::body("application/json", vec![Piece::Bytes(body)])
}

#[tokio::test(start_paused = true)]
async fn pages_that_lead_back_to_themselves_are_a_failure_and_no_loop() {
    let script = Script::new(|asked| match asked.is_for() {
        For::FirstPage | For::NextPage => page_with("same", "a"),
        _ => Reply::status(422, "Invalid", "no"),
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(60)).await;
    assert!(script.asked().len() < 40, "{} requests", script.asked().len());
    assert!(consumer.told()[1].contains("names itself as the next one"), "{:?}", consumer.told());
    assert_eq!(consumer.times("done"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_is_a_failure_whether_in_pages_or_as_a_stream() {
    let mut limits = SourceLimits::default();
    limits.sizes.list_objects = 100;
    let mut n = 0;
    let script = Script::new(move |asked| {
        n += 1;
        match asked.is_for() {
            For::FirstPage | For::NextPage => page_with(&format!("t{n}"), "a"),
            For::StreamingList => {
                let event = |n| form::event(Encoding::Json, "ADDED", &Space::new(&format!("s{n}"), "n0", n));
                let events = (1..=101).map(|n| Piece::Bytes(event(n)));
                let end = Piece::Bytes(form::bookmark(Encoding::Json, "200", true));
                Reply::body("application/json", events.chain([end]).collect())
            }
            _ => Reply::Never,
        }
    });
    let mut consumer = Consumer::with(&script, limits);
    consumer.until("Refused").await;
    assert!(consumer.told().last().unwrap().contains("more than 100 objects"), "{:?}", consumer.told());
    consumer.until("Refused").await;
    assert_eq!(script.asked_for(For::FirstPage).len(), 1);
    assert_eq!(script.asked_for(For::NextPage).len(), 100);
    assert_eq!(consumer.times("done"), 0);
}

#[tokio::test(start_paused = true)]
async fn k08_a_body_that_comes_too_slowly_casts_doubt_on_its_connection() {
    let world = paged(&["a"]);
    let drip = || Reply::body("application/json", vec![Piece::Bytes(b"{".to_vec()), Piece::Hang]);
    let other = world.clone();
    let script = Script::pinned(
        || true,
        move |asked| if asked.is_for() == For::StreamingList { other.answer(asked) } else { drip() },
        move |asked| world.answer(asked),
    );
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert!(consumer.began.elapsed() <= seconds(11), "{:?}", consumer.began.elapsed());
    assert_eq!(script.suspected(), 1);
}
