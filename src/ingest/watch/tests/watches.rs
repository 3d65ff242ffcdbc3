//! Watches: K-04, K-09, K-10, K-23, K-27, K-37.

use super::*;

fn paged(names: &[&str]) -> World {
    World::new(names).streaming(Streams::Refused)
}

/// A watch that brings these frames, in JSON, and then nothing.
fn frames(frames: Vec<Vec<u8>>) -> Reply {
    let pieces = frames.into_iter().map(Piece::Bytes).chain([Piece::Hang]);
    Reply::body("application/json", pieces.collect())
}

fn event(kind: &str, name: &str, network: &str, revision: u64) -> Vec<u8> {
    form::event(Encoding::Json, kind, &Space::new(name, network, revision))
}

#[tokio::test(start_paused = true)]
async fn k04_a_watch_that_is_not_answered_is_given_up_after_10_seconds() {
    let world = paged(&["a"]);
    let script = script(&world, first(For::Watch, vec![Reply::Never]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.told()[..2], ["init", "done first"]);
    assert_eq!(consumer.story[2].0, seconds(10));
    assert!(consumer.story[2].1.starts_with("Unreachable(\"watch of Namespaces"), "{:?}", consumer.story);
    assert!(consumer.story[3].0 <= seconds(11), "{:?}", consumer.story);
    assert_eq!(script.asked_for(For::FirstPage).len(), 1, "the list still holds");
}

#[tokio::test(start_paused = true)]
async fn k05_a_watch_that_shows_nothing_until_after_its_end_is_dead() {
    let world = paged(&["a"]);
    // No probes: what is left is the idle limit.
    let mut limits = SourceLimits::default();
    limits.deadlines.silence = seconds(100_000);
    limits.deadlines.first_silence = seconds(100_000);
    let script = script(&world, first(For::Watch, vec![frames(Vec::new())]));
    let mut consumer = Consumer::with(&script, limits);
    consumer.run(seconds(400)).await;
    let watches = script.asked_for(For::Watch);
    let timeout: u64 = watches[0].parameter("timeoutSeconds").unwrap().parse().unwrap();
    assert!((240..=360).contains(&timeout), "{timeout}");
    assert_eq!(watches[1].at - watches[0].at, seconds(timeout + 5));
    assert_eq!(consumer.times("Unreachable"), 0, "taken up without a word");
}

#[tokio::test(start_paused = true)]
async fn k05_the_ends_of_watches_are_spread() {
    let world = paged(&["a"]);
    let mut timeouts = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let script = script(&world, |_| None);
        let mut consumer = Consumer::new(&script);
        consumer.until("connected").await;
        timeouts.insert(script.asked_for(For::Watch)[0].parameter("timeoutSeconds").unwrap().to_owned());
    }
    assert!(timeouts.len() > 5, "{timeouts:?}");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_or_break_after_a_healthy_time_are_taken_up_without_a_trace() {
    for broken in [false, true] {
        let world = paged(&["a"]);
        let script = script(&world, |_| None);
        let mut consumer = Consumer::new(&script);
        consumer.until("connected").await;
        consumer.run(seconds(31)).await;
        world.end_watches(broken);
        world.set("a", "n1");
        consumer.until("apply a=n1").await;
        assert_eq!(consumer.told(), ["init", "done first", "connected", "apply a=n1"]);
        assert_eq!(consumer.story[3].0, seconds(31), "at once");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_not_taken_up_in_a_hot_loop() {
    let world = paged(&["a"]);
    let script = script(&world, |asked| {
        (asked.is_for() == For::Watch).then(|| Reply::body("application/json", Vec::new()))
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(300)).await;
    let watches = script.asked_for(For::Watch).len();
    // Half a second that doubles to 30, of each step half at least: all pauses the longest, all the shortest.
    assert!((15..=27).contains(&watches), "{watches} watches in 5 minutes");
    assert!(consumer.times("Refused") > 1, "and it is said: {:?}", consumer.told());
}

#[tokio::test(start_paused = true)]
async fn k09_an_expired_revision_told_as_a_status_leads_to_a_new_list_at_once() {
    let world = paged(&["a"]);
    let script = script(&world, first(For::Watch, vec![Reply::status(410, "Expired", "too old")]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "done first", "init", "done expired", "connected"]);
    assert_eq!(consumer.story[3].0, Duration::ZERO, "at once");
    assert_eq!(consumer.counts().relists(ListReason::Expired), 1);
}

#[tokio::test(start_paused = true)]
async fn k10_an_expired_revision_told_in_the_stream_leads_to_a_new_list_and_old_data_serve_meanwhile() {
    let world = paged(&["a", "b"]);
    let slow = world.clone();
    let script = Script::new(move |asked| match asked.is_for() {
        For::FirstPage if slow.revision() > 10 => slow.answer(asked).after(seconds(20)),
        _ => slow.answer(asked),
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.run(seconds(40)).await;
    world.end_watches(true);
    world.delete("b");
    world.set("c", "n1");
    world.compact();
    consumer.run(seconds(10)).await;
    assert_eq!(consumer.names(), ["a", "b"], "until the list is complete");
    consumer.until("done expired").await;
    assert_eq!(consumer.held, world.truth());
    assert_eq!(consumer.times("Unreachable") + consumer.times("Refused"), 0);
}

#[tokio::test(start_paused = true)]
async fn k10_revisions_that_always_expire_are_not_listed_in_a_hot_loop() {
    let world = paged(&["a"]);
    let script = script(&world, |asked| {
        (asked.is_for() == For::Watch).then(|| frames(vec![form::error(410, "Expired", "too old")]))
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(300)).await;
    let lists = script.asked_for(For::FirstPage).len();
    // As the watches above, and the one that follows at once.
    assert!((16..=28).contains(&lists), "{lists} lists in 5 minutes");
    assert_eq!(consumer.held, world.truth());
    // The first list follows at once; each one after it is waited for, and that is said.
    assert_eq!(consumer.times("Refused"), lists - 1, "{:?}", consumer.told());
    assert!(
        consumer.told().last().unwrap().contains("no watch that works (expired)"),
        "{:?}",
        consumer.told()
    );
    assert_eq!(consumer.counts().phase(), SourcePhase::Paused);
}

#[tokio::test(start_paused = true)]
async fn k23_errors_in_the_stream_are_told_apart() {
    // code, reason, message; whether the list still holds.
    let table = [
        (500, "InternalError", "boom", true),
        (500, "InternalError", "etcdserver: mvcc: required revision has been compacted", false),
        (504, "Timeout", "Too large resource version: 99, current: 10", true),
        (429, "TooManyRequests", "later", true),
        (503, "ServiceUnavailable", "later", true),
        (410, "Gone", "old", false),
        (400, "Expired", "old", false),
        (0, "", "", true),
    ];
    for (code, reason, message, holds) in table {
        let world = paged(&["a"]);
        let error = frames(vec![event("MODIFIED", "a", "n1", 11), form::error(code, reason, message)]);
        world.set("a", "n1");
        let mut fault = Some(error);
        let mut lists = 0;
        let inner = world.clone();
        let script = Script::new(move |asked| match asked.is_for() {
            For::FirstPage => {
                lists += 1;
                // The first list is older than the event.
                let a = Space::new("a", if lists == 1 { "n0" } else { "n1" }, 10 + u64::from(lists > 1));
                let body = form::list(Encoding::Json, if lists == 1 { "10" } else { "11" }, "", &[a]);
                Reply::body("application/json", vec![Piece::Bytes(body)])
            }
            For::Watch => fault.take().unwrap_or_else(|| inner.answer(asked)),
            _ => inner.answer(asked),
        });
        let mut consumer = Consumer::new(&script);
        consumer.run(seconds(40)).await;
        let lists = script.asked_for(For::FirstPage).len();
        assert_eq!(lists, if holds { 1 } else { 2 }, "{code} {reason} {message}");
        let watches = script.asked_for(For::Watch);
        assert_eq!(watches[1].parameter("resourceVersion"), Some("11"), "from the last revision");
        assert_eq!(consumer.times("Refused"), usize::from(holds), "{code} {:?}", consumer.told());
        assert_eq!(consumer.held, world.truth());
        assert_eq!(consumer.told().last(), Some(if holds { &"connected" } else { &"done expired" }));
    }
}

#[tokio::test(start_paused = true)]
async fn k23_a_revision_that_stays_too_large_is_listed_anew() {
    let world = paged(&["a"]);
    let ahead = || Reply::status(504, "Timeout", "Too large resource version: 99, current: 10");
    let script = script(&world, first(For::Watch, vec![ahead(), ahead()]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.times("Refused"), 1);
    assert_eq!(consumer.times("done regressed"), 1);
}

#[tokio::test(start_paused = true)]
async fn k27_events_told_twice_or_for_unknown_objects_do_no_harm() {
    let world = paged(&["a", "b"]);
    let watch = frames(vec![
        event("ADDED", "a", "n1", 11),
        event("MODIFIED", "new", "n2", 12),
        event("DELETED", "never", "n0", 13),
        event("MODIFIED", "a", "n3", 14),
        event("MODIFIED", "a", "n3", 14),
        event("ADDED", "a", "n1", 11),
        event("DELETED", "b", "n0", 15),
        event("DELETED", "b", "n0", 15),
    ]);
    let script = script(&world, first(For::Watch, vec![watch]));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(1)).await;
    let told = ["apply a=n1", "apply new=n2", "delete never", "apply a=n3", "delete b"];
    assert_eq!(consumer.told()[3..], told);
    assert_eq!(consumer.counts().duplicates(), 3);
    assert_eq!(script.asked_for(For::FirstPage).len(), 1, "no list is needed");
}

#[tokio::test(start_paused = true)]
async fn k27_events_out_of_order_are_settled_by_a_list_and_nothing_is_resurrected() {
    let world = paged(&["a", "b"]);
    let mut shuffled = Some(frames(vec![event("DELETED", "b", "n0", 14), event("MODIFIED", "b", "n9", 12)]));
    let inner = world.clone();
    let script = Script::new(move |asked| match asked.is_for() {
        For::Watch => shuffled.take().unwrap_or_else(|| inner.answer(asked)),
        For::FirstPage => {
            let listed = inner.answer(asked);
            inner.delete("b");
            inner.move_on(20);
            listed
        }
        _ => inner.answer(asked),
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("done disordered").await;
    assert_eq!(consumer.times("apply"), 0, "the older event is not told");
    assert_eq!(consumer.held, world.truth());
}

#[tokio::test(start_paused = true)]
async fn k37_a_line_without_end_is_cut_off_and_the_state_stays() {
    let world = paged(&["a"]);
    let mut limits = SourceLimits::default();
    limits.sizes.frame = 10_000;
    let endless = || {
        let pieces = (0..100).map(|_| Piece::Bytes(vec![b'x'; 1000]));
        Reply::body("application/json", pieces.collect())
    };
    let script = script(&world, first(For::Watch, vec![endless(), endless(), endless()]));
    let mut consumer = Consumer::with(&script, limits);
    consumer.until("done unreadable").await;
    consumer.until("connected").await;
    assert_eq!(consumer.times("Refused"), 3);
    assert!(consumer.told()[3].contains("more than 10000 bytes"), "{:?}", consumer.told());
    assert_eq!(consumer.held, world.truth());
    assert_eq!(consumer.counts().failures(), 3);
    assert!(consumer.counts().bytes_in() < 40_000, "{} bytes were read", consumer.counts().bytes_in());
}

#[tokio::test(start_paused = true)]
async fn k04_the_second_silence_casts_doubt_on_the_connection() {
    let world = paged(&["a"]);
    let other = world.clone();
    let script = Script::pinned(
        || true,
        move |asked| if asked.is_for() == For::Watch { Reply::Never } else { other.answer(asked) },
        move |asked| world.answer(asked),
    );
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert!(consumer.began.elapsed() <= seconds(22), "two deadlines: {:?}", consumer.began.elapsed());
    assert_eq!(script.suspected(), 1);
    assert_eq!(script.asked_for(For::FirstPage).len(), 1, "the list still holds");
}

#[tokio::test(start_paused = true)]
async fn a_watch_after_a_failure_is_not_believed_for_the_sake_of_a_list_before_it() {
    let world = paged(&["a"]);
    let mut watches = 0;
    let script = script(&world, move |asked| match asked.is_for() {
        For::Watch => {
            watches += 1;
            Some(if watches == 1 { Reply::page(502) } else { frames(Vec::new()) })
        }
        For::Probe => Some(Reply::Never),
        _ => None,
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(60)).await;
    assert_eq!(consumer.times("connected"), 0, "nothing says that it works: {:?}", consumer.told());
}

#[tokio::test(start_paused = true)]
async fn d32_where_revisions_are_no_numbers_what_was_told_is_not_told_again() {
    let events = [
        event_at("ADDED", "b", "n1", "e1"),
        event_at("MODIFIED", "a", "n1", "e2"),
        event_at("DELETED", "b", "n1", "e3"),
    ];
    let mut lists = 0;
    let script = Script::new(move |asked| match asked.is_for() {
        For::FirstPage => {
            lists += 1;
            let a = Space::new("a", if lists == 1 { "n0" } else { "n1" }, 1);
            let body = form::list(Encoding::Json, if lists == 1 { "l1" } else { "l2" }, "", &[a]);
            Reply::body("application/json", vec![Piece::Bytes(body)])
        }
        // From l1 on, all of it, time and again.
        For::Watch if asked.parameter("resourceVersion") == Some("l1") => {
            let pieces = events.iter().cloned().map(Piece::Bytes).chain([Piece::Wait(seconds(40))]);
            Reply::body("application/json", pieces.collect())
        }
        For::Watch => frames(Vec::new()),
        For::StreamingList => Reply::status(422, "Invalid", "no"),
        _ => Reply::Never,
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("done opaque").await;
    assert_eq!(consumer.times("apply"), 2, "{:?}", consumer.told());
    assert_eq!(consumer.times("delete"), 1);
    consumer.run(seconds(30)).await;
    assert_eq!(consumer.names(), ["a"]);
}

/// An event whose revision is no number.
fn event_at(kind: &str, name: &str, network: &str, revision: &str) -> Vec<u8> {
    let text = String::from_utf8(event(kind, name, network, 987_654)).unwrap();
    text.replace("987654", revision).into_bytes()
}

#[tokio::test(start_paused = true)]
async fn k38_an_event_of_nobody_knows_what_is_made_up_for_by_a_list() {
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        let world = paged(&["a", "b"]);
        let nameless = event(kind, "", "", 50);
        let script = script(&world, first(For::Watch, vec![frames(vec![nameless])]));
        let mut consumer = Consumer::new(&script);
        consumer.until("done unreadable").await;
        assert_eq!(script.asked_for(For::FirstPage).len(), 2, "{kind}");
        assert_eq!(consumer.times("delete"), 0, "{:?}", consumer.story);
    }
}
