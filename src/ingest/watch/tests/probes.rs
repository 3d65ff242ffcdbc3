//! Watches that look alive: K-05, K-06, K-19.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn paged(names: &[&str]) -> World {
    World::new(names).streaming(Streams::Refused)
}

fn silent() -> Reply {
    Reply::body("application/json", vec![Piece::Hang])
}

#[tokio::test(start_paused = true)]
async fn k05_an_idle_watch_is_probed_each_minute_and_its_consumer_knows_that_nothing_is_missed() {
    let world = World::new(&["a"]);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.run(seconds(200)).await;
    assert_eq!(script.asked_for(For::Probe).len(), 4);
    assert_eq!(consumer.times("idle"), 4);
    let counts = consumer.counts();
    assert!(counts.last_contact_age(Instant::now().into_std()).unwrap() <= seconds(60));
    assert!(counts.last_event_age(Instant::now().into_std()).unwrap() >= seconds(200));
    // Bookmarks that move on make probes unnecessary.
    for n in 1..=6 {
        world.move_on(100 + n);
        world.bookmark();
        consumer.run(seconds(30)).await;
    }
    assert_eq!(script.asked_for(For::Probe).len(), 4);
    assert_eq!(consumer.times("idle"), 10);
}

#[tokio::test(start_paused = true)]
async fn k05_a_watch_that_does_not_show_the_probed_revision_is_replaced_in_150_seconds() {
    let world = paged(&["a"]);
    let mut swallow = Some(silent());
    let inner = world.clone();
    let script = Script::new(move |asked| match asked.is_for() {
        For::Watch => swallow.take().unwrap_or_else(|| inner.answer(asked)),
        _ => inner.answer(asked),
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    world.set("a", "n1");
    consumer.until("apply a=n1").await;
    let watches = script.asked_for(For::Watch);
    assert!(watches[1].at - watches[0].at <= seconds(151));
    assert_eq!(watches[1].parameter("resourceVersion"), Some("10"), "from the last revision");
    assert_eq!(script.asked_for(For::FirstPage).len(), 1, "no list is needed");
}

#[tokio::test(start_paused = true)]
async fn k05_watches_that_never_show_anything_end_in_a_list() {
    let world = paged(&["a"]);
    let script = script(&world, |asked| (asked.is_for() == For::Watch).then(silent));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    world.set("a", "n1");
    consumer.until("done silent").await;
    assert_eq!(consumer.held, world.truth());
    assert!(consumer.began.elapsed() <= seconds(460), "{:?}", consumer.began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn k06_a_server_that_is_dead_behind_an_open_connection_is_noticed() {
    let world = World::new(&["a"]);
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let script = script(&world, move |asked| {
        let dead = is_dead.load(Ordering::Relaxed);
        match asked.is_for() {
            For::Ready => Some(Reply::status(500, "InternalError", "etcd failed")),
            _ if dead => Some(Reply::Never),
            _ => None,
        }
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    dead.store(true, Ordering::Relaxed);
    consumer.until("Unreachable").await;
    assert!(consumer.began.elapsed() <= seconds(71), "{:?}", consumer.began.elapsed());
    consumer.until("Refused").await;
    assert!(consumer.told().last().unwrap().contains("/readyz says 500"), "{:?}", consumer.told());
    assert_eq!(consumer.held, world.truth());
    dead.store(false, Ordering::Relaxed);
    let back = Instant::now();
    consumer.until("connected").await;
    assert!(back.elapsed() <= seconds(45), "{:?}", back.elapsed());
    assert_eq!(script.asked_for(For::StreamingList).len(), 1, "the watch was kept: it was well");
}

#[tokio::test(start_paused = true)]
async fn k06_a_watch_opened_after_a_failure_is_believed_only_when_the_server_reads_its_store() {
    let world = paged(&["a"]);
    let frozen = Arc::new(AtomicBool::new(false));
    let is_frozen = Arc::clone(&frozen);
    let script = script(&world, move |asked| {
        let frozen = is_frozen.load(Ordering::Relaxed);
        match asked.is_for() {
            // 200 and silence, as a server without its store does.
            For::Watch if frozen => Some(silent()),
            For::Probe | For::FirstPage if frozen => Some(Reply::Never),
            _ => None,
        }
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.run(seconds(5)).await;
    frozen.store(true, Ordering::Relaxed);
    world.end_watches(true);
    consumer.run(seconds(60)).await;
    assert_eq!(consumer.times("connected"), 1, "{:?}", consumer.told());
    frozen.store(false, Ordering::Relaxed);
    consumer.until("connected").await;
}

#[tokio::test(start_paused = true)]
async fn k19_an_event_that_overtakes_the_answer_to_a_probe_is_no_step_back() {
    let world = World::new(&["a"]);
    let inner = world.clone();
    let script = script(&world, move |asked| {
        (asked.is_for() == For::Probe).then(|| inner.answer(asked).after(seconds(5)))
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    for _ in 0..100 {
        if !script.asked_for(For::Probe).is_empty() {
            break;
        }
        consumer.run(seconds(1)).await;
    }
    world.set("a", "n1");
    consumer.until("apply a=n1").await;
    consumer.run(seconds(20)).await;
    assert_eq!(script.asked_for(For::Probe).len(), 1);
    assert_eq!(script.asked_for(For::StreamingList).len(), 1, "{:?}", consumer.told());
}

#[tokio::test(start_paused = true)]
async fn k19_a_bookmark_that_goes_back_leads_to_a_list() {
    let world = World::new(&["a", "b"]);
    world.move_on(100);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    world.restore(40, &[Space::new("a", "old", 7), Space::new("c", "n0", 39)]);
    world.bookmark();
    consumer.until("done regressed").await;
    assert_eq!(consumer.held, world.truth());
    assert_eq!(consumer.counts().rv_regressions(), 1);
    assert_eq!(consumer.story.last().unwrap().0, Duration::ZERO, "at once");
    world.set("d", "n4");
    consumer.until("apply d=n4").await;
    assert_eq!(consumer.counts().rv_regressions(), 1);
}

#[tokio::test(start_paused = true)]
async fn k19_an_event_that_goes_back_leads_to_a_list() {
    let world = World::new(&["a", "b"]);
    world.move_on(100);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    world.restore(40, &[Space::new("a", "old", 7)]);
    world.set("c", "n1");
    consumer.until("done regressed").await;
    assert_eq!(consumer.held, world.truth());
    assert_eq!(consumer.counts().rv_regressions(), 1);
}

#[tokio::test(start_paused = true)]
async fn k19_a_restored_server_whose_watches_stay_silent_is_found_by_the_probe_within_a_minute() {
    let world = paged(&["a", "b"]);
    world.move_on(100);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.run(seconds(31)).await;
    // Restored and restarted: the watch from 100 is answered with 200 and silence.
    world.restore(40, &[Space::new("a", "old", 7)]);
    world.end_watches(true);
    let back = Instant::now();
    consumer.until("done regressed").await;
    assert!(back.elapsed() <= seconds(60), "{:?}", back.elapsed());
    assert_eq!(consumer.held, world.truth());
}

#[tokio::test(start_paused = true)]
async fn k19_after_an_outage_the_probe_follows_at_once() {
    let world = paged(&["a", "b"]);
    world.move_on(100);
    let mut refuse = 0;
    let script = script(&world, move |asked| {
        refuse += usize::from(asked.is_for() == For::Watch);
        (asked.is_for() == For::Watch && (2..4).contains(&refuse)).then(Reply::refused)
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.run(seconds(31)).await;
    world.restore(40, &[Space::new("a", "old", 7)]);
    world.end_watches(true);
    let back = Instant::now();
    consumer.until("done regressed").await;
    assert!(back.elapsed() <= seconds(3), "{:?}", back.elapsed());
    assert_eq!(consumer.held, world.truth());
}

#[tokio::test(start_paused = true)]
async fn k19_reads_by_name_find_out_lists_that_lie() {
    let world = World::new(&["a"]);
    // Lists and watches tell the old state; reads by name tell that the object is gone.
    let script = script(&world, |asked| {
        (asked.is_for() == For::Object).then(|| Reply::status(404, "NotFound", "not found"))
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.until("done regressed").await;
    assert!(consumer.began.elapsed() <= seconds(36), "{:?}", consumer.began.elapsed());
    let asked = script.asked();
    let relist = asked.iter().rposition(|asked| asked.is_for() == For::StreamingList).unwrap();
    let looks = asked[..relist].iter().filter(|asked| asked.is_for() == For::Object).count();
    assert_eq!(looks, 2, "once may be chance");
    assert_eq!(consumer.counts().rv_regressions(), 1);
    consumer.until("Refused").await;
    assert!(consumer.told().last().unwrap().contains("contradict"), "{:?}", consumer.told());
    assert!(consumer.began.elapsed() <= seconds(46), "{:?}", consumer.began.elapsed());
    let connected = consumer.times("connected");
    consumer.run(seconds(300)).await;
    assert_eq!(consumer.times("connected"), connected, "as long as lists lie nothing is current");
}

#[tokio::test(start_paused = true)]
async fn k19_reads_by_name_that_agree_or_are_refused_cost_nothing() {
    for refused in [false, true] {
        let world = World::new(&["a", "b", "c"]);
        let script = script(&world, move |asked| {
            (refused && asked.is_for() == For::Object).then(|| Reply::status(403, "Forbidden", "no"))
        });
        let mut consumer = Consumer::new(&script);
        consumer.run(seconds(3600)).await;
        let looks = script.asked_for(For::Object).len();
        let expected = if refused { 5..=8 } else { 140..=185 };
        assert!(expected.contains(&looks), "{looks} looks in an hour");
        assert_eq!(consumer.times("done"), 1);
        assert_eq!(consumer.times("Refused") + consumer.times("Forbidden"), 0, "{:?}", consumer.told());
        assert_eq!(consumer.counts().rv_regressions(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn k19_an_object_that_changes_between_two_looks_proves_nothing() {
    let world = World::new(&["a"]);
    let inner = world.clone();
    let script = script(&world, move |asked| {
        if asked.is_for() != For::Object {
            return None;
        }
        inner.set("a", "again");
        Some(Reply::status(404, "NotFound", "not found").after(seconds(1)))
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(3600)).await;
    assert!(script.asked_for(For::Object).len() >= 100);
    assert_eq!(consumer.times("done"), 1);
}

#[tokio::test(start_paused = true)]
async fn d32_revisions_that_are_no_numbers_switch_the_checks_off_visibly() {
    let page = |revision: &str| {
        let body = form::list(Encoding::Json, revision, "", &[]);
        Reply::body("application/json", vec![Piece::Bytes(body)])
    };
    let script = Script::new(move |asked| match asked.is_for() {
        For::StreamingList => Reply::status(422, "Invalid", "no"),
        For::Watch => Reply::body(
            "application/json",
            vec![
                Piece::Bytes(form::bookmark(Encoding::Json, "zz", false)),
                Piece::Bytes(form::bookmark(Encoding::Json, "aa", false)),
                Piece::Hang,
            ],
        ),
        _ => page("mm"),
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(200)).await;
    assert_eq!(consumer.times("done"), 1, "{:?}", consumer.told());
    let counts = consumer.counts();
    assert_eq!((counts.opaque_revisions(), counts.rv_regressions()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn k06_what_holds_a_connection_open_to_a_dead_server_is_left_behind() {
    let world = World::new(&["a"]);
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let other = world.clone();
    let script = Script::pinned(
        move || is_dead.load(Ordering::Relaxed),
        |_| Reply::Never,
        move |asked| match asked.is_for() {
            // The first one is on the connection that dies.
            For::StreamingList => {
                let mut body = form::event(Encoding::Json, "ADDED", &Space::new("a", "n0", 1));
                body.extend(form::bookmark(Encoding::Json, "10", true));
                Reply::body("application/json", vec![Piece::Bytes(body), Piece::Hang])
            }
            _ => other.answer(asked),
        },
    );
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    dead.store(true, Ordering::Relaxed);
    world.set("a", "n1");
    consumer.until("apply a=n1").await;
    assert!(consumer.began.elapsed() <= seconds(75), "{:?}", consumer.began.elapsed());
    assert_eq!(script.suspected(), 1);
    assert_eq!(script.asked_for(For::FirstPage).len(), 0, "no list is needed");
}

/// A server whose lists and watches go on telling what was before its store was restored; reads by name do not.
fn restored(world: &World, store: &World, by_lists: bool) -> (Arc<Script>, Arc<AtomicBool>) {
    let restored = Arc::new(AtomicBool::new(false));
    let (is_restored, cache, store) = (Arc::clone(&restored), world.clone(), store.clone());
    let script = Script::new(move |asked| {
        let from_store = match asked.is_for() {
            For::Object => true,
            For::Probe | For::FirstPage | For::NextPage => by_lists,
            _ => false,
        };
        if from_store && is_restored.load(Ordering::Relaxed) {
            store.answer(asked)
        } else {
            cache.answer(asked)
        }
    });
    (script, restored)
}

#[tokio::test(start_paused = true)]
async fn k19_g5_a_restore_under_a_quiet_open_watch_is_noticed_and_repaired_within_60_seconds() {
    for wait in [0, 7, 19, 33, 61] {
        // Quorum lists tell the truth, watches stay open and silent: nothing of ours changed since the backup.
        let world = paged(&["a", "b"]);
        world.move_on(100);
        let store = paged(&["a", "b", "c"]);
        store.move_on(40);
        let (script, is_restored) = restored(&world, &store, true);
        let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
        let mut consumers: Vec<_> = (0..5).map(|_| Consumer::of(source.clone())).collect();
        for consumer in &mut consumers {
            consumer.until("connected").await;
        }
        tokio::time::sleep(seconds(wait)).await;
        is_restored.store(true, Ordering::Relaxed);
        let back = Instant::now();
        for consumer in &mut consumers {
            consumer.until("done regressed").await;
            assert_eq!(consumer.held, store.truth());
        }
        assert!(back.elapsed() <= seconds(60), "{:?} after {wait}", back.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn k19_g5_a_restore_that_no_list_shows_is_said_within_60_seconds() {
    for deleted in [false, true] {
        for wait in [0, 7, 19, 33, 61] {
            let world = World::new(&["a", "b"]);
            let store = World::new(&["a", "b"]);
            let (script, is_restored) = restored(&world, &store, false);
            let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
            let mut consumer = Consumer::of(source.clone());
            consumer.until("connected").await;
            // The restore takes this back.
            if deleted {
                world.delete("b");
                consumer.until("delete b").await;
            } else {
                world.set("c", "n1");
                consumer.until("apply c=n1").await;
            }
            consumer.run(seconds(wait)).await;
            is_restored.store(true, Ordering::Relaxed);
            let back = Instant::now();
            consumer.until("Refused").await;
            assert!(consumer.told().last().unwrap().contains("restart the API server"));
            assert!(back.elapsed() <= seconds(60), "{:?} after {wait}", back.elapsed());
            assert_eq!(consumer.counts().rv_regressions(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn k19_one_source_of_a_cluster_looks_for_all() {
    let worlds: Vec<_> = (0..9).map(|_| World::new(&[])).collect();
    for (n, world) in worlds.iter().enumerate() {
        world.move_on(10 + n as u64);
        world.set(&format!("o{n}"), "n0");
    }
    let script = Script::new(move |asked| {
        let number = asked.parameter("labelSelector").or_else(|| asked.name().strip_prefix('o'));
        worlds[number.unwrap().parse::<usize>().unwrap()].answer(asked)
    });
    let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
    let mut consumers: Vec<_> =
        (0..9).map(|n| Consumer::of(source.clone().labelled(&n.to_string()))).collect();
    for consumer in &mut consumers {
        consumer.until("connected").await;
    }
    for _ in 0..360 {
        for consumer in &mut consumers {
            consumer.run(Duration::ZERO).await;
        }
        tokio::time::sleep(seconds(10)).await;
    }
    let looks = script.asked_for(For::Object);
    let of_latest = looks.iter().filter(|asked| asked.name() == "o8").count();
    assert!((140..=185).contains(&of_latest), "{of_latest} looks at the latest change in an hour");
    let others = looks.len() - of_latest;
    assert!((8 * 6..=8 * 13).contains(&others), "{others} looks at others in an hour");
}
